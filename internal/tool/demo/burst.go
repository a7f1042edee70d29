//go:build linux

package demo

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/protocol"
)

// A burst is clients that connect to one server at the same time, each to send a
// request and read the answer. One goroutine plays them all.
type burst struct {
	server  netip.AddrPort
	clients []*burstClient
	began   time.Time
	timed   bool // take the time of every SYN that is sent again
}

// A burstClient is one of them. Times are counted from the burst's beginning.
type burstClient struct {
	fd         int
	local      netip.AddrPort
	connected  time.Duration // 0 until then
	answered   time.Duration
	synRetries uint32          // how often the SYN was sent again
	retries    []time.Duration // when; only in a burst that is timed
}

// burstPatience is the most that a client waits for its answer.
const burstPatience = 16 * time.Second

func newBurst(server netip.AddrPort, size int) (*burst, error) {
	b := &burst{server: server}
	for range size {
		fd, err := newSocket()
		if err != nil {
			b.close()
			return nil, err
		}
		b.clients = append(b.clients, &burstClient{fd: fd})
	}
	return b, nil
}

func (b *burst) close() {
	for _, c := range b.clients {
		closeAll(c.fd)
	}
}

func (b *burst) age() time.Duration { return time.Since(b.began) }

// connect lets every client send its SYN. On loopback the server's kernel has
// seen it, and has answered or not, before the call returns.
func (b *burst) connect() error {
	b.began = time.Now()
	for _, c := range b.clients {
		if err := startConnecting(c.fd, b.server); err != nil {
			return err
		}
		var err error
		if c.local, err = localAddr(c.fd); err != nil {
			return err
		}
	}
	return nil
}

func (b *burst) allAnswered() bool {
	for _, c := range b.clients {
		if c.answered == 0 {
			return false
		}
	}
	return true
}

// step is how often a burst looks at the clients that wait, and so how exact the
// times of their retries are.
const step = 2 * time.Millisecond

// run continues with every client until done says so.
func (b *burst) run(ctx context.Context, done func() bool) error {
	for !done() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.age() > burstPatience {
			return errTooLong
		}
		waiting, fds := b.waiting()
		if _, err := unix.Poll(fds, int(step.Milliseconds())); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		for i, c := range waiting {
			if err := b.advance(c, fds[i].Revents); err != nil {
				return err
			}
		}
	}
	return nil
}

// waiting is the clients that have no answer yet, and what each waits for.
func (b *burst) waiting() ([]*burstClient, []unix.PollFd) {
	var waiting []*burstClient
	var fds []unix.PollFd
	for _, c := range b.clients {
		if c.answered > 0 {
			continue
		}
		events := int16(unix.POLLIN)
		if c.connected == 0 {
			events = unix.POLLOUT
		}
		waiting = append(waiting, c)
		fds = append(fds, unix.PollFd{Fd: int32(c.fd), Events: events})
	}
	return waiting, fds
}

func (b *burst) advance(c *burstClient, events int16) error {
	switch {
	case c.connected == 0:
		return b.advanceConnecting(c, events)
	case events != 0:
		return b.advanceReading(c)
	}
	return nil
}

func (b *burst) advanceConnecting(c *burstClient, events int16) error {
	if events == 0 && !b.timed {
		return nil
	}
	before := c.synRetries
	if err := c.countRetries(); err != nil {
		return err
	}
	if b.timed && c.synRetries > before {
		c.retries = append(c.retries, b.age())
	}
	if events == 0 {
		return nil
	}
	code, err := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("getsockopt SO_ERROR: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("connect: %w", unix.Errno(code))
	}
	c.connected = b.age()
	if _, err := unix.Write(c.fd, []byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// countRetries counts how often the SYN was sent again. What is sent again once the
// client is connected is no SYN.
func (c *burstClient) countRetries() error {
	if c.connected > 0 {
		return nil
	}
	info, err := tcpInfo(c.fd)
	if err != nil {
		return err
	}
	c.synRetries = info.Total_retrans
	return nil
}

func (b *burst) advanceReading(c *burstClient) error {
	var buffer [512]byte
	n, err := unix.Read(c.fd, buffer[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case n != len(protocol.Response):
		return fmt.Errorf("an answer of %d bytes", n)
	}
	c.answered = b.age()
	return unix.Shutdown(c.fd, unix.SHUT_WR) // so that the server does not linger
}
