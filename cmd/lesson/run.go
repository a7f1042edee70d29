//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/signal"

	"golang.org/x/sys/unix"

	"lesson/internal/report"
)

// untilSignal is a context that ends with SIGINT or SIGTERM. A second signal
// ends the program at once.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// statusLine is a line of a terminal that says how far something has come: show
// writes it anew, cut where the terminal ends, and wipe takes it away. Where w is no
// terminal, shown is false, and neither does anything.
func statusLine(w io.Writer) (show func(format string, args ...any), wipe func(), shown bool) {
	width := report.Width(w)
	if width == 0 {
		return func(string, ...any) {}, func() {}, false
	}
	const anew = "\r\x1b[K"
	show = func(format string, args ...any) {
		line := []rune(fmt.Sprintf(format, args...))
		fmt.Fprint(w, anew+string(line[:min(len(line), width-1)]))
	}
	return show, func() { fmt.Fprint(w, anew) }, true
}

// hostPort understands an address of a server that somebody is to reach. what is how it
// was given: "--addr".
func hostPort(what, text string) (netip.AddrPort, error) {
	addr, err := net.ResolveTCPAddr("tcp", text)
	if err != nil || addr.IP == nil {
		return netip.AddrPort{}, usageError{fmt.Errorf(
			"bad address %q; give %s as host:port, as in 127.0.0.1:8080", text, what)}
	}
	return netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port()), nil
}
