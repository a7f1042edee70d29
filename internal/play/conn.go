//go:build linux

package play

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Patience bounds Dial and Send, which are not given a time of their own.
const Patience = 10 * time.Second

// MaxAnswer bounds what ReadAll and ReadSlowly take from a server, in bytes.
const MaxAnswer = 1 << 20

// The ways a conversation can end besides end of file. Every method that sends or
// reads returns one of these where it applies; test for them with errors.Is.
var (
	ErrReset   = errors.New("the server reset the connection") // ECONNRESET, or EPIPE on sending
	ErrTimeout = errors.New("the server let the time run out")
	ErrTooMuch = fmt.Errorf("the server sent more than %d bytes", MaxAnswer)
)

// A Conn is the client's end of one connection to a server. Each Send leaves at once,
// in segments of its own, because package net always sets TCP_NODELAY.
//
// A Conn never waits forever. One goroutine may send while another reads, and a third
// may close it.
type Conn struct{ conn Socket }

// A Socket carries the bytes of a Conn: a *net.TCPConn, or the client's end of
// a connection to a simulated kernel, whose addresses are *net.TCPAddr as well.
type Socket interface {
	net.Conn
	CloseWrite() error
	SetLinger(seconds int) error
}

// Over returns a Conn that sends and reads through s.
func Over(s Socket) *Conn { return &Conn{s} }

// Dial connects to addr. It returns as soon as the server's kernel has put the
// connection into the accept queue; the server need not have accepted it.
func Dial(addr netip.AddrPort) (*Conn, error) {
	return dial(context.Background(), addr, nil)
}

// DialSmall connects like Dial, with the smallest receive buffer that Linux allows (2304
// bytes, socket(7)), so that a server cannot send far ahead of a slow reader. It is
// set before connecting, because the first segment already announces the window.
func DialSmall(addr netip.AddrPort) (*Conn, error) {
	return dial(context.Background(), addr, smallBuffer)
}

func smallBuffer(_, _ string, raw syscall.RawConn) error {
	var err error
	outer := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	})
	return errors.Join(outer, err)
}

func dial(
	ctx context.Context, addr netip.AddrPort,
	control func(network, addr string, raw syscall.RawConn) error,
) (*Conn, error) {
	dialer := net.Dialer{Timeout: Patience, KeepAlive: -1, Control: control}
	conn, err := dialer.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return &Conn{conn.(*net.TCPConn)}, nil
}

// LocalAddr returns the client's own address.
func (c *Conn) LocalAddr() netip.AddrPort {
	return c.conn.LocalAddr().(*net.TCPAddr).AddrPort()
}

// RemoteAddr returns the server's address.
func (c *Conn) RemoteAddr() netip.AddrPort {
	return c.conn.RemoteAddr().(*net.TCPAddr).AddrPort()
}

// Send sends all of p. It blocks while the server does not read and all buffers are
// full, and returns ErrTimeout when that lasts longer than Patience.
func (c *Conn) Send(p []byte) error { return c.SendWithin(p, Patience) }

// SendWithin does what Send does, for at most that time.
func (c *Conn) SendWithin(p []byte, within time.Duration) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := c.conn.Write(p)
	return inOurWords(err)
}

// SendUrgent sends one byte of urgent data: tcp(7), MSG_OOB.
func (c *Conn) SendUrgent(b byte) error {
	socket, real := c.conn.(syscall.Conn)
	if !real {
		return errors.ErrUnsupported
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	outer := raw.Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), []byte{b}, unix.MSG_OOB|unix.MSG_NOSIGNAL, nil)
		return err != unix.EAGAIN
	})
	return inOurWords(errors.Join(outer, err))
}

// SendSlowly sends the pieces one after the other, each in a segment of its own
// unless it is too long for one. Between two pieces it calls between, which may
// pause, or wait until the server has read the last one; nil for no pause.
func (c *Conn) SendSlowly(pieces [][]byte, between func()) error {
	for i, piece := range pieces {
		if i > 0 && between != nil {
			between()
		}
		if err := c.Send(piece); err != nil {
			return fmt.Errorf("piece %d of %d: %w", i+1, len(pieces), err)
		}
	}
	return nil
}

// Cut cuts p before each of the given offsets, which must ascend and lie
// between 0 and len(p). The pieces share p's memory.
func Cut(p []byte, offsets ...int) [][]byte {
	var pieces [][]byte
	last := 0
	for _, offset := range offsets {
		pieces = append(pieces, p[last:offset])
		last = offset
	}
	return append(pieces, p[last:])
}

// HalfClose ends the sending side (shutdown, SHUT_WR). The server reads end of file;
// its answer can still be read.
func (c *Conn) HalfClose() error { return inOurWords(c.conn.CloseWrite()) }

// Close closes the connection. The server reads end of file; but it gets a reset if
// something it sent has not been read here, or if it sends more.
func (c *Conn) Close() error { return c.conn.Close() }

// Reset ends the connection with a reset (SO_LINGER with time 0, then close):
// what either side has not delivered yet is lost.
func (c *Conn) Reset() error {
	return errors.Join(c.conn.SetLinger(0), c.conn.Close())
}

// Read reads exactly n bytes, within the given time. When fewer came, it returns them
// with io.EOF, ErrReset or ErrTimeout.
func (c *Conn) Read(n int, within time.Duration) ([]byte, error) {
	p := make([]byte, n)
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	for got := 0; got < n; {
		m, err := c.conn.Read(p[got:])
		got += m
		if err != nil && got < n {
			return p[:got], inOurWords(err)
		}
	}
	return p, nil
}

// Some waits for the first byte, and reads what is there, at most n bytes. io.EOF,
// ErrReset and ErrTimeout come without bytes.
func (c *Conn) Some(n int, within time.Duration) ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	p := make([]byte, n)
	n, err := c.conn.Read(p)
	if n > 0 {
		return p[:n], nil
	}
	return nil, inOurWords(err)
}

// ReadAll reads until end of file, and then returns a nil error, as io.ReadAll does.
// With ErrReset, ErrTimeout or ErrTooMuch it returns what came before.
func (c *Conn) ReadAll(within time.Duration) ([]byte, error) {
	return c.readAll(4096, within, nil)
}

// ReadSlowly does what ReadAll does, one byte at a time, and pauses before each.
func (c *Conn) ReadSlowly(within, pause time.Duration) ([]byte, error) {
	return c.readAll(1, within, func() { time.Sleep(pause) })
}

func (c *Conn) readAll(bite int, within time.Duration, before func()) ([]byte, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	var all []byte
	buffer := make([]byte, bite)
	for {
		if before != nil {
			before()
		}
		n, err := c.conn.Read(buffer)
		all = append(all, buffer[:n]...)
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return all, inOurWords(err)
		case len(all) > MaxAnswer:
			return all, ErrTooMuch
		}
	}
}

// inOurWords replaces package net's errors about the end of a conversation. io.EOF
// and all other errors stay as they are.
func inOurWords(err error) error {
	switch {
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE),
		errors.Is(err, unix.ENOTCONN):
		return ErrReset
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout
	}
	return err
}
