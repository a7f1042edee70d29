// Command nethttp is package net/http, which closes after each answer.
package main

import (
	"log"
	"net/http"
	"os"
)

func main() {
	hello := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("Hello, world!")) // a client that is gone is none of its business
	}
	server := http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(hello)}
	server.SetKeepAlivesEnabled(false)
	log.Fatal(server.ListenAndServe())
}
