//go:build !linux

// Command lesson needs Linux, but for its tour: epoll is a system call of Linux alone.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"lesson/internal/site"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := site.Elsewhere(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "lesson:", err)
		os.Exit(1)
	}
}
