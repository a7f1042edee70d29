//go:build linux

// An edge-triggered epoll server. It mostly works: see README.md beside it.
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
//	state      interest           an event means               next
//	reading    EPOLLIN            bytes of the request         sending, or closed
//	sending    EPOLLIN, EPOLLOUT  room in the send buffer      lingering, or closed
//	lingering  as before          unwanted bytes, end of file  closed
type state int

const (
	reading state = iota
	sending
	lingering
	closed
)

type conn struct {
	fd       int
	state    state
	request  []byte    // what has arrived of it
	unsent   []byte    // the part of the response not sent yet
	full     bool      // EPOLLOUT is in its interest
	deadline time.Time // of sending and lingering

	discarded int // bytes read while lingering
}

type server struct {
	listener int
	epoll    int // the descriptor of the interest list
	buffer   [1 << 10]byte
	conns    map[int]*conn // by descriptor
	ending   []*conn       // those with a deadline, in its order
	paused   bool          // accepts no client for a while: out of descriptors
	stopping bool          // accepts no client any more

	unaccepted bool // a client is in the accept queue
}

// The loop stays on the process's first thread, which strace -p shows. For its
// first timer the Go runtime opens two descriptors. If none were left then, that
// would end the program. So it opens them now.
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

// serve runs the event loop. It returns when it has been stopped and the last
// connection has ended.
func (s *server) serve() {
	var events [128]unix.EpollEvent
	for !s.stopping || len(s.conns) > 0 {
		n, err := unix.EpollWait(s.epoll, events[:], s.timeout())
		if err == unix.EINTR {
			n, err = 0, nil // a signal came, and no event
		}
		must("epoll_wait", err)
		s.paused = false // a descriptor may have become free

		var stopping bool
		for _, event := range events[:n] {
			switch fd := int(event.Fd); {
			case fd != s.listener:
				s.advance(s.conns[fd])
			case event.Events&unix.EPOLLHUP != 0:
				stopping = true // the listener has been shut down
			default:
				s.unaccepted = true
			}
		}
		s.expire()

		// Accept last. Closing a connection frees its number, and accept
		// gives that number to a new one. If events of this batch were still to
		// come, the new connection could get those of the old one.
		if s.unaccepted {
			s.accept()
		}
		if stopping {
			s.stop()
		}
	}
}

// timeout returns how long epoll_wait may sleep, in milliseconds: until the next
// deadline, or forever if there is none. An idle server never wakes. With work
// left over from this turn it does not sleep.
func (s *server) timeout() int {
	if s.paused {
		return acceptPause
	}
	if s.unaccepted {
		return 0
	}
	if len(s.ending) > 0 {
		left := time.Until(s.ending[0].deadline)
		return max(int(left/time.Millisecond)+1, 0)
	}
	return -1
}

// expire closes the connections whose time is over.
func (s *server) expire() {
	now := time.Now()
	for len(s.ending) > 0 && (s.ending[0].state == closed || now.After(s.ending[0].deadline)) {
		s.close(s.ending[0])
		s.ending = s.ending[1:]
	}
}

// accept takes one connection from the accept queue.
func (s *server) accept() {
	fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch err {
	case nil:
		s.conns[fd] = &conn{fd: fd}
		if s.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
			s.close(s.conns[fd]) // unwatched, it would never be served
		}
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		s.paused = true
		return
	}
	s.unaccepted = false
}

// advance lets a connection continue. EPOLLHUP and EPOLLERR need no
// branch of their own: the read or write that follows returns what has happened.
func (s *server) advance(c *conn) {
	switch c.state {
	case reading:
		s.readRequest(c)
	case sending:
		s.sendResponse(c)
	case lingering:
		s.discard(c)
	}
}

// readRequest reads until EAGAIN. Bytes left in the socket would be
// reported only when more arrive, and a client that waits sends no more.
func (s *server) readRequest(c *conn) {
	for c.state == reading {
		n, err := unix.Read(c.fd, s.buffer[:])
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil || n == 0: // a reset, or end of file: nothing to answer
			s.close(c)
			return
		}
		s.collect(c, s.buffer[:n])
	}
}

// collect adds the bytes to the request, and responds if it is complete or too large.
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

// respond starts to send. It does not wait until epoll reports
// room, because the send buffer of a new connection is empty.
func (s *server) respond(c *conn, text string) {
	c.state, c.request, c.unsent = sending, nil, []byte(text)
	c.deadline = time.Now().Add(lingerTime)
	s.ending = append(s.ending, c)
	s.sendResponse(c)
}

// sendResponse sends until all is sent or the send buffer is full. Only then it
// asks for EPOLLOUT. Asking from the start would cost every connection one more
// event, which reports that there is room.
func (s *server) sendResponse(c *conn) {
	for len(c.unsent) > 0 {
		n, err := unix.Write(c.fd, c.unsent)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if !c.full { // once: with each epoll_ctl, unread bytes are an edge again
				c.full = true
				_ = s.watch(unix.EPOLL_CTL_MOD, c.fd, unix.EPOLLIN|unix.EPOLLOUT)
			}
			return
		case err != nil: // EPIPE, ECONNRESET
			s.close(c)
			return
		}
		c.unsent = c.unsent[n:]
	}
	s.linger(c)
}

// linger sends the end of file. From now on the server discards. If it closed the
// connection now while bytes of the client were unread, or came later, the kernel
// would send a reset. The client may then lose the response: the kernel drops what the
// send buffer still holds, and a client that is still sending gets an error.
func (s *server) linger(c *conn) {
	c.state = lingering
	if unix.Shutdown(c.fd, unix.SHUT_WR) != nil {
		s.close(c) // ENOTCONN: the client has reset the connection
	}
	s.discard(c) // the edge that brought the request may have brought more
}

// discard reads until EAGAIN and drops the bytes, until end of file, a reset, or too
// much.
func (s *server) discard(c *conn) {
	for c.state == lingering {
		n, err := unix.Read(c.fd, s.buffer[:])
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
			continue
		case err != nil || n == 0:
			s.close(c)
			return
		}
		c.discarded += n
		if c.discarded > lingerBytes {
			s.close(c)
		}
	}
}

// close ends a connection. Closing its only descriptor also
// removes it from the interest list.
func (s *server) close(c *conn) {
	if c.state != closed {
		c.state = closed
		delete(s.conns, c.fd)
		_ = unix.Close(c.fd) // Linux closes it whatever close returns
	}
}

// stop closes the listener, and looks once more at every incomplete request: one
// that has arrived completely is answered, the others are closed. The loop ends when the
// answered connections have ended.
func (s *server) stop() {
	s.stopping, s.unaccepted = true, false
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

// watch sets an entry of the interest list: the changes to report for fd.
func (s *server) watch(op, fd int, interest uint32) error {
	return unix.EpollCtl(s.epoll, op, fd,
		&unix.EpollEvent{Events: interest | unix.EPOLLET, Fd: int32(fd)})
}
