//go:build ignore

// The beginning of a server: it reads once, and closes every connection unanswered. Copy
// it, and run it as one file: go run my_server.go 127.0.0.1:8080.
package main

import (
	"log"
	"net"
	"os"
)

func main() {
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		if _, err := connection.Read(make([]byte, 4096)); err != nil {
			log.Print(err)
		}
		// Stage 1: send the answer.
		connection.Close()
	}
}
