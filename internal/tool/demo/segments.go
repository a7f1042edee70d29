//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// A wire is both ends of one connection over loopback, in one goroutine.
type wire struct {
	ctx            context.Context
	client, server int
}

func newWire(ctx context.Context) (*wire, error) {
	listener, addr, err := newListener(1)
	if err != nil {
		return nil, err
	}
	defer closeAll(listener)
	client, err := newSocket()
	if err != nil {
		return nil, err
	}
	p := &wire{ctx: ctx, client: client, server: -1}
	if err := startConnecting(client, addr); err != nil {
		closeAll(client)
		return nil, err
	}
	err = until(ctx, wirePatience, func() (bool, error) {
		p.server, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err == unix.EAGAIN {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		closeAll(client)
		return nil, fmt.Errorf("accept4: %w", err)
	}
	return p, nil
}

func (p *wire) close() { closeAll(p.client, p.server) }

// wirePatience bounds what takes 40 or 200 milliseconds at the most.
const wirePatience = 5 * time.Second

// receive reads so many bytes.
func (p *wire) receive(fd, size int) error {
	buffer := make([]byte, size)
	for size > 0 {
		n, err := unix.Read(fd, buffer[:size])
		switch {
		case err == unix.EAGAIN:
			err = p.waitFor(fd)
		case err == unix.EINTR:
			err = nil
		case err == nil && n == 0:
			err = io.ErrUnexpectedEOF
		case err == nil:
			size -= n
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
	}
	return nil
}

// waitFor waits until there is something to read. It looks at ctx in between.
func (p *wire) waitFor(fd int) error {
	const slice = 100 // milliseconds
	began := time.Now()
	for time.Since(began) < wirePatience {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, slice)
		if n > 0 || err != nil && err != unix.EINTR {
			return err
		}
	}
	return errTooLong
}

// A sender is a way to hand a response to the kernel.
type sender struct {
	called string
	send   func(fd int, pieces [][]byte) error
}

// The ways: the response in one piece; then in several, with nothing said about
// them, and with each of the three things that one can say.
var (
	inOnePiece = sender{"one send", func(fd int, pieces [][]byte) error {
		var all []byte
		for _, piece := range pieces {
			all = append(all, piece...)
		}
		return sendPieces(fd, [][]byte{all}, 0)
	}}
	inPieces = sender{"small sends", func(fd int, pieces [][]byte) error {
		return sendPieces(fd, pieces, 0)
	}}
	withNoDelay = sender{"TCP_NODELAY", func(fd int, pieces [][]byte) error {
		return errors.Join(setTCP(fd, unix.TCP_NODELAY, 1), sendPieces(fd, pieces, 0))
	}}
	withCork = sender{"TCP_CORK", func(fd int, pieces [][]byte) error {
		return errors.Join(
			setTCP(fd, unix.TCP_CORK, 1), sendPieces(fd, pieces, 0), setTCP(fd, unix.TCP_CORK, 0))
	}}
	withMore = sender{"MSG_MORE", func(fd int, pieces [][]byte) error {
		last := len(pieces) - 1
		return errors.Join(
			sendPieces(fd, pieces[:last], unix.MSG_MORE), sendPieces(fd, pieces[last:], 0))
	}}
	// withCorkForgotten has a bug: it never takes the cork out.
	withCorkForgotten = sender{"TCP_CORK, never uncorked", func(fd int, pieces [][]byte) error {
		return errors.Join(setTCP(fd, unix.TCP_CORK, 1), sendPieces(fd, pieces, 0))
	}}
)

var senders = []sender{inOnePiece, inPieces, withNoDelay, withCork, withMore}

// sendPieces sends each with a call of its own. They are few and small: the send
// buffer takes them whole.
func sendPieces(fd int, pieces [][]byte, flags int) error {
	for _, piece := range pieces {
		n, err := unix.SendmsgN(fd, piece, nil, nil, flags|unix.MSG_NOSIGNAL)
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if n != len(piece) {
			return fmt.Errorf("send took %d bytes of %d", n, len(piece))
		}
	}
	return nil
}

func setTCP(fd, option, value int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, value); err != nil {
		return fmt.Errorf("setsockopt TCP: %w", err)
	}
	return nil
}

// An Exchange is one request and its response, over a connection that stands.
type Exchange struct {
	Took time.Duration `json:"took_ns"` // from the request to the whole response
	// Data is the segments with bytes in them that the server has sent, Bytes
	// how many bytes these were, and Acks what the client has sent besides its
	// request: segments without bytes.
	Data  uint32 `json:"data_segments"`
	Bytes uint64 `json:"bytes"`
	Acks  uint32 `json:"acks"`

	sending time.Duration // the calls of send together
}

// exchange lets the client ask, and the server answer in its way.
func (p *wire) exchange(s sender, pieces [][]byte) (Exchange, error) {
	var x Exchange
	request, size := []byte("GET / HTTP/1.0\r\n\r\n"), 0
	for _, piece := range pieces {
		size += len(piece)
	}
	server, client, err := p.infos()
	if err != nil {
		return x, err
	}
	began := time.Now()
	err = errors.Join(
		sendPieces(p.client, [][]byte{request}, 0), p.receive(p.server, len(request)))
	if err != nil {
		return x, err
	}
	sends := time.Now()
	err = errors.Join(
		s.send(p.server, pieces),
	)
	x.sending = time.Since(sends)
	if err = errors.Join(err, p.receive(p.client, size)); err != nil {
		return x, err
	}
	x.Took = time.Since(began)
	serverAfter, clientAfter, err := p.infos()
	if err != nil {
		return x, err
	}
	// What was sent again, because a busy machine acknowledged late, is not counted.
	x.Data = serverAfter.Data_segs_out - server.Data_segs_out -
		(serverAfter.Total_retrans - server.Total_retrans)
	x.Bytes = serverAfter.Bytes_sent - server.Bytes_sent -
		(serverAfter.Bytes_retrans - server.Bytes_retrans)
	x.Acks = (clientAfter.Segs_out - clientAfter.Data_segs_out) - (client.Segs_out - client.Data_segs_out)
	return x, nil
}

func (p *wire) infos() (server, client *unix.TCPInfo, err error) {
	server, err = tcpInfo(p.server)
	if err == nil {
		client, err = tcpInfo(p.client)
	}
	return server, client, err
}
