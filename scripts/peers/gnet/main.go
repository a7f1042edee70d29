// Command gnet is the lessons' server on github.com/panjf2000/gnet: event loops on
// epoll, and a function that is called when there is something to read.
package main

import (
	"log"
	"os"

	"github.com/panjf2000/gnet/v2"

	"lesson/internal/protocol"
)

type server struct{ gnet.BuiltinEventEngine }

func (*server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(new(protocol.Request))
	return nil, gnet.None
}

func (*server) OnTraffic(c gnet.Conn) gnet.Action {
	p, err := c.Next(-1)
	if err != nil {
		return gnet.Close
	}
	switch c.Context().(*protocol.Request).Add(p) {
	case protocol.Incomplete:
		return gnet.None
	case protocol.Complete:
		_, _ = c.Write(protocol.Response) // it closes in any case
	case protocol.Oversize:
		_, _ = c.Write(protocol.TooLarge)
	}
	return gnet.Close
}

func main() {
	log.Fatal(gnet.Run(new(server), "tcp://"+os.Args[1]))
}
