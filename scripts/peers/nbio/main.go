// Command nbio is the lessons' server on github.com/lesismal/nbio: pollers on epoll,
// and functions that are called with what was read.
package main

import (
	"log"
	"os"

	"github.com/lesismal/nbio"
	"github.com/lesismal/nbio/logging"

	"lesson/internal/protocol"
)

func main() {
	logging.SetLevel(logging.LevelError)
	engine := nbio.NewEngine(nbio.Config{Network: "tcp", Addrs: []string{os.Args[1]}, NPoller: 1})
	engine.OnOpen(func(c *nbio.Conn) { c.SetSession(new(protocol.Request)) })
	engine.OnData(func(c *nbio.Conn, p []byte) {
		switch c.Session().(*protocol.Request).Add(p) {
		case protocol.Incomplete:
			return
		case protocol.Complete:
			_, _ = c.Write(protocol.Response) // it closes in any case
		case protocol.Oversize:
			_, _ = c.Write(protocol.TooLarge)
		}
		_ = c.Close()
	})
	if err := engine.Start(); err != nil {
		log.Fatal(err)
	}
	select {}
}
