//go:build linux

package check

import (
	"net/netip"
	"slices"
	"strings"

	"lesson/internal/child"
	"lesson/internal/lesson"
	lessons "lesson/internal/server"
)

// backEndMark is what a proxy's command has in the place of its back end's address.
const backEndMark = "{backend}"

// takesBackEnd reports whether the target is a proxy: its command names a back end.
func (target Target) takesBackEnd() bool {
	return slices.ContainsFunc(target.Command, func(arg string) bool {
		return strings.Contains(arg, backEndMark)
	})
}

// A backEnd is the server that a proxy passes its clients to: one of the lessons, in this
// process. While it does not run, its port refuses connections.
type backEnd struct {
	addr  netip.AddrPort
	runs  lesson.Server // nil if none does
	ended chan error    // what Serve has returned
}

// newBackEnd starts a back end for one instance of the target. It is nil if the target takes
// none.
func (target Target) newBackEnd() (*backEnd, error) {
	if !target.takesBackEnd() {
		return nil, nil
	}
	port, err := child.FreePort()
	if err != nil {
		return nil, err
	}
	b := &backEnd{addr: netip.AddrPortFrom(loopback, port)}
	return b, b.start()
}

// address returns what takes the place of {backend}.
func (b *backEnd) address() string {
	if b == nil {
		return backEndMark
	}
	return b.addr.String()
}

// start lets it answer, at the address that it has always had.
func (b *backEnd) start() error {
	l, err := lesson.Find("netpoll")
	if err != nil {
		return err
	}
	s, err := l.Start(l.Kernel(), lessons.Options{Addr: b.addr, Backlog: 4096, Timeout: elsewhere})
	if err != nil {
		return err
	}
	b.runs, b.ended = s, make(chan error, 1)
	go func() { b.ended <- s.Serve() }()
	return nil
}

// end ends it, if it runs. Its port refuses connections from then on.
func (b *backEnd) end() error {
	if b == nil || b.runs == nil {
		return nil
	}
	b.runs.Stop()
	b.runs = nil
	return <-b.ended
}
