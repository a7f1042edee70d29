//go:build linux

package simulated

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/words"
)

// A tcpState is the part of TCP's state that the system calls of a server can see:
// net/ipv4/tcp.c.
type tcpState uint8

const (
	fresh     tcpState = iota // neither listening nor connected
	listening                 // after listen
	connected                 // until a reset, or until it is closed
	closed                    // after a reset; a listener after shutdown
)

// A socket is the server's end. Its other end is a Client.
type socket struct {
	kernel *Kernel
	file   *file // nil once the last descriptor is closed, and in the accept queue
	state  tcpState
	local  netip.AddrPort

	// Of a listener: connections that accept has not taken yet. One more than
	// the backlog fits: sk_acceptq_is_full in include/net/sock.h.
	queue   []*socket
	backlog int

	reusePort bool // SO_REUSEPORT

	client     *Client
	number     int    // of the descriptor that accept returned
	before     given  // whose number that was
	unread     []byte // arrived, and not read by the server
	unsent     []byte // sent by the server, and not arrived: the client's buffer is full
	end        bool   // the client's FIN has arrived
	readShut   bool   // shutdown(SHUT_RD)
	writeShut  bool   // shutdown(SHUT_WR), or closed
	endSent    bool   // its FIN has reached the client
	err        unix.Errno
	noSpace    bool // a send did not fit, or a poll found no room: SOCK_NOSPACE
	lowWater   int  // SO_RCVLOWAT
	rcvTimeout time.Duration

	// Steps, 0 for none: the last read and send of bytes; the last send that took less than all; the
	// end of the sending side.
	readIn, sentIn, short, endedIn int

	closedIn, dropped int // the step of close, and the bytes that were unread by then
}

// poll returns the readiness of the socket: tcp_poll in net/ipv4/tcp.c.
func (s *socket) poll() uint32 {
	if s.state == listening {
		if len(s.queue) > 0 {
			return unix.EPOLLIN
		}
		return 0
	}
	var mask uint32
	readShut := s.end || s.readShut || s.reset()
	writeShut := s.writeShut || s.reset()
	if readShut && writeShut || s.state == closed || s.state == fresh {
		mask |= unix.EPOLLHUP
	}
	if readShut {
		mask |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if len(s.unread) >= max(1, s.lowWater) {
		mask |= unix.EPOLLIN
	}
	if writeShut || s.writable() {
		mask |= unix.EPOLLOUT
	} else {
		s.noSpace = true
	}
	if s.err != 0 {
		mask |= unix.EPOLLERR
	}
	return mask
}

// reset reports whether the connection has been reset.
func (s *socket) reset() bool { return s.state == closed && s.client != nil }

// writable reports whether at least a third of the send buffer is free:
// sk_stream_is_writeable in include/net/sock.h.
func (s *socket) writable() bool { return len(s.unsent)*3 <= s.kernel.options.SendBuffer*2 }

// read takes up to len(p) bytes. The order of the cases is that of
// tcp_recvmsg_locked: what has arrived comes before an end, an end before an error.
func (s *socket) read(p []byte) (int, unix.Errno) {
	switch {
	case s.state == listening || s.client == nil && !s.readShut:
		return -1, unix.ENOTCONN
	case len(s.unread) > 0 || len(p) == 0:
		n := copy(p, s.unread)
		s.unread = s.unread[n:]
		s.readIn = s.kernel.stepNow()
		s.kernel.changed++
		return n, 0
	case s.end:
		return 0, 0
	case s.err != 0:
		return -1, s.takeErr()
	case s.readShut || s.state == closed:
		return 0, 0
	}
	return -1, unix.EAGAIN
}

// send appends up to len(p) bytes to the send buffer.
func (s *socket) send(p []byte) (int, unix.Errno) {
	switch {
	case s.state == fresh || s.state == listening:
		return -1, unix.EPIPE
	case s.err != 0:
		return -1, s.takeErr()
	case s.writeShut || s.state == closed:
		return -1, unix.EPIPE
	}
	room := s.kernel.options.SendBuffer - len(s.unsent) + s.client.room()
	if room < len(p) {
		s.short = s.kernel.stepNow()
	}
	if room <= 0 {
		s.noSpace = true
		return -1, unix.EAGAIN
	}
	s.sentIn = s.kernel.stepNow()
	n := min(room, len(p))
	s.unsent = append(s.unsent, p[:n]...)
	s.kernel.changed++
	s.flush()
	return n, 0
}

func (s *socket) takeErr() unix.Errno {
	err := s.err
	s.err = 0
	return err
}

// flush moves what is unsent to the client as far as its receive buffer has room,
// and the FIN after it.
func (s *socket) flush() {
	c := s.client
	if c.gone && len(s.unsent) > 0 { // no socket is there: the client's kernel resets
		s.receiveReset(causeClosed)
		return
	}
	n := min(c.room(), len(s.unsent))
	c.unread = append(c.unread, s.unsent[:n]...)
	s.unsent = s.unsent[n:]
	if s.writeShut && len(s.unsent) == 0 && !s.endSent {
		s.endSent = true
		c.end = true
	}
	if s.noSpace && s.writable() {
		s.noSpace = false
		s.wake(unix.EPOLLOUT, causeRoom)
	}
}

// shutdown does what shutdown(2) does. It always wakes the threads that poll:
// inet_shutdown in net/ipv4/af_inet.c.
func (s *socket) shutdown(how int) unix.Errno {
	var err unix.Errno
	switch {
	case s.state == listening:
		if how == unix.SHUT_WR {
			break
		}
		s.resetQueue()
		s.state = closed
	case s.state == connected && !s.over():
		s.readShut = s.readShut || how != unix.SHUT_WR
		if how != unix.SHUT_RD && !s.writeShut {
			s.writeShut = true
			s.endedIn = s.kernel.stepNow()
			s.flush()
		}
	default: // it fails, and is remembered all the same
		err = unix.ENOTCONN
		s.readShut = s.readShut || how != unix.SHUT_WR
		s.writeShut = s.writeShut || how != unix.SHUT_RD
	}
	s.wake(0, causeShutdown)
	return err
}

// resetQueue resets the connections that no accept will take any more.
func (s *socket) resetQueue() {
	for _, c := range s.queue {
		c.client.receiveReset()
		c.state = closed
	}
	s.queue = nil
}

// close ends the server's end with its last descriptor. Unread bytes turn the end
// into a reset, which drops what is still unsent: tcp_close.
func (s *socket) close() {
	s.file = nil
	s.closedIn = s.kernel.stepNow()
	if s.endedIn == 0 {
		s.endedIn = s.kernel.stepNow()
	}
	switch {
	case s.state == listening:
		s.resetQueue()
		s.kernel.forget(s)
	case s.state != connected:
	case len(s.unread) > 0:
		s.unsent, s.dropped = nil, len(s.unread)
		s.client.receiveReset()
		s.state = closed
		return
	default:
		s.writeShut = true
		s.flush()
	}
}

// receive takes bytes of the client. A server that has closed answers with a reset.
func (s *socket) receive(p []byte, cause words.Sentence) {
	if s.state == closed || s.orphan() {
		s.client.receiveReset()
		return
	}
	if s.readShut && s.writeShut && !s.end { // FIN_WAIT2: tcp_rcv_state_process
		s.receiveReset(words.Say("%s, which the server cannot read", cause))
		s.client.receiveReset()
		return
	}
	s.unread = append(s.unread, p...)
	if len(s.unread) >= max(1, s.lowWater) {
		s.wake(unix.EPOLLIN, cause)
	}
}

// receiveEnd takes the client's FIN: tcp_fin, whose wake-up names no event.
func (s *socket) receiveEnd(cause words.Sentence) {
	s.end = true
	s.wake(0, cause)
}

// receiveReset takes a reset. Bytes that have arrived before it stay readable;
// bytes that have not been sent are lost: tcp_reset.
func (s *socket) receiveReset(cause words.Sentence) {
	if s.state != connected || s.over() {
		return
	}
	s.err = unix.ECONNRESET
	if s.end {
		s.err = unix.EPIPE
	}
	s.unsent = nil
	s.state = closed
	s.wake(0, cause)
}

// over reports whether both ends have been sent: no connection is left to reset.
func (s *socket) over() bool { return s.end && s.endSent }

// orphan reports whether no descriptor is left, and none will come from accept.
func (s *socket) orphan() bool { return s.file == nil && !s.kernel.queued(s) }

// wake puts the entries that watch this socket for one of the events in key (0 for
// any) on their ready lists.
func (s *socket) wake(key uint32, cause words.Sentence) {
	s.kernel.changed++
	if s.file == nil {
		return
	}
	for _, e := range s.file.watched {
		e.wake(key, cause)
	}
}

// connect takes a client's connection into the accept queue, unless that is full.
func (s *socket) connect(c *Client) bool {
	if len(s.queue) > s.backlog {
		return false
	}
	c.conn = &socket{kernel: s.kernel, state: connected, client: c, local: s.local, lowWater: 1}
	s.queue = append(s.queue, c.conn)
	s.wake(unix.EPOLLIN, words.Say("%s connects", c.Name))
	return true
}
