//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/signal"

	"lesson/internal/child"
	"lesson/internal/lesson"
)

// untilSignal returns a context that ends with one of lesson.EndSignals. A second signal
// ends the program at once.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), lesson.EndSignals()...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// hostPort parses the address of a server to connect to. what names the flag or the
// argument in an error: "--addr".
func hostPort(what, text string) (netip.AddrPort, error) {
	addr, err := net.ResolveTCPAddr("tcp", text)
	if err != nil || addr.IP == nil {
		return netip.AddrPort{}, usageError{fmt.Errorf(
			"bad address %q; give %s as host:port, as in 127.0.0.1:8080", text, what)}
	}
	return netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port()), nil
}

// also returns the programs of --also.
func also(texts []string) ([]child.Program, error) {
	var programs []child.Program
	for _, text := range texts {
		program, err := child.Named(text)
		if err != nil {
			return nil, fmt.Errorf("--also: %w", err)
		}
		programs = append(programs, program)
	}
	return programs, nil
}
