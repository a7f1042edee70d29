//go:build linux

package check

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

// An answer of 114 bytes never fills a send buffer, so no client, however slow,
// makes a server's write fall short. Here the checker helps: it takes a duplicate
// of the server's own descriptor (pidfd_getfd(2), Linux 5.6), makes the buffer
// small, and fills it with bytes of its own while the client does not read. The
// client later leaves those out. To the server it is a connection like any
// other whose peer reads too slowly.

// partOfAnswer is the room that is left when the answer is to fit in part.
const partOfAnswer = 60

// fill fills the send buffer of the server's end of a client's connection.
func fill(name string) step {
	text := "the send buffer of its connection is filled, and " + name + " does not read"
	return step{text: text, prepares: true, do: func(t *trial) error { return t.fill(name, -1) }}
}

// fillBut leaves room for a part of the answer.
func fillBut(name string) step {
	text := fmt.Sprintf("the send buffer of its connection is filled except for %d bytes, and %s does not read",
		partOfAnswer, name)
	return step{text: text, prepares: true, do: func(t *trial) error {
		return t.fill(name, t.fits-partOfAnswer)
	}}
}

// fillButAnswer leaves room for the answer.
func fillButAnswer(name string) step {
	text := fmt.Sprintf("the send buffer of its connection is filled, but so that the answer has room, and"+
		" %s does not read", name)
	return step{text: text, prepares: true, do: func(t *trial) error {
		return t.fill(name, t.fits-len(t.answer.bytes)-partOfAnswer)
	}}
}

// tryOut finds out how much fits into a send buffer: as much as fits into that
// of another connection that is treated the same way.
func tryOut() step {
	const name = "scout"
	const text = "another client shows how much fits into a send buffer," +
		" and is then answered"
	return preparing(own(text, func(t *trial) error {
		for _, s := range []step{connectSmall(name), send(name, half), taken(name)} {
			if err := s.do(t); err != nil {
				return err
			}
		}
		var err error
		if t.fits, err = t.stuff(name, -1); err != nil {
			return err
		}
		t.filled[name] = t.fits
		if err := send(name, rest).do(t); err != nil {
			return err
		}
		return answered(name).do(t)
	}))
}

// connectSmall connects with the smallest receive buffer.
func connectSmall(name string) step {
	text := name + " connects, with the smallest receive buffer"
	return step{text: text, prepares: true, do: func(t *trial) error { return t.connectSmall(name) }}
}

func (t *trial) connectSmall(name string) error {
	c, err := t.dialled(play.DialSmall(t.server.Addr))
	if err != nil {
		return err
	}
	t.joins(name, c)
	return nil
}

func (t *trial) fill(name string, most int) error {
	filled, err := t.stuff(name, most)
	t.filled[name] = filled
	t.note("%d bytes of filling", filled)
	return err
}

// piece is how much is filled in at a time: one segment of so small a connection.
// When all segments are full but the last, a write takes exactly what is left
// there. (Filled byte by byte, Linux takes a short write whole or not at all.)
const piece = 576

// acknowledged is longer than a receiver puts an acknowledgement off (40 ms):
// after it, what the receiver has taken has left the send buffer.
const acknowledged = 60 * time.Millisecond

// stuff writes into the server's end of a connection until no more fits, or
// most bytes are written; most < 0 is no bound.
func (t *trial) stuff(name string, most int) (written int, err error) {
	theirs, err := t.theirs(t.clients[name])
	if err != nil {
		return 0, answeredEarly
	}
	fd, err := duplicate(theirs, t.server.Pids())
	if err != nil {
		return 0, t.lost(err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
		return 0, err
	}
	for {
		n, err := top(fd, most-written, most < 0)
		written += n
		if err != nil || n == 0 {
			return written, err
		}
		time.Sleep(acknowledged)
		if err := t.allAcknowledged(fd); err != nil {
			return written, err
		}
	}
}

// allAcknowledged waits until all that has been sent is acknowledged: on a busy machine that
// takes longer.
func (t *trial) allAcknowledged(fd int) error {
	_, err := until(t.ctx, t.patience, func() (bool, error) {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err == nil && info.Unacked == 0, err
	})
	return err
}

// answeredEarly is a server that has not waited for the rest of the request.
var answeredEarly = &failure{
	got:   "the server has closed its end of the connection",
	want:  "it waits for the rest of the request",
	cause: firstRead,
}

// top fills a send buffer up, with most bytes or without bound.
func top(fd, most int, unbounded bool) (written int, err error) {
	filling := bytes.Repeat([]byte("-"), piece)
	for unbounded || written < most {
		if !unbounded {
			filling = filling[:min(piece, most-written)]
		}
		n, err := unix.SendmsgN(fd, filling, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EAGAIN:
			return written, nil
		case err == unix.EINTR:
			continue
		case err == unix.EPIPE || err == unix.ECONNRESET:
			return written, answeredEarly
		case err != nil:
			return written, fmt.Errorf("filling the send buffer: %w", err)
		}
		written += n
	}
	return written, nil
}

// duplicate returns a descriptor of ours for a socket of theirs.
func duplicate(theirs sockets.Socket, pids []int) (int, error) {
	for _, pid := range pids {
		fd, open, err := proc.DescriptorOf(pid, theirs.Inode)
		if errors.Is(err, proc.ErrGone) || err == nil && !open {
			continue
		}
		if err != nil {
			return -1, err
		}
		ours, err := proc.Duplicate(pid, fd)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOSYS) {
			return -1, unable{"the send buffer is filled through a duplicate of the server's" +
				" descriptor, which is not allowed here: " + err.Error()}
		}
		return ours, err
	}
	return -1, unable{"no process of the server has this connection open"}
}
