//go:build linux

package demo

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

var handover = Demo{
	Name:    "handover",
	Title:   "three ways to replace a server while clients are in its accept queue",
	Chapter: "docs/11-many-cores-and-machines.md",
	Run:     runHandover,
}

const handoverClients = 20

// A HandedOver is what became of clients that were in the accept queue of a server when
// another one took its place.
type HandedOver struct {
	How     string `json:"how"`
	Clients int    `json:"clients"`
	Served  int    `json:"served"` // by the new server
	Reset   int    `json:"reset"`
	// Meanwhile is what connect returns to a client that comes when the old listener is
	// closed: "connected", or an error.
	Meanwhile string `json:"meanwhile"`
}

// ways are the experiment, line by line. Each returns the new listener, and closes the
// old one; gap is called when it is closed, and before the new server accepts.
var ways = []struct {
	how       string
	reusePort bool
	replace   func(old int, addr netip.AddrPort, gap func()) (int, error)
}{
	{"close, then listen again", false, func(old int, addr netip.AddrPort, gap func()) (int, error) {
		closeAll(old)
		gap()
		return listenAgain(addr, unix.SO_REUSEADDR)
	}},
	{"listen with SO_REUSEPORT, then close", true, func(old int, addr netip.AddrPort, gap func()) (int, error) {
		fd, err := listenAgain(addr, unix.SO_REUSEPORT)
		closeAll(old)
		gap()
		return fd, err
	}},
	{"pass the descriptor, then close", false, func(old int, _ netip.AddrPort, gap func()) (int, error) {
		fd, err := pass(old)
		closeAll(old)
		gap()
		return fd, err
	}},
}

func runHandover(ctx context.Context, o Options) (*Result, error) {
	var seen []HandedOver
	for _, way := range ways {
		o.say("%s", way.how)
		s := HandedOver{How: way.how, Clients: handoverClients}
		if err := s.observe(ctx, way.reusePort, way.replace); err != nil {
			return nil, fmt.Errorf("%s: %w", way.how, err)
		}
		seen = append(seen, s)
	}
	return handoverResult(seen), nil
}

// observe lets clients connect to the old server, which accepts none of them, and the
// new one serve those that it finds in its queue.
func (s *HandedOver) observe(
	ctx context.Context, reusePort bool, replace func(int, netip.AddrPort, func()) (int, error),
) error {
	old, err := newSocket()
	if err != nil {
		return err
	}
	if reusePort {
		err = unix.SetsockoptInt(old, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}
	var addr netip.AddrPort
	if err == nil {
		addr, err = listenOn(old, handoverClients)
	}
	var clients []int
	defer func() { closeAll(clients...) }()
	for len(clients) < handoverClients && err == nil {
		var fd int
		if fd, err = connectTo(addr, 0); err == nil {
			clients = append(clients, fd)
		}
	}
	if err == nil {
		err = until(ctx, patience, func() (bool, error) {
			info, err := tcpInfo(old)
			return err == nil && info.Unacked == handoverClients, err // of a listener, its queue
		})
	}
	if err != nil {
		closeAll(old)
		return err
	}

	fd, err := replace(old, addr, func() {
		late, err := connectTo(addr, 0)
		if err == nil {
			defer closeAll(late)
		}
		s.Meanwhile = "connected"
		if err != nil {
			s.Meanwhile = errorName(err)
		}
	})
	if err != nil {
		return err
	}
	defer closeAll(fd)
	if err := answerQueued(fd); err != nil {
		return err
	}
	for _, fd := range clients {
		n, err := unix.Read(fd, make([]byte, 16))
		switch {
		case n > 0:
			s.Served++
		case err == unix.ECONNRESET:
			s.Reset++
		default:
			return fmt.Errorf("a client read %s", outcome(n, err))
		}
	}
	return nil
}

// listenAgain makes a listener on an address, with a socket option set before bind.
func listenAgain(addr netip.AddrPort, option int) (int, error) {
	fd, err := newSocket()
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1)
	if err == nil {
		err = unix.Bind(fd, sockaddr(addr))
	}
	if err == nil {
		err = unix.Listen(fd, handoverClients)
	}
	if err != nil {
		closeAll(fd)
		return -1, fmt.Errorf("listen again: %w", err)
	}
	return fd, nil
}

// pass sends a descriptor through a Unix domain socket and receives it again, as two
// processes do: unix(7), SCM_RIGHTS. The new descriptor refers to the same listener, and
// so to the same accept queue.
func pass(fd int) (int, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	defer closeAll(ends[0], ends[1])
	if err := unix.Sendmsg(ends[0], []byte{0}, unix.UnixRights(fd), nil, 0); err != nil {
		return -1, fmt.Errorf("sendmsg: %w", err)
	}
	control := make([]byte, unix.CmsgSpace(4)) // one descriptor
	_, n, _, _, err := unix.Recvmsg(ends[1], make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("recvmsg: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("%d control messages, not 1: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors, not 1: %w", len(fds), err)
	}
	return fds[0], nil
}

func handoverResult(seen []HandedOver) *Result {
	table := Table{
		Title: "A server is replaced while clients are in its accept queue.",
		Head:  []string{"how", "clients", "served", "reset", "connect meanwhile"},
	}
	r := &Result{Demo: "handover", Data: seen}
	for _, s := range seen {
		table.Rows = append(table.Rows, []string{
			s.How, fmt.Sprint(s.Clients), fmt.Sprint(s.Served), fmt.Sprint(s.Reset), s.Meanwhile,
		})
	}
	r.Tables = []Table{table}
	for _, s := range seen {
		if s.Reset == 0 {
			r.Sentences = append(r.Sentences, fmt.Sprintf("%s: the new descriptor refers to the same"+
				" listener, and so to the same accept queue. All %d clients were served.", s.How, s.Served))
			continue
		}
		r.Sentences = append(r.Sentences, fmt.Sprintf("%s: the accept queue ended with its listener,"+
			" and %d clients that were connected were reset.", s.How, s.Reset))
	}
	return r
}
