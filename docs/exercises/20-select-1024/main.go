//go:build linux

// An event loop on select(2). It works, mostly: see README.md beside it.
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
//	state      waits for                    next
//	reading    bytes of the request         sending, or closed
//	sending    room in the send buffer      lingering, or closed
//	lingering  unwanted bytes, end of file  closed
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
	deadline time.Time // of sending and lingering

	discarded int // bytes read while lingering
}

type server struct {
	listener int
	buffer   [16 << 10]byte // holds any request whole
	conns    map[int]*conn  // by descriptor
	ending   []*conn        // those with a deadline, in its order
	paused   bool           // accepts no client for a while: out of descriptors
	stopping bool           // accepts no client any more
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

	go func() {
		<-signals
		_ = unix.Shutdown(s.listener, unix.SHUT_RD) // ends accept with EINVAL
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
	for !s.stopping || len(s.conns) > 0 {
		ready := s.wait()
		s.paused = false // a descriptor may have become free
		accepting := false
		for _, fd := range ready {
			if fd == s.listener {
				accepting = true
			} else {
				s.advance(s.conns[fd])
			}
		}
		s.expire()

		// Accept last. Closing a connection frees its number, and accept
		// hands that number to a new one: were descriptors still to come, the
		// new connection could be taken for its predecessor.
		if accepting {
			s.accept()
		}
	}
}

// wait returns the descriptors that are ready. It waits until there is one, or
// until the time is over. select knows of a descriptor only what it gets in
// this call, so each call tells it all.
func (s *server) wait() (ready []int) {
	var readable, writable unix.FdSet
	highest := -1
	if !s.paused && !s.stopping {
		readable.Set(s.listener)
		highest = s.listener
	}
	for fd, c := range s.conns {
		if c.state == sending {
			writable.Set(fd)
		} else {
			readable.Set(fd)
		}
		highest = max(highest, fd)
	}
	var timeout *unix.Timeval // nil is forever
	if ms := s.timeout(); ms >= 0 {
		t := unix.NsecToTimeval(int64(ms) * int64(time.Millisecond))
		timeout = &t
	}
	_, err := unix.Select(highest+1, &readable, &writable, nil, timeout)
	if err == unix.EINTR {
		return nil // a signal came, and nothing is known of any descriptor
	}
	must("select", err)
	for fd := 0; fd <= highest; fd++ {
		if readable.IsSet(fd) || writable.IsSet(fd) {
			ready = append(ready, fd)
		}
	}
	return ready
}

// timeout is how long wait may take, in milliseconds: until the next deadline,
// and forever, -1, when there is none. An idle server never wakes.
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

// expire closes the connections whose time is over.
func (s *server) expire() {
	now := time.Now()
	for len(s.ending) > 0 && (s.ending[0].state == closed || now.After(s.ending[0].deadline)) {
		s.close(s.ending[0])
		s.ending = s.ending[1:]
	}
}

// accept takes one connection from the accept queue. If there are more, the
// listener is still ready in the next turn.
func (s *server) accept() {
	fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	switch err {
	case nil:
		s.conns[fd] = &conn{fd: fd}
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		// The connection that could not be accepted stays in the accept queue,
		// and the listener ready: asked for, it would wake us for nothing.
		s.paused = true
	case unix.EINVAL: // the listener has been shut down
		s.stop()
	} // else EAGAIN, ECONNABORTED: the next turn is the next try
}

// advance takes a connection one step further.
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

// readRequest reads once. What it leaves unread waits for the next turn, when
// the other connections had theirs.
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

// respond starts the response. It does not ask first whether there is
// room, because the send buffer of a new connection is empty.
func (s *server) respond(c *conn, text string) {
	c.state, c.request, c.unsent = sending, nil, []byte(text)
	c.deadline = time.Now().Add(lingerTime)
	s.ending = append(s.ending, c)
	s.sendResponse(c)
}

// sendResponse sends until all is sent or the send buffer is full.
func (s *server) sendResponse(c *conn) {
	for len(c.unsent) > 0 {
		n, err := unix.Write(c.fd, c.unsent)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
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
}

// discard reads once and drops the bytes, until end of file, a reset, or too much.
func (s *server) discard(c *conn) {
	n, err := unix.Read(c.fd, s.buffer[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		return
	}
	c.discarded += n
	if err != nil || n == 0 || c.discarded > lingerBytes {
		s.close(c)
	}
}

// close ends a connection.
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
