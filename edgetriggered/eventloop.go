//go:build linux

// Package edgetriggered implements step 5: one event loop, edge-triggered.
//
// It teaches what changes when epoll reports each change once, instead of
// reporting a state for as long as it lasts. After a report the server must
// continue until the kernel returns EAGAIN. If it stops before that, it must
// remember to continue: there will be no second report.
//
// Like package epoll, it cannot use a second processor, or do anything slow
// between two events.
//
// Its chapter is docs/05-edge-triggered.md. Package epoll is the same program,
// function by function; `lesson diff epoll edgetriggered` shows what
// edge-triggering changes.
package edgetriggered

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
		return unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET
	}
	return unix.EPOLLIN | unix.EPOLLET
}

// A conn holds everything that the server keeps for one connection. An idle
// connection costs its size, 80 bytes, so small fields have small types.
type conn struct {
	fd        int
	discarded int32 // bytes read while lingering
	state     state
	refused   bool              // the response is TooLarge
	unread    bool              // in Server.unread: its turn ended before EAGAIN
	request   *protocol.Request // nil until its first byte arrives
	unsent    []byte            // the part of the response not sent yet
	deadline  server.Deadline[conn]
}

// These bound the work of one turn: the reads of each connection, and the accepted
// connections. So a client that sends without end cannot starve the others.
const (
	readsPerTurn   = 4
	acceptsPerTurn = 64
)

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

	// What an edge has reported and the server has not finished.
	// Level-triggered epoll keeps this list in the kernel: the ready list.
	unread, spare []*conn // connections to continue with; a slice to reuse
	unaccepted    bool    // there may be more in the accept queue

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
		watch(s.Listener, unix.EPOLLIN|unix.EPOLLET))
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

		s.readLeftovers()
		var stopping bool
		for _, event := range s.events[:n] {
			fd := int(event.Fd)
			if fd == s.Listener {
				s.unaccepted = true
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
		if s.unaccepted && !s.paused {
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
// With work left over from this turn it does not sleep at all.
func (s *Server) timeout() int {
	if len(s.unread) > 0 || s.unaccepted && !s.paused {
		return 0
	}
	next := min(s.incomplete.Next(), s.ending.Next())
	if s.paused {
		next = min(next, s.resumeAt)
	}
	return server.Milliseconds(s.now, next)
}

// accept empties the accept queue. However many connections arrived, there was
// one event: any left in the queue would wait until the next client connects.
func (s *Server) accept() error {
	for range acceptsPerTurn {
		fd, err := s.Kernel.Accept4(s.Listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == unix.EINVAL && s.Stopping():
			return nil // shut down since the event; the next event is EPOLLHUP
		case err == unix.EAGAIN:
			s.unaccepted = false
			return nil
		case kernel.IsConnectionError(err):
			continue // that connection is gone: accept the next
		case kernel.IsExhausted(err):
			s.pause()
			return nil
		case err != nil:
			return fmt.Errorf("accept4: %w", err)
		}
		s.Stats.Accepted.Add(1)
		s.admit(fd)
		if s.paused {
			return nil
		}
	}
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

// pause leaves the accept queue alone for a while. It need not change the
// interest: the edge has been reported, and will not be reported again. Here
// the danger is the opposite one. Without unaccepted, the connections still in
// the accept queue would be forgotten.
func (s *Server) pause() {
	if s.paused {
		return
	}
	s.paused = true
	s.resumeAt = s.now + server.AcceptPause
}

// resume accepts again at the end of this turn: a descriptor has been closed,
// or the time of the pause is over.
func (s *Server) resume() {
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

// enter puts a connection into its next state, and asks epoll for the events of that
// state, unless it has done so before. It takes none back: an edge that is no longer
// needed is reported once, and not in every turn.
func (s *Server) enter(c *conn, next state) {
	if next == c.state {
		return
	}
	if next != closed && next.interest()&^c.state.interest() != 0 {
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

// readRequest reads until EAGAIN. Bytes left in the socket would be
// reported only when more arrive, and a client that waits sends no more.
func (s *Server) readRequest(c *conn) state {
	for range readsPerTurn {
		n, err := s.Kernel.Read(c.fd, s.buffer[:])
		switch {
		case err == unix.EAGAIN:
			return reading
		case err == unix.EINTR:
			continue
		case err != nil: // ECONNRESET
			s.Stats.Reset.Add(1)
			return closed
		case n == 0: // end of file before the end of the request: no response
			s.Stats.Left.Add(1)
			return closed
		}
		next := s.collect(c, s.buffer[:n])
		if next != reading {
			return next
		}
	}
	s.later(c)
	return reading
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
// state sending waits for EPOLLOUT: a connection that always did would cost one
// more event, which reports that a new send buffer has room.
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
	return s.discard(c) // the request's edge may have reported more than the request
}

// discard reads until EAGAIN and drops the bytes, until end of file, a reset,
// or LingerBytes.
func (s *Server) discard(c *conn) state {
	for range readsPerTurn {
		n, err := s.Kernel.Read(c.fd, s.buffer[:])
		switch {
		case err == unix.EAGAIN:
			return lingering
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			return closed
		}
		c.discarded += int32(n)
		if c.discarded > server.LingerBytes {
			return closed
		}
	}
	s.later(c)
	return lingering
}

// later keeps c for the next turn: epoll will not report the bytes that are left
// unread.
func (s *Server) later(c *conn) {
	if !c.unread {
		c.unread = true
		s.unread = append(s.unread, c)
	}
}

// readLeftovers continues with the connections that later has kept, as if epoll
// had reported them again.
func (s *Server) readLeftovers() {
	leftovers := s.unread
	s.unread = s.spare[:0]
	s.spare = leftovers
	for _, c := range leftovers {
		if c.unread { // not closed since
			c.unread = false
			s.enter(c, s.advance(c, unix.EPOLLIN))
		}
	}
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

// closeListener ends a pause as well, and forgets what was in the accept queue:
// otherwise the loop would wake to accept from a listener that is closed.
func (s *Server) closeListener() {
	s.CloseListener()
	s.paused, s.unaccepted = false, false
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
