//go:build linux

package crowd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/proc"
)

// Spread bounds the connections that leave from one of our addresses. The kernel has
// an ephemeral port for each connection between two addresses and a port: with the
// usual range 28,232. Far below that it finds a free one at once.
const Spread = 10_000

// AnswerWithin is how long a connection may take to be established: longer than the
// second after which the kernel sends a SYN again that has been dropped.
const AnswerWithin = 2500 * time.Millisecond

// ErrNoAnswer says that the server's kernel has let a SYN go by, and the next one a
// second later: its accept queue is full.
var ErrNoAnswer = fmt.Errorf("no answer within %v: the accept queue is full", AnswerWithin)

// Silent is connections that say nothing. However the process ends, they end with
// a reset, so that no port is left in TIME_WAIT.
type Silent struct {
	to    netip.AddrPort
	first int // the number of the first connection, for its address
	fds   []int
}

// NewSilent returns a crowd without a client. first is how many connections other
// crowds hold to the same server, so that they use other addresses.
func NewSilent(to netip.AddrPort, first int) *Silent { return &Silent{to: to, first: first} }

// Held is how many there are.
func (s *Silent) Held() int { return len(s.fds) }

// Grow connects one after the other until there are n. An error says why there are
// fewer.
func (s *Silent) Grow(ctx context.Context, n int) error {
	for len(s.fds) < n {
		if err := ctx.Err(); err != nil {
			return err
		}
		fd, err := s.connect()
		if err != nil {
			return fmt.Errorf("connection %d: %w", len(s.fds)+1, err)
		}
		s.fds = append(s.fds, fd)
	}
	return nil
}

// Reset ends them all.
func (s *Silent) Reset() error {
	var err error
	for _, fd := range s.fds {
		err = errors.Join(err, unix.Close(fd))
	}
	s.fds = nil
	return err
}

// connect makes no use of package net, which would keep some kB for each
// connection, so that a crowd does not take the memory of the machine on this side.
func (s *Silent) connect() (int, error) {
	to, err := kernel.Sockaddr(s.to)
	if err != nil {
		return 0, fmt.Errorf("address %v: %w", s.to, err)
	}
	fd, err := unix.Socket(kernel.Family(s.to.Addr()), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if err := s.prepare(fd); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS && err != unix.EINTR {
		return 0, errors.Join(fmt.Errorf("connect: %w", err), unix.Close(fd))
	}
	if err := awaitEstablished(fd); err != nil {
		return 0, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

func (s *Silent) prepare(fd int) error {
	reset := unix.Linger{Onoff: 1, Linger: 0} // close sends a reset: socket(7)
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &reset); err != nil {
		return fmt.Errorf("SO_LINGER: %w", err)
	}
	if !s.to.Addr().Is4() || !s.to.Addr().IsLoopback() {
		return nil // there, we have the one address that the kernel chooses
	}
	// The kernel is to choose the port in connect, when it knows the other end:
	// ip(7). In bind it would look for one that is free whatever the other end is.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	from := proc.Source((s.first + len(s.fds)) / Spread)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
		return fmt.Errorf("bind to %v: %w", from, err)
	}
	return nil
}

func awaitEstablished(fd int) error {
	began := time.Now()
	for {
		left := AnswerWithin - time.Since(began)
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(poll, int(max(0, left).Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0:
			return ErrNoAnswer
		default:
			failed, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
			if err == nil && failed != 0 {
				err = unix.Errno(failed)
			}
			if err != nil {
				return fmt.Errorf("connect: %w", err)
			}
			return nil
		}
	}
}

// Held is the answer of a crowd in another process that was asked to grow.
type Held struct {
	Held    int           `json:"held"`
	Took    time.Duration `json:"took_ns"`
	Stopped string        `json:"stopped,omitempty"` // why there are no more
}

// Hold runs the crowd as a program. It connects n clients, and then as many as each
// line of in asks for, until in or ctx ends. It calls report each time they are
// connected.
func Hold(ctx context.Context, s *Silent, n int, in io.Reader, report func(Held) error) error {
	numbers := make(chan int)
	bad := make(chan error, 1)
	go func() { // ends with in, or with the program
		defer close(numbers)
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			line := strings.TrimSpace(lines.Text())
			if line == "" {
				continue // Enter alone
			}
			n, err := strconv.Atoi(line)
			if err != nil {
				bad <- fmt.Errorf("not a number of connections: %q", lines.Text())
				return
			}
			select {
			case numbers <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	for more := true; more; {
		began := time.Now()
		grown := s.Grow(ctx, n)
		held := Held{Held: s.Held(), Took: time.Since(began)}
		if grown != nil {
			held.Stopped = grown.Error()
		}
		if err := report(held); err != nil {
			return errors.Join(err, s.Reset())
		}
		select {
		case n, more = <-numbers:
		case <-ctx.Done():
			more = false
		}
	}
	err := s.Reset()
	select {
	case wrong := <-bad:
		err = errors.Join(wrong, err)
	default:
	}
	return err
}

// Told is a report for Hold that writes JSON, a line each.
func Told(out io.Writer) func(Held) error {
	encoder := json.NewEncoder(out)
	return func(held Held) error { return encoder.Encode(held) }
}

// Said is a report for Hold that people read.
func Said(out io.Writer) func(Held) error {
	return func(held Held) error {
		text := strconv.Itoa(held.Held)
		if held.Stopped != "" {
			text += "; the next failed: " + held.Stopped
		}
		_, err := fmt.Fprintln(out, text)
		return err
	}
}
