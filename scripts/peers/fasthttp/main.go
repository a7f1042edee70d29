// Command fasthttp is github.com/valyala/fasthttp, which closes after each answer.
package main

import (
	"log"
	"os"

	"github.com/valyala/fasthttp"
)

func main() {
	server := fasthttp.Server{
		DisableKeepalive: true,
		Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.SetContentType("text/plain")
			ctx.SetBodyString("Hello, world!")
		},
	}
	log.Fatal(server.ListenAndServe(os.Args[1]))
}
