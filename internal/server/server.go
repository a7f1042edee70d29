//go:build linux

// Package server provides what every lesson's server needs besides its own way
// of waiting: options, a listener, counters, the printing of requests, deadlines
// and a way to stop. None of it waits for a client.
package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/protocol"
)

// Options configure a server.
type Options struct {
	Addr     netip.AddrPort // where to listen; port 0 lets the kernel choose
	Backlog  int            // length of the accept queue; at most net.core.somaxconn
	Timeout  time.Duration  // from accept to a complete request; 0 means forever
	MaxConns int            // threaded only: connections, and so threads, at a time
	Requests io.Writer      // where to print requests; nil for nowhere

	NoDelay     bool // TCP_NODELAY: send small segments at once
	Cork        bool // TCP_CORK around the response: hold partial segments back
	DeferAccept bool // TCP_DEFER_ACCEPT: no accept before the client has sent something
	ReusePort   bool // SO_REUSEPORT: several listeners share the address
}

// deferTime is the TCP_DEFER_ACCEPT time, in seconds: how long the kernel waits
// for the first byte of a connection before it queues the connection anyway.
const deferTime = 5

// Stats counts clients by how they ended. It is safe to read while the server
// runs.
type Stats struct {
	Accepted atomic.Int64 // connections taken from the accept queue
	Served   atomic.Int64 // were sent the whole response
	Refused  atomic.Int64 // sent more than protocol.MaxRequest bytes, or could not be watched
	TimedOut atomic.Int64 // did not complete a request in time
	Left     atomic.Int64 // closed before their request was complete
	Reset    atomic.Int64 // reset the connection
}

// A Base holds what the servers of all lessons share. Each of them embeds it.
type Base struct {
	Kernel   kernel.Kernel
	Options  Options
	Listener int // its descriptor
	Stats    *Stats
	Stopped  chan struct{} // closed by Stop

	addr netip.AddrPort

	mu      sync.Mutex
	open    bool         // the listener is open
	waiting map[int]bool // see Waiting

	printing sync.Mutex
	page     []byte // the last request printed
}

// New returns a Base without a listener.
func New(k kernel.Kernel, options Options) *Base {
	return &Base{
		Kernel:   k,
		Options:  options,
		Listener: -1,
		Stats:    new(Stats),
		Stopped:  make(chan struct{}),
		waiting:  make(map[int]bool),
	}
}

// Listen returns a Base with a listener: socket, setsockopt, bind, listen. flags
// is unix.SOCK_NONBLOCK, or 0 for a listener on which accept blocks.
func Listen(k kernel.Kernel, options Options, flags int) (*Base, error) {
	b := New(k, options)
	fd, err := k.Socket(kernel.Family(options.Addr.Addr()), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := b.listen(fd); err != nil {
		return nil, errors.Join(err, k.Close(fd))
	}
	b.Listener, b.open = fd, true
	return b, nil
}

func (b *Base) listen(fd int) error {
	if err := b.SetListenerOptions(fd); err != nil {
		return err
	}
	if err := b.Kernel.Bind(fd, b.Options.Addr); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := b.Kernel.Listen(fd, b.Options.Backlog); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	addr, err := b.Kernel.Getsockname(fd) // port 0 has become a real one
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	b.addr = addr
	return nil
}

// SetListenerOptions sets the socket options that b.Options asks for.
// Connections inherit them from the listener, so one call serves all clients.
func (b *Base) SetListenerOptions(fd int) error {
	options := []struct {
		wanted      bool
		level, name int
		value       int
		called      string
	}{
		// Without this, connections of an earlier run that are still in
		// TIME_WAIT keep the port for a minute.
		{true, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR"},
		{b.Options.ReusePort, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"},
		{b.Options.NoDelay, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"},
		{b.Options.DeferAccept, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferTime, "TCP_DEFER_ACCEPT"},
	}
	for _, o := range options {
		if !o.wanted {
			continue
		}
		if err := b.Kernel.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("setsockopt %s: %w", o.called, err)
		}
	}
	return nil
}

// Addr returns where the server listens.
func (b *Base) Addr() netip.AddrPort { return b.addr }

// Counts returns the server's Stats.
func (b *Base) Counts() *Stats { return b.Stats }

// Stop asks the server to end: it accepts no more clients, answers complete
// requests, and closes the rest. Stop may be called from any goroutine, more than
// once, and returns at once; Serve returns when everything is done.
//
// Stop shuts the listener down, which reaches the server wherever it waits: a
// blocked accept4 returns EINVAL, and epoll reports EPOLLHUP. (Linux does this,
// POSIX does not promise it: inet_shutdown in net/ipv4/af_inet.c.)
func (b *Base) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Stopping() {
		return
	}
	close(b.Stopped)
	if b.open {
		b.shutdownRead(b.Listener)
	}
	for fd := range b.waiting {
		b.shutdownRead(fd)
	}
}

// shutdownRead ends a read that blocks on fd. It fails only if the peer is gone
// (ENOTCONN), and then no read is blocked.
func (b *Base) shutdownRead(fd int) { _ = b.Kernel.Shutdown(fd, unix.SHUT_RD) }

// Stopping reports whether Stop has been called.
func (b *Base) Stopping() bool {
	select {
	case <-b.Stopped:
		return true
	default:
		return false
	}
}

// CloseListener closes the listener, once. It holds the same lock as Stop, so Stop never
// shuts down a descriptor number that has been closed and now belongs to another socket.
func (b *Base) CloseListener() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		b.open = false
		_ = b.Kernel.Close(b.Listener) // Linux closes it whatever close returns
	}
}

// Waiting announces that a thread is about to block in read for the request on
// fd. Stop then ends that read, as if the client had closed. Call NotWaiting
// before closing fd.
func (b *Base) Waiting(fd int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting[fd] = true
	if b.Stopping() {
		b.shutdownRead(fd)
	}
}

// NotWaiting undoes Waiting: from now on Stop does not touch fd.
func (b *Base) NotWaiting(fd int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiting, fd)
}

var dashes = bytes.Repeat([]byte("-"), 40)

// Print prints a request after a line of dashes, escaped, in one write. It blocks
// while the terminal does not read. Real servers avoid this shortcut: they pass
// their log to another thread or process.
func (b *Base) Print(request []byte) {
	if b.Options.Requests == nil {
		return
	}
	b.printing.Lock()
	defer b.printing.Unlock()
	b.page = append(append(b.page[:0], dashes...), '\n')
	b.page = protocol.AppendPrintable(b.page, request)
	// An error does not matter: the request is answered even if it was not printed.
	_, _ = b.Options.Requests.Write(b.page)
}
