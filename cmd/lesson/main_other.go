//go:build !linux

// Command lesson needs Linux: epoll is a system call of Linux alone.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "lesson: epoll needs Linux; with Docker, run: "+
		"docker run -it --rm -v .:/lesson -w /lesson golang go run ./cmd/lesson list")
	os.Exit(1)
}
