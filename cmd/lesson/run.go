//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/signal"

	"github.com/spf13/cobra"

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

// hostPort parses an address, for commands that look at a server: a bad one is a usage error.
// For a server of ours, B14 has another exit status. what names the flag or the argument in an
// error: "--addr".
func hostPort(what, text string) (netip.AddrPort, error) {
	addr, err := lesson.ParseAddr(what, text)
	if err != nil {
		return addr, usageError{err}
	}
	return addr, nil
}

// serverAt parses the address of a server to connect to: no host is this machine.
func serverAt(what, text string) (netip.AddrPort, error) {
	addr, err := hostPort(what, text)
	switch {
	case err != nil || !addr.Addr().IsUnspecified():
		return addr, err
	case addr.Addr().Is6():
		return netip.AddrPortFrom(netip.IPv6Loopback(), addr.Port()), nil
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), addr.Port()), nil
}

// noLessons reports whether --only leaves out all lessons.
func noLessons(only []string) bool { return len(only) == 1 && only[0] == "none" }

// addAlso adds the flag for servers that are measured beside the lessons.
func addAlso(cmd *cobra.Command, texts *[]string) {
	cmd.Flags().StringArrayVar(texts, "also", nil,
		"also measure this server: `'NAME=COMMAND'`, a command for sh, in which {addr} or {port}"+
			" is replaced; may be repeated")
}

// also returns the programs of --also. There must be one if --only leaves out all lessons.
func also(only, texts []string) ([]child.Program, error) {
	if noLessons(only) && len(texts) == 0 {
		return nil, errors.New("--only none leaves no server to measure; name one, as in:" +
			" --also 'mine=python3 server.py {port}'")
	}
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
