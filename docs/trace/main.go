// Command trace is the server that docs/trace.md watches: on package net, a
// goroutine for each client, which sends back what it gets.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func main() {
	l, err := net.Listen("tcp4", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go echo(c)
	}
}

func echo(c net.Conn) {
	_, _ = io.Copy(c, c) // until either side ends: there is nothing else to do
	_ = c.Close()
}
