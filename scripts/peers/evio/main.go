// Command evio is the lessons' server on github.com/tidwall/evio: one event loop on
// epoll, and functions that return what is to be sent.
package main

import (
	"log"
	"os"

	"github.com/tidwall/evio"

	"lesson/internal/protocol"
)

func main() {
	var events evio.Events
	events.Opened = func(c evio.Conn) ([]byte, evio.Options, evio.Action) {
		c.SetContext(new(protocol.Request))
		return nil, evio.Options{}, evio.None
	}
	events.Data = func(c evio.Conn, p []byte) ([]byte, evio.Action) {
		switch c.Context().(*protocol.Request).Add(p) {
		case protocol.Complete:
			return protocol.Response, evio.Close
		case protocol.Oversize:
			return protocol.TooLarge, evio.Close
		}
		return nil, evio.None
	}
	log.Fatal(evio.Serve(events, "tcp://"+os.Args[1]))
}
