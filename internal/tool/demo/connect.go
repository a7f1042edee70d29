//go:build linux

package demo

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/sockets"
)

var connect = Demo{
	Name:    "connect",
	Title:   "a connect that does not block: established, refused, and without an answer",
	Chapter: "docs/07-when-clients-misbehave.md",
	Run:     runConnect,
}

// An attempt is one connect on a non-blocking socket, and what the kernel reports of it.
type attempt struct {
	To      string `json:"to"`
	Connect string `json:"connect"` // what the call returned
	Events  string `json:"events"`  // what epoll_wait reported in time
	// Error and Again are SO_ERROR, read twice.
	Error string `json:"so_error"`
	Again string `json:"so_error_again"`
}

// connectWindow is how long an event is waited for that is not to come.
const connectWindow = 300 * time.Millisecond

func runConnect(ctx context.Context, o Options) (*Result, error) {
	var seen []attempt
	for _, d := range []struct {
		what   string
		within time.Duration // for an event
		listen func() (fds []int, to *unix.SockaddrInet4, err error)
	}{
		{"a server", patience, func() ([]int, *unix.SockaddrInet4, error) { return bound(16) }},
		{"no server", patience, func() ([]int, *unix.SockaddrInet4, error) { return bound(none) }},
		{"a server with a full queue", connectWindow, func() ([]int, *unix.SockaddrInet4, error) {
			return fullQueue(ctx)
		}},
	} {
		if ctx.Err() != nil {
			break
		}
		o.say("%s", d.what)
		fds, to, err := d.listen()
		a := attempt{To: d.what}
		if err == nil {
			err = a.make(to, d.within)
		}
		closeAll(fds...)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.what, err)
		}
		seen = append(seen, a)
	}
	if len(seen) == 0 {
		return nil, ctx.Err()
	}
	return connectResult(seen), ctx.Err()
}

// none is a backlog: the socket does not listen at all.
const none = -1

// bound returns a socket with a port of 127.0.0.1, which listens if backlog is not none.
func bound(backlog int) (fds []int, to *unix.SockaddrInet4, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	fds = []int{fd}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fds, nil, err
	}
	if backlog != none {
		if err := unix.Listen(fd, backlog); err != nil {
			return fds, nil, err
		}
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fds, nil, err
	}
	return fds, name.(*unix.SockaddrInet4), nil
}

// fullQueue returns a listener, and a connection that fills its accept queue: the kernel
// ignores the SYN of the next client.
func fullQueue(ctx context.Context) (fds []int, to *unix.SockaddrInet4, err error) {
	fds, to, err = bound(0)
	if err != nil {
		return fds, to, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fds, to, err
	}
	fds = append(fds, fd)
	if err := unix.Connect(fd, to); err != nil {
		return fds, to, err
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4(to.Addr), uint16(to.Port))
	return fds, to, until(ctx, patience, func() (bool, error) {
		listeners, err := sockets.ListenersAt(addr)
		return len(listeners) > 0 && listeners[0].Unread > 0, err
	})
}

// make connects, asks epoll for EPOLLOUT, and then the socket for its error.
func (a *attempt) make(to unix.Sockaddr, within time.Duration) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeAll(fd)
	a.Connect = endOf(unix.Connect(fd, to))
	list, err := watchOne(fd, unix.EPOLLOUT)
	if err != nil {
		return err
	}
	defer closeAll(list)
	events, err := readyWithin(list, within)
	if err != nil {
		return err
	}
	a.Events = eventNames(events)
	for _, into := range []*string{&a.Error, &a.Again} {
		errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			return err
		}
		*into = "0"
		if errno != 0 {
			*into = errorName(unix.Errno(errno))
		}
	}
	return nil
}

// endOf names what a call has returned.
func endOf(err error) string {
	if err == nil {
		return "0"
	}
	return errorName(err)
}

// readyWithin waits for an event of an interest list with one entry. It returns 0 if none
// has come in time.
func readyWithin(list int, within time.Duration) (events uint32, err error) {
	for until := time.Now().Add(within); events == 0 && time.Now().Before(until); {
		if events, err = ready(list); err != nil {
			return 0, err
		}
		time.Sleep(time.Millisecond)
	}
	return events, nil
}

func connectResult(seen []attempt) *Result {
	table := Table{
		Title: "connect on a non-blocking socket, and then epoll_wait for EPOLLOUT.",
		Head:  []string{"to", "connect", "epoll_wait", "SO_ERROR", "again"},
	}
	reported, failed, silent := 0, 0, 0
	for _, a := range seen {
		switch {
		case a.Events == "":
			silent++
		case a.Error != "0":
			failed++
			fallthrough
		default:
			reported++
		}
		events := cmp.Or(a.Events, "nothing")
		table.Rows = append(table.Rows, []string{a.To, a.Connect, events, a.Error, a.Again})
	}
	return &Result{
		Demo:   "connect",
		Tables: []Table{table},
		Sentences: []string{
			fmt.Sprintf("EPOLLOUT was reported for %d of %d attempts, and %d of those had failed:"+
				" EPOLLOUT does not show that. SO_ERROR does, and reading SO_ERROR clears it.",
				reported, len(seen), failed),
			fmt.Sprintf("For %d, nothing was reported within %v: only a deadline of the program's own ends"+
				" this wait early.", silent, connectWindow),
		},
		Data: seen,
	}
}
