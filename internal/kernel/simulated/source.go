package simulated

import "embed"

// Sources is the package's source: a program that is explored is built with it.
//
//go:embed kernel.go socket.go epoll.go client.go state.go hash.go goroutines.go eventfd.go
var Sources embed.FS
