//go:build linux

// Package edgetriggered is step 5: one event loop, edge-triggered.
//
// It teaches what changes when epoll reports each change once, and not for as
// long as it lasts. The server must then go on until the kernel says EAGAIN, or
// remember by itself that there is more: nobody will say it again.
//
// What it cannot do is what package epoll cannot do either: use a second
// processor, or do anything slow between two events.
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

// A connection is always in one of these states. Its interest is what epoll
// has been asked to report for it.
//
//	state      interest           an event means               next
//	closed     -                  nothing, it came too late    -
//	reading    EPOLLIN            bytes of the request         sending, or closed
//	sending    EPOLLIN, EPOLLOUT  room in the send buffer      lingering, or closed
//	lingering  EPOLLIN            unwanted bytes, end of file  closed
type state uint8

const (
	closed state = iota
	reading
	sending
	lingering
)

// A conn is all that a connection costs in our memory while it is idle.
type conn struct {
	fd        int32
	state     state
	refused   bool              // the response is TooLarge
	unread    bool              // in Server.unread: its turn ended before EAGAIN
	interest  uint32            // as epoll has it
	discarded int32             // bytes read while lingering
	request   *protocol.Request // nil until its first byte arrives
	unsent    []byte            // what is left of the response
	deadline  server.Deadline[conn]
}

// A step of a connection ends after so many reads, and accepting after so many
// clients, so that one that sends without end cannot keep the others waiting.
const (
	readsPerTurn   = 4
	acceptsPerTurn = 64
)

// Server is one event loop. One goroutine calls Serve, any may call Stop.
type Server struct {
	*server.Base // the listener, the options, the counters

	epoll    int // the descriptor of the interest list
	events   [128]unix.EpollEvent
	buffer   [16 << 10]byte // holds any request whole
	now      time.Duration  // read once a turn
	conns    server.Table[conn]
	requests protocol.Pool
	waiting  server.Deadlines[conn] // those that are reading
	ending   server.Deadlines[conn] // those that are sending or lingering

	// What an edge has told us and we have not finished. Level-triggered epoll
	// keeps this list for its callers; here it is ours to keep.
	unread, spare []*conn // connections to read on from; the list before it
	unaccepted    bool    // there may be more in the accept queue

	paused   bool          // accept has run out of descriptors or memory
	resumeAt time.Duration // when to try again
}

// New makes the listener and an interest list with nothing else in it.
func New(k kernel.Kernel, options server.Options) (*Server, error) {
	base, err := server.Listen(k, options, unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	s := &Server{Base: base}
	s.waiting.After = options.Timeout
	s.ending.After = server.LingerTime
	s.epoll, err = k.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		s.CloseListener()
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	err = s.Kernel.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.Listener,
		watch(s.Listener, unix.EPOLLIN|unix.EPOLLET))
	if err != nil {
		s.CloseListener()
		_ = k.Close(s.epoll) // nothing is in it
		return nil, fmt.Errorf("epoll_ctl: %w", err)
	}
	return s, nil
}

// Serve is the event loop. It ends when Stop has been called and the last
// connection is gone, or with the error that makes going on impossible.
func (s *Server) Serve() error {
	defer s.closeAll()
	s.now = s.Kernel.Now()
	for {
		n, err := s.Kernel.EpollWait(s.epoll, s.events[:], s.timeout())
		if err == unix.EINTR {
			n = 0 // a signal came, and no event
		} else if err != nil {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		s.now = s.Kernel.Now()

		s.readOn()
		var stopping bool
		for _, event := range s.events[:n] {
			switch fd := int(event.Fd); {
			case fd != s.Listener:
				s.advance(s.conns.At(fd))
			case event.Events&unix.EPOLLHUP != 0:
				stopping = true // Stop has shut the listener down
			default:
				s.unaccepted = true
			}
		}
		s.expire()

		// Accept last. Closing a connection frees its number, and accept
		// hands that number to a new one: were events of this batch still to
		// come, the new connection could receive its predecessor's.
		if s.unaccepted && !s.paused {
			if err := s.accept(); err != nil {
				return err
			}
		}
		if stopping {
			s.stop()
		}
		if s.Stopping() && s.waiting.First() == nil && s.ending.First() == nil {
			return nil
		}
	}
}

// timeout is how long epoll_wait may sleep, in milliseconds: until the next
// deadline, and for ever when there is none. An idle server never wakes. With
// work left over from this turn it only asks what else there is.
func (s *Server) timeout() int {
	if len(s.unread) > 0 || s.unaccepted && !s.paused {
		return 0
	}
	next := min(s.waiting.Next(), s.ending.Next())
	if s.paused {
		next = min(next, s.resumeAt)
	}
	return server.Milliseconds(s.now, next)
}

// accept empties the accept queue. However many connections came, there was one
// event: those that are left behind wait until the next client connects.
func (s *Server) accept() error {
	for range acceptsPerTurn {
		fd, err := s.Kernel.Accept4(s.Listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == unix.EINVAL && s.Stopping():
			return nil // shut down since the event: the next one is EPOLLHUP
		case err == unix.EAGAIN:
			s.unaccepted = false
			return nil
		case kernel.IsConnectionError(err):
			continue // that one is gone, the next may be fine
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

// admit puts a new connection into the interest list.
func (s *Server) admit(fd int) {
	err := s.Kernel.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, watch(fd, unix.EPOLLIN|unix.EPOLLET))
	if err != nil {
		// No memory, or over fs.epoll.max_user_watches: a connection that
		// cannot be watched cannot be served.
		s.Stats.Refused.Add(1)
		_ = s.Kernel.Close(fd)
		s.pause()
		return
	}
	c := s.conns.At(fd)
	*c = conn{fd: int32(fd), state: reading, interest: unix.EPOLLIN | unix.EPOLLET}
	s.waiting.Add(c, &c.deadline, s.now)
}

// pause leaves the accept queue alone for a while. There is nothing to unwatch:
// the edge has been told, and will not be told again. That is the danger here.
// It is unaccepted that remembers the connections that are still waiting.
func (s *Server) pause() {
	if s.paused {
		return
	}
	s.paused = true
	s.resumeAt = s.now + server.AcceptPause
}

// resume accepts again at the end of this turn: a descriptor has become free,
// or it is time to see whether one has.
func (s *Server) resume() {
	s.paused = false
}

// advance takes a connection one step further. EPOLLHUP and EPOLLERR need no
// branch of their own: the read or send that follows says what has happened.
func (s *Server) advance(c *conn) {
	switch c.state {
	case reading:
		s.readRequest(c)
	case sending:
		s.sendResponse(c)
	case lingering:
		s.discard(c)
	}
}

// readRequest reads until EAGAIN, the one word by which the kernel says that the
// next byte will bring an event. What it left unread would lie there in silence.
func (s *Server) readRequest(c *conn) {
	for range readsPerTurn {
		n, err := s.Kernel.Read(int(c.fd), s.buffer[:])
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil: // ECONNRESET
			s.Stats.Reset.Add(1)
			s.close(c)
			return
		case n == 0: // end of file, and no whole request: nothing to answer
			s.Stats.Left.Add(1)
			s.close(c)
			return
		}
		s.collect(c, s.buffer[:n])
		if c.state != reading {
			return // what else has come is for linger to read
		}
	}
	s.later(c)
}

// collect adds the bytes to the request and responds when that is decided.
func (s *Server) collect(c *conn, p []byte) {
	if c.request == nil {
		c.request = s.requests.Get()
	}
	switch c.request.Add(p) {
	case protocol.Complete:
		s.Print(c.request.Bytes())
		s.respond(c, protocol.Response)
	case protocol.Oversize:
		s.Stats.Refused.Add(1)
		c.refused = true
		s.respond(c, protocol.TooLarge)
	}
}

// respond starts the response. It does not ask epoll first whether there is
// room: the send buffer of a new connection is empty, and asking would cost
// two epoll_ctl and a turn.
func (s *Server) respond(c *conn, response []byte) {
	s.requests.Put(c.request)
	c.request = nil
	s.waiting.Remove(&c.deadline)
	s.ending.Add(c, &c.deadline, s.now)
	c.state, c.unsent = sending, response
	s.cork(c, 1)
	s.sendResponse(c)
}

// sendResponse sends until all is sent or the send buffer is full. Only
// then is EPOLLOUT wanted. Asked for from the start, it would cost every
// connection one event that says what everybody knows: there is room.
func (s *Server) sendResponse(c *conn) {
	for len(c.unsent) > 0 {
		n, err := s.Kernel.Send(int(c.fd), c.unsent, unix.MSG_MORE|unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			s.setInterest(c, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLET)
			return
		case err != nil: // EPIPE, ECONNRESET
			s.Stats.Reset.Add(1)
			s.close(c)
			return
		}
		c.unsent = c.unsent[n:]
	}
	if !c.refused {
		s.Stats.Served.Add(1)
	}
	s.cork(c, 0)
	s.linger(c)
}

// linger tells the client that this was all (the end leaves in the segment of
// the last bytes: MSG_MORE has kept them waiting for it). From now on we
// discard. Were we to close now, and bytes of the client's lay unread or came
// later, the kernel would answer them with a reset, and a reset destroys what
// the client has not read yet: our response.
func (s *Server) linger(c *conn) {
	if err := s.Kernel.Shutdown(int(c.fd), unix.SHUT_WR); err != nil {
		s.close(c) // ENOTCONN: the client has reset the connection
		return
	}
	c.state = lingering
	s.discard(c) // the edge that brought the request may have brought more
}

// discard reads until EAGAIN and throws away, up to end of file, a reset, or too
// much.
func (s *Server) discard(c *conn) {
	for range readsPerTurn {
		n, err := s.Kernel.Read(int(c.fd), s.buffer[:])
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			s.close(c)
			return
		}
		c.discarded += int32(n)
		if c.discarded > server.LingerBytes {
			s.close(c)
			return
		}
	}
	s.later(c)
}

// later keeps c for the next turn, since no event will come for what it has
// left unread.
func (s *Server) later(c *conn) {
	if !c.unread {
		c.unread = true
		s.unread = append(s.unread, c)
	}
}

// readOn gives the connections left over from the last turn another one.
func (s *Server) readOn() {
	again := s.unread
	s.unread = s.spare[:0]
	s.spare = again
	for _, c := range again {
		if c.unread { // else closed since
			c.unread = false
			s.advance(c)
		}
	}
}

// close ends a connection. Closing its descriptor, the only one it has, also
// takes it out of the interest list.
func (s *Server) close(c *conn) {
	if c.state == reading {
		s.waiting.Remove(&c.deadline)
	} else {
		s.ending.Remove(&c.deadline)
	}
	if c.request != nil {
		s.requests.Put(c.request)
	}
	fd := int(c.fd)
	*c = conn{}
	_ = s.Kernel.Close(fd) // Linux closes it whatever close returns
	s.resume()
}

// expire ends the connections whose time has run out.
func (s *Server) expire() {
	for c := s.waiting.Expired(s.now); c != nil; c = s.waiting.Expired(s.now) {
		s.Stats.TimedOut.Add(1)
		s.close(c)
	}
	for c := s.ending.Expired(s.now); c != nil; c = s.ending.Expired(s.now) {
		s.close(c)
	}
	if s.paused && s.resumeAt <= s.now {
		s.resume()
	}
}

// stop accepts no more, and looks once more at every unfinished request: one
// that has arrived whole is answered, the others are closed: either way it leaves
// the queue. The loop ends when those that are answered have lingered out.
func (s *Server) stop() {
	s.CloseListener()
	s.unaccepted = false
	for c := s.waiting.First(); c != nil; c = s.waiting.First() {
		s.readRequest(c)
		if c.state == reading {
			s.Stats.Left.Add(1)
			s.close(c)
		}
	}
}

// closeAll is the end, also after an error.
func (s *Server) closeAll() {
	s.CloseListener()
	for c := s.waiting.First(); c != nil; c = s.waiting.First() {
		s.close(c)
	}
	for c := s.ending.First(); c != nil; c = s.ending.First() {
		s.close(c)
	}
	_ = s.Kernel.Close(s.epoll) // whatever is left of the list goes with it
}

// setInterest asks epoll to report these events for c, unless it does already.
func (s *Server) setInterest(c *conn, interest uint32) {
	if c.interest == interest {
		return
	}
	err := s.Kernel.EpollCtl(s.epoll, unix.EPOLL_CTL_MOD, int(c.fd), watch(int(c.fd), interest))
	if err != nil {
		s.close(c) // unwatched, it would never be served
		return
	}
	c.interest = interest
}

// watch is an entry of the interest list: the events to report, and what to hand
// back with each of them, the descriptor.
func watch(fd int, interest uint32) unix.EpollEvent {
	return unix.EpollEvent{Events: interest, Fd: int32(fd)}
}

// cork holds back segments that are not full (1) or lets them go (0): the
// tutorial's example 5. Should it fail, the response is merely not corked.
func (s *Server) cork(c *conn, on int) {
	if s.Options.Cork {
		_ = s.Kernel.SetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_CORK, on)
	}
}
