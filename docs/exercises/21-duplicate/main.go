//go:build linux

// A level-triggered epoll server. It works, mostly: see README.md beside it.
package main

import (
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxRequest  = 8 << 10     // bytes, the terminator included
	lingerTime  = time.Second // from the response to close, at most
	lingerBytes = 1 << 20     // read and discarded meanwhile, at most
	acceptPause = 100         // milliseconds, when descriptors have run out

	response = "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
		"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"
	tooLarge = "HTTP/1.0 431 Request Header Fields Too Large\r\n" +
		"Content-Type: text/plain\r\nContent-Length: 23\r\n\r\nThe request is too big."
)

var terminator = regexp.MustCompile("\n\r?\n")

// A connection is always in one of these states.
//
//	state      fd: EPOLLIN                  out: EPOLLOUT            next
//	reading    bytes of the request                                  sending, or closed
//	sending    unwanted bytes, end of file  room in the send buffer  lingering, or closed
//	lingering  unwanted bytes, end of file                           closed
type state int

const (
	reading state = iota
	sending
	lingering
	closed
)

// none is the descriptor of a direction that has none.
const none = -1

type conn struct {
	fd       int // for reading; none when the client has ended
	out      int // a duplicate of fd that waits for room; none when nothing waits
	state    state
	request  []byte    // what has come of it
	unsent   []byte    // what is left of the response
	deadline time.Time // of sending and lingering

	discarded int // bytes read while lingering
}

type server struct {
	listener int
	epoll    int            // the descriptor of the interest list
	buffer   [16 << 10]byte // holds any request whole
	conns    map[int]*conn  // by descriptor, fd and out
	ending   []*conn        // those with a deadline, in its order
	paused   bool           // accepts no client for a while: out of descriptors
	stopping bool           // accepts no client any more
}

// The loop stays on the process's first thread: strace -p shows it. And for its
// first timer the Go runtime opens two descriptors. If there were none left, that
// would end the program: so it does it now.
func init() {
	runtime.LockOSThread()
	time.Sleep(time.Nanosecond)
}

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)

	addr := "127.0.0.1:8080"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	a, err := netip.ParseAddrPort(addr)
	must("host:port", err)
	s := &server{conns: make(map[int]*conn)}
	s.listener, err = unix.Socket(unix.AF_INET,
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must("socket", err)
	must("setsockopt", unix.SetsockoptInt(s.listener,
		unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must("bind", unix.Bind(s.listener,
		&unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}))
	must("listen", unix.Listen(s.listener, 4096))
	s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must("epoll_create1", err)
	must("epoll_ctl", s.watch(unix.EPOLL_CTL_ADD, s.listener, unix.EPOLLIN))

	go func() {
		<-signals
		_ = unix.Shutdown(s.listener, unix.SHUT_RD) // epoll reports EPOLLHUP
	}()
	fmt.Fprintln(os.Stderr, "listening on", addr)
	s.serve()
}

func must(call string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", call, err)
	}
}

// serve is the event loop. It ends when it has been stopped and the last
// connection is gone.
func (s *server) serve() {
	var events [128]unix.EpollEvent
	for !s.stopping || len(s.conns) > 0 {
		n, err := unix.EpollWait(s.epoll, events[:], s.timeout())
		if err == unix.EINTR {
			n, err = 0, nil // a signal came, and no event
		}
		must("epoll_wait", err)
		s.resume()

		var accepting, stopping bool
		for _, event := range events[:n] {
			switch fd := int(event.Fd); {
			case fd != s.listener:
				s.advance(fd)
			case event.Events&unix.EPOLLHUP != 0:
				stopping = true // the listener has been shut down
			default:
				accepting = true
			}
		}
		s.expire()

		// Accept last. Closing a connection frees its number, and accept
		// hands that number to a new one: were events of this batch still to
		// come, the new connection could receive its predecessor's.
		if accepting {
			s.accept()
		}
		if stopping {
			s.stop()
		}
	}
}

// timeout is how long epoll_wait may sleep, in milliseconds: until the next
// deadline, and forever when there is none. An idle server never wakes.
func (s *server) timeout() int {
	if s.paused {
		return acceptPause
	}
	if len(s.ending) > 0 {
		left := time.Until(s.ending[0].deadline)
		return max(int(left/time.Millisecond)+1, 0)
	}
	return -1
}

// expire ends the connections whose time has run out.
func (s *server) expire() {
	now := time.Now()
	for len(s.ending) > 0 && (s.ending[0].state == closed || now.After(s.ending[0].deadline)) {
		s.close(s.ending[0])
		s.ending = s.ending[1:]
	}
}

// accept takes one connection from the accept queue. If there are more, the
// listener is still readable, and epoll says so again.
func (s *server) accept() {
	fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOBUFS || err == unix.ENOMEM {
		s.pause()
	}
	if err != nil {
		return // EAGAIN, ECONNABORTED: the next event is the next try
	}
	s.conns[fd] = &conn{fd: fd, out: none}
	if s.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
		s.close(s.conns[fd]) // unwatched, it would never be served
	}
}

// pause stops watching the listener. The connection that could not be accepted
// stays in the accept queue and keeps the listener readable: watched on, it
// would wake us again and again for nothing.
func (s *server) pause() {
	s.paused = true
	_ = s.watch(unix.EPOLL_CTL_MOD, s.listener, 0)
}

// resume watches the listener again: a descriptor may have become free.
func (s *server) resume() {
	if s.paused {
		s.paused = false
		_ = s.watch(unix.EPOLL_CTL_MOD, s.listener, unix.EPOLLIN)
	}
}

// advance takes a connection one step further. EPOLLHUP and EPOLLERR need no
// branch of their own: the read or write that follows reports what has happened.
func (s *server) advance(fd int) {
	c := s.conns[fd]
	switch {
	case c == nil: // closed by an earlier event of the same batch
	case fd == c.out:
		s.sendResponse(c)
	case c.state == reading:
		s.readRequest(c)
	default:
		s.discard(c)
	}
}

// readRequest reads once. What it leaves unread, epoll reports again in the next
// turn, after the other connections have had theirs.
func (s *server) readRequest(c *conn) {
	n, err := unix.Read(c.fd, s.buffer[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil || n == 0: // a reset, or end of file: nothing to answer
		s.close(c)
		return
	}
	s.collect(c, s.buffer[:n])
}

// collect adds the bytes to the request and responds when that is decided.
func (s *server) collect(c *conn, p []byte) {
	from := max(len(c.request)-2, 0) // a terminator may have been cut in two
	c.request = append(c.request, p...)
	end := terminator.FindIndex(c.request[from:])
	switch {
	case end != nil && from+end[1] <= maxRequest:
		fmt.Printf("----------------------------------------\n%q\n", c.request[:from+end[1]])
		s.respond(c, response)
	case len(c.request) > maxRequest:
		s.respond(c, tooLarge)
	}
}

// respond starts the response. It does not ask epoll first whether there is
// room: the send buffer of a new connection is empty.
func (s *server) respond(c *conn, text string) {
	c.state, c.request, c.unsent = sending, nil, []byte(text)
	c.deadline = time.Now().Add(lingerTime)
	s.ending = append(s.ending, c)
	s.sendResponse(c)
}

// sendResponse sends until all is sent or the send buffer is full.
func (s *server) sendResponse(c *conn) {
	for len(c.unsent) > 0 {
		n, err := unix.Write(c.writer(), c.unsent)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			s.waitForRoom(c)
			return
		case err != nil: // EPIPE, ECONNRESET
			s.close(c)
			return
		}
		c.unsent = c.unsent[n:]
	}
	s.linger(c)
}

// writer returns the descriptor to send through: both are the same connection.
func (c *conn) writer() int {
	if c.out != none {
		return c.out
	}
	return c.fd
}

// waitForRoom lets a duplicate of the descriptor wait for room. epoll(7) suggests
// this: a duplicate has an entry of its own, with another interest. So fd stays as it
// is, and what the client still sends does not fill the receive buffer.
func (s *server) waitForRoom(c *conn) {
	if c.out != none {
		return // it waits already
	}
	out, err := unix.Dup(c.fd)
	if err != nil {
		s.close(c) // no descriptor is left: without one, the rest cannot be sent
		return
	}
	c.out = out
	s.conns[out] = c
	if s.watch(unix.EPOLL_CTL_ADD, out, unix.EPOLLOUT) != nil {
		s.close(c)
	}
}

// linger sends the end of file. From now on the server discards. If it closed the
// connection now while bytes of the client were unread, or came later, the kernel
// would send a reset. The client may then lose the response: the kernel drops what the
// send buffer still holds, and a client that is still sending gets an error.
func (s *server) linger(c *conn) {
	c.state = lingering
	if c.fd == none || unix.Shutdown(c.fd, unix.SHUT_WR) != nil {
		s.close(c) // the client has ended already, or (ENOTCONN) reset the connection
		return
	}
	s.drop(&c.out)
}

// discard reads once and throws away, up to end of file, a reset, or too much. A
// client that ends before it has the response still wants it.
func (s *server) discard(c *conn) {
	n, err := unix.Read(c.fd, s.buffer[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	if c.state == sending && err == nil { // the deadline is the bound
		if n == 0 {
			s.drop(&c.fd) // the rest of the response goes through out
		}
		return
	}
	c.discarded += n
	if err != nil || n == 0 || c.discarded > lingerBytes {
		s.close(c)
	}
}

// close ends a connection in both directions.
func (s *server) close(c *conn) {
	if c.state != closed {
		c.state = closed
		s.drop(&c.fd)
		s.drop(&c.out)
	}
}

// drop closes a descriptor, if there is one. That also takes it out of the interest
// list.
func (s *server) drop(fd *int) {
	if *fd != none {
		delete(s.conns, *fd)
		_ = unix.Close(*fd) // Linux closes it whatever close returns
		*fd = none
	}
}

// stop accepts no more, and looks once more at every unfinished request: one
// that has arrived whole is answered, the others are closed. The loop ends when
// those that are answered have lingered out.
func (s *server) stop() {
	s.stopping = true
	_ = unix.Close(s.listener)
	for _, c := range s.conns {
		if c.state == reading {
			s.readRequest(c)
		}
		if c.state == reading {
			s.close(c)
		}
	}
}

// watch sets an entry of the interest list: the events to report for fd.
func (s *server) watch(op, fd int, interest uint32) error {
	return unix.EpollCtl(s.epoll, op, fd, &unix.EpollEvent{Events: interest, Fd: int32(fd)})
}
