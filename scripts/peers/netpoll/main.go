// Command netpoll is the lessons' server on github.com/cloudwego/netpoll: pollers on
// epoll, and a goroutine of a pool for a connection that has something to read.
package main

import (
	"context"
	"log"
	"os"

	"github.com/cloudwego/netpoll"

	"lesson/internal/protocol"
)

// requestOf finds the request of a connection in its context.
type requestOf struct{}

func prepare(netpoll.Connection) context.Context {
	return context.WithValue(context.Background(), requestOf{}, new(protocol.Request))
}

func handle(ctx context.Context, c netpoll.Connection) error {
	p, err := c.Reader().Next(c.Reader().Len())
	if err != nil {
		return err
	}
	status := ctx.Value(requestOf{}).(*protocol.Request).Add(p)
	if err := c.Reader().Release(); err != nil || status == protocol.Incomplete {
		return err
	}
	response := protocol.Response
	if status == protocol.Oversize {
		response = protocol.TooLarge
	}
	if _, err := c.Writer().WriteBinary(response); err != nil {
		return err
	}
	if err := c.Writer().Flush(); err != nil {
		return err
	}
	return c.Close()
}

func main() {
	listener, err := netpoll.CreateListener("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	loop, err := netpoll.NewEventLoop(handle, netpoll.WithOnPrepare(prepare))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(loop.Serve(listener))
}
