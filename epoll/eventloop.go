//go:build linux

// Package epoll implements step 4: one event loop, level-triggered.
//
// It teaches how one thread waits for every client at once. Only epoll_wait
// ever blocks. Each connection has a state; an event lets it continue from that
// state, as far as that is possible without blocking.
//
// It cannot use a second processor (chapter 11 adds --loops), or do anything
// slow between two events, because every client waits meanwhile.
//
// Its chapter is docs/04-level-triggered.md. Package edgetriggered is the same
// program, function by function; `lesson diff epoll edgetriggered` shows what
// edge-triggering changes.
package epoll

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/protocol"
	"lesson/internal/server"
)

// A connection is always in one of these states. Function advance is this table
// as code: it calls the state's function, which returns the next state.
//
//	state      waits for  then calls    next state
//	reading    EPOLLIN    readRequest   reading, sending, lingering, closed
//	sending    EPOLLOUT   sendResponse  sending, lingering, closed
//	lingering  EPOLLIN    discard       lingering, closed
//	closed     -          -             -
type state uint8

const (
	closed state = iota
	reading
	sending
	lingering
)

// interest returns the events that epoll is to report in this state. It always
// reports EPOLLHUP and EPOLLERR as well: see epoll_ctl(2).
func (s state) interest() uint32 {
	if s == sending {
		return unix.EPOLLOUT
	}
	return unix.EPOLLIN
}

// A conn holds everything that the server keeps for one connection. An idle
// connection costs its size, 80 bytes, so small fields have small types.
type conn struct {
	fd        int
	discarded int32 // bytes read while lingering
	state     state
	refused   bool              // the response is TooLarge
	request   *protocol.Request // nil until its first byte arrives
	unsent    []byte            // the part of the response not sent yet
	deadline  server.Deadline[conn]
}

// A Server runs one event loop. One goroutine calls Serve; any may call Stop.
type Server struct {
	*server.Base // the listener, the options, the counters

	epoll      int // the descriptor of the interest list
	events     [128]unix.EpollEvent
	buffer     [16 << 10]byte // larger than the largest request
	now        time.Duration  // read once per turn
	conns      server.Table[conn]
	requests   protocol.Pool
	incomplete server.Deadlines[conn] // connections in state reading
	ending     server.Deadlines[conn] // connections sending or lingering

	paused   bool          // the process has run out of descriptors or memory
	resumeAt time.Duration // when to accept again
}

// New makes the listener, and an interest list that holds only the listener.
func New(k kernel.Kernel, options server.Options) (*Server, error) {
	base, err := server.Listen(k, options, unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	s := &Server{Base: base}
	s.incomplete.After = options.Timeout
	s.ending.After = server.LingerTime
	s.epoll, err = k.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		s.CloseListener()
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	err = k.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.Listener,
		watch(s.Listener, unix.EPOLLIN))
	if err != nil {
		s.CloseListener()
		_ = k.Close(s.epoll) // nothing is in it
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	return s, nil
}

// Serve runs the event loop. It returns after Stop, when the last connection
// has ended, or with an error after which it cannot continue.
func (s *Server) Serve() error {
	defer s.closeAll()
	s.now = s.Kernel.Now()
	for {
		n, err := s.Kernel.EpollWait(s.epoll, s.events[:], s.timeout())
		if err == unix.EINTR {
			n = 0 // a signal arrived, no event
		} else if err != nil {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		s.now = s.Kernel.Now()

		var accepting, stopping bool
		for _, event := range s.events[:n] {
			fd := int(event.Fd)
			if fd == s.Listener {
				accepting = event.Events&(unix.EPOLLIN|unix.EPOLLERR) != 0
				stopping = event.Events&unix.EPOLLHUP != 0 // shut down by Stop
				continue
			}
			c := s.conns.At(fd)
			s.enter(c, s.advance(c, event.Events))
		}
		s.expire()

		// Accept last. Closing a connection frees its number, and accept
		// gives that number to a new one. If events of this batch were still
		// to come, the new connection could get those of the old one.
		if accepting {
			if err := s.accept(); err != nil {
				return err
			}
		}
		if stopping {
			s.stop()
		}
		if s.Stopping() && s.incomplete.First() == nil && s.ending.First() == nil {
			return nil
		}
	}
}

// timeout returns how long epoll_wait may sleep, in milliseconds: until the
// next deadline, or forever (-1) if there is none. An idle server never wakes.
func (s *Server) timeout() int {
	next := min(s.incomplete.Next(), s.ending.Next())
	if s.paused {
		next = min(next, s.resumeAt)
	}
	return server.Milliseconds(s.now, next)
}

// accept takes one connection from the accept queue. If there are more, the
// listener is still readable, and level-triggered epoll reports it again.
func (s *Server) accept() error {
	fd, err := s.Kernel.Accept4(s.Listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch {
	case err == unix.EINVAL && s.Stopping():
		return nil // shut down since the event; the next event is EPOLLHUP
	case err == unix.EAGAIN || kernel.IsConnectionError(err):
		return nil // that connection is gone; accept again after the next event
	case kernel.IsExhausted(err):
		s.pause()
		return nil
	case err != nil:
		return fmt.Errorf("accept4: %w", err)
	}
	s.Stats.Accepted.Add(1)
	s.admit(fd)
	return nil
}

// admit adds a new connection to the interest list.
func (s *Server) admit(fd int) {
	err := s.Kernel.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd,
		watch(fd, reading.interest()))
	if err != nil {
		// No memory, or over fs.epoll.max_user_watches. A connection that
		// cannot be watched cannot be served.
		s.Stats.Refused.Add(1)
		_ = s.Kernel.Close(fd)
		s.pause()
		return
	}
	c := s.conns.At(fd)
	*c = conn{fd: fd, state: reading}
	s.incomplete.Add(c, &c.deadline, s.now)
}

// pause stops watching the listener. The connection that could not be accepted
// stays in the accept queue and keeps the listener readable. If it were still
// watched, every epoll_wait would return at once: the loop would spin.
func (s *Server) pause() {
	if s.paused {
		return
	}
	err := s.Kernel.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, s.Listener,
		watch(s.Listener, 0))
	if err != nil {
		return // still watched: the loop spins, but it serves
	}
	s.paused = true
	s.resumeAt = s.now + server.AcceptPause
}

// resume watches the listener again: a descriptor has been closed, or the time
// of the pause is over.
func (s *Server) resume() {
	if !s.paused {
		return
	}
	err := s.Kernel.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, s.Listener,
		watch(s.Listener, unix.EPOLLIN))
	if err != nil {
		s.resumeAt = s.now + server.AcceptPause
		return
	}
	s.paused = false
}

// advance lets a connection continue after these events and returns its next
// state. EPOLLHUP and EPOLLERR count as readable and as writable: neither read
// nor send would block, and what they return shows what has happened.
func (s *Server) advance(c *conn, events uint32) state {
	readable := events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0
	writable := events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0
	switch {
	case c.state == reading && readable:
		return s.readRequest(c)
	case c.state == sending && writable:
		return s.sendResponse(c)
	case c.state == lingering && readable:
		return s.discard(c)
	}
	return c.state // nothing that this state waits for
}

// enter puts a connection into its next state, and asks epoll for the events of
// that state if they differ from those of the last one.
func (s *Server) enter(c *conn, next state) {
	if next == c.state {
		return
	}
	if next != closed && next.interest() != c.state.interest() {
		err := s.Kernel.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, c.fd,
			watch(c.fd, next.interest()))
		if err != nil {
			next = closed // epoll would never report it again
		}
	}
	if c.state == reading { // the request has ended, and so has its deadline
		s.incomplete.Remove(&c.deadline)
		s.ending.Add(c, &c.deadline, s.now)
		if c.request != nil {
			s.requests.Put(c.request)
			c.request = nil
		}
	}
	c.state = next
	if next == closed {
		s.close(c)
	}
}

// close ends a connection. This descriptor is the only one for its socket, so
// closing it also removes it from the interest list.
func (s *Server) close(c *conn) {
	s.ending.Remove(&c.deadline)
	fd := c.fd
	*c = conn{}
	_ = s.Kernel.Close(fd) // Linux closes it whatever close returns
	s.resume()
}

// readRequest reads once. If bytes are left unread, level-triggered epoll
// reports them again in the next turn, after the other connections had theirs.
func (s *Server) readRequest(c *conn) state {
	n, err := s.Kernel.Read(c.fd, s.buffer[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return reading
	case err != nil: // ECONNRESET
		s.Stats.Reset.Add(1)
		return closed
	case n == 0: // end of file before the end of the request: no response
		s.Stats.Left.Add(1)
		return closed
	}
	return s.collect(c, s.buffer[:n])
}

// collect adds the bytes to the request, and responds if it is complete or too
// large.
func (s *Server) collect(c *conn, p []byte) state {
	if c.request == nil {
		c.request = s.requests.Get()
	}
	switch c.request.Add(p) {
	case protocol.Complete:
		s.Print(c.request.Bytes())
		return s.respond(c, protocol.Response)
	case protocol.Oversize:
		s.Stats.Refused.Add(1)
		c.refused = true
		return s.respond(c, protocol.TooLarge)
	}
	return reading
}

// respond starts to send. It does not wait for EPOLLOUT first: the send buffer
// of a new connection is empty, and waiting would cost two calls of epoll_ctl
// and a turn.
func (s *Server) respond(c *conn, response []byte) state {
	c.unsent = response
	s.cork(c, 1)
	return s.sendResponse(c)
}

// sendResponse sends until everything is sent or the send buffer is full. Only
// state sending waits for EPOLLOUT: a connection that always did would wake the
// loop all the time, because there is nearly always room.
func (s *Server) sendResponse(c *conn) state {
	for len(c.unsent) > 0 {
		n, err := s.Kernel.Send(c.fd, c.unsent, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return sending
		case err != nil: // EPIPE, ECONNRESET
			s.Stats.Reset.Add(1)
			return closed
		}
		c.unsent = c.unsent[n:]
	}
	if !c.refused {
		s.Stats.Served.Add(1)
	}
	s.cork(c, 0)
	return s.linger(c)
}

// linger sends the end of file, in the same segment as the last bytes, which MSG_MORE
// has held back for it. From now on the server only discards. If it closed the
// connection now while bytes of the client were unread, or still to come, the kernel
// would send a reset. The client may then lose the response: the kernel drops what the
// send buffer still holds, and a client that is still sending gets an error.
func (s *Server) linger(c *conn) state {
	if err := s.Kernel.Shutdown(c.fd, unix.SHUT_WR); err != nil {
		return closed // ENOTCONN: the client has reset the connection
	}
	return lingering
}

// discard reads once and drops the bytes, until end of file, a reset, or
// LingerBytes.
func (s *Server) discard(c *conn) state {
	n, err := s.Kernel.Read(c.fd, s.buffer[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return lingering
	case err != nil || n == 0:
		return closed
	}
	c.discarded += int32(n)
	if c.discarded > server.LingerBytes {
		return closed
	}
	return lingering
}

// expire closes the connections whose time is over.
func (s *Server) expire() {
	now := s.now
	for c := s.incomplete.Expired(now); c != nil; c = s.incomplete.Expired(now) {
		s.Stats.TimedOut.Add(1)
		s.enter(c, closed)
	}
	for c := s.ending.Expired(now); c != nil; c = s.ending.Expired(now) {
		s.enter(c, closed)
	}
	if s.paused && s.resumeAt <= now {
		s.resume()
	}
}

// stop closes the listener and looks once more at every incomplete request: one
// that has arrived completely is answered, the others are closed. The loop ends
// when the answered connections have ended.
func (s *Server) stop() {
	s.closeListener()
	for c := s.incomplete.First(); c != nil; c = s.incomplete.First() {
		next := s.advance(c, unix.EPOLLIN)
		if next == reading {
			s.Stats.Left.Add(1)
			next = closed
		}
		s.enter(c, next)
	}
}

// closeAll closes everything that is still open, also after an error.
func (s *Server) closeAll() {
	s.closeListener()
	for c := s.incomplete.First(); c != nil; c = s.incomplete.First() {
		s.enter(c, closed)
	}
	for c := s.ending.First(); c != nil; c = s.ending.First() {
		s.enter(c, closed)
	}
	_ = s.Kernel.Close(s.epoll) // its interest list goes with it
}

// closeListener ends a pause as well: otherwise the next close would call resume, on a
// number that is no longer the listener's.
func (s *Server) closeListener() {
	s.CloseListener()
	s.paused = false
}

// watch returns an entry of the interest list: the events to report, and the
// data that epoll returns with each of them, here the descriptor.
func watch(fd int, interest uint32) unix.EpollEvent {
	return unix.EpollEvent{Events: interest, Fd: int32(fd)}
}

// cork makes the kernel hold back partial segments (1) or send them (0): the
// tutorial's example 5. If it fails, the response is sent without it.
func (s *Server) cork(c *conn, on int) {
	if s.Options.Cork {
		_ = s.Kernel.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_CORK, on)
	}
}
