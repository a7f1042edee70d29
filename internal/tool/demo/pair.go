//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/sockets"
)

// patience bounds every wait for something that the kernel must do. On loopback
// it takes microseconds; nothing that an experiment shows depends on it.
const patience = 10 * time.Second

// connectTo is a connection to addr, on a blocking socket. A receive buffer of 0
// bytes leaves its size to the kernel.
func connectTo(addr netip.AddrPort, receiveBuffer int) (int, error) {
	fd, err := newSocket()
	if err != nil {
		return -1, err
	}
	if receiveBuffer > 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	// A call that gets nothing must not block forever.
	limit := unix.NsecToTimeval(int64(patience))
	err = errors.Join(err,
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit))
	if err == nil {
		err = startConnecting(fd, addr)
	}
	if err == nil {
		err = connected(fd)
	}
	if err == nil {
		err = unix.SetNonblock(fd, false)
	}
	if err != nil {
		closeAll(fd)
		return -1, err
	}
	return fd, nil
}

// connected waits until a connection is made, and says why it is not.
func connected(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	err := retry(func() error {
		_, err := unix.Poll(fds, int(patience.Milliseconds()))
		return err
	})
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	failed, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return fmt.Errorf("getsockopt SO_ERROR: %w", err)
	case failed != 0:
		return fmt.Errorf("connect: %w", unix.Errno(failed))
	case fds[0].Revents == 0:
		return errTooLong
	}
	return nil
}

// retry makes a call again that a signal has interrupted: the Go runtime sends
// itself some (SIGURG).
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// A pair is both ends of one connection over loopback. The server's end does not
// block, the client's does. An end that has been closed is -1.
type pair struct {
	ctx            context.Context
	client, server int
}

// newPair connects the two. receiveBuffer is the client's, in bytes; 0 leaves it
// to the kernel.
func newPair(ctx context.Context, receiveBuffer int) (*pair, error) {
	listener, addr, err := newListener(1)
	if err != nil {
		return nil, err
	}
	defer closeAll(listener)
	p := &pair{ctx: ctx, server: -1}
	p.client, err = connectTo(addr, receiveBuffer)
	if err != nil {
		return nil, err
	}
	err = p.until(func() (bool, error) {
		p.server, _, err = unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == unix.EAGAIN || err == unix.EINTR {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		p.closeClient()
		return nil, err
	}
	return p, nil
}

func (p *pair) until(holds func() (bool, error)) error { return until(p.ctx, patience, holds) }

func (p *pair) closeServer() { p.server = closeOnce(p.server) }
func (p *pair) closeClient() { p.client = closeOnce(p.client) }

func closeOnce(fd int) int {
	if fd >= 0 {
		closeAll(fd)
	}
	return -1
}

func (p *pair) close() {
	p.closeServer()
	p.closeClient()
}

// resetClient makes the client's end a reset: SO_LINGER with time 0, then close.
func (p *pair) resetClient() error {
	at0 := unix.Linger{Onoff: 1, Linger: 0}
	err := unix.SetsockoptLinger(p.client, unix.SOL_SOCKET, unix.SO_LINGER, &at0)
	p.closeClient()
	return err
}

// tcpClosed is a connection that is over: sockets.State has no name for it.
const tcpClosed sockets.State = 7

// untilState waits until an end is in that state of TCP.
func (p *pair) untilState(fd int, want sockets.State) error {
	return p.until(func() (bool, error) {
		info, err := tcpInfo(fd)
		return err == nil && sockets.State(info.State) == want, err
	})
}

// untilUnread waits until so many bytes lie in the receive buffer.
func (p *pair) untilUnread(fd, want int) error {
	return p.until(func() (bool, error) {
		n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		return n >= want, err
	})
}

// outcome is what a call said: a number of bytes, or the name of an error.
func outcome(n int, err error) string {
	if err != nil {
		return errorName(err)
	}
	return fmt.Sprint(n)
}

func errorName(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// enumerate is names in a sentence.
func enumerate(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "; ")
}
