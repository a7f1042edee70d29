//go:build linux

// A level-triggered epoll server with several threads. It mostly works: see README.md
// beside it.
package main

import (
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	threads     = 4                      // that wait on one list
	maxRequest  = 8 << 10                // bytes, the terminator included
	lingerTime  = time.Second            // from the response to close, at most
	lingerBytes = 1 << 20                // read and discarded meanwhile, at most
	acceptPause = 100 * time.Millisecond // when descriptors have run out

	response = "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
		"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"
	tooLarge = "HTTP/1.0 431 Request Header Fields Too Large\r\n" +
		"Content-Type: text/plain\r\nContent-Length: 23\r\n\r\nThe request is too big."
)

var terminator = regexp.MustCompile("\n\r?\n")

// A connection is always in one of these states. Its entry in the interest list is
// disarmed when it is reported (EPOLLONESHOT), so that one thread at a time has the
// connection. That thread arms it again, with what the state waits for.
//
//	state      interest  an event means               next
//	reading    EPOLLIN   bytes of the request         sending, or closed
//	sending    EPOLLOUT  room in the send buffer      lingering, or closed
//	lingering  EPOLLIN   unwanted bytes, end of file  closed
type state int

const (
	reading state = iota
	sending
	lingering
	closed
)

type conn struct {
	fd      int
	state   state
	request []byte      // what has arrived of it
	unsent  []byte      // the part of the response not sent yet
	timer   *time.Timer // of sending and lingering

	discarded int // bytes read while lingering
}

type server struct {
	listener int // also EPOLLONESHOT: one thread at a time accepts
	epoll    int // the descriptor of the interest list
	done     chan struct{}

	mutex    sync.Mutex    // of what follows, and of every change of a state
	conns    map[int]*conn // by descriptor
	stopping bool          // accepts no client any more
}

// A worker is one of the threads.
type worker struct {
	*server
	events [128]unix.EpollEvent
	buffer [16 << 10]byte // holds any request whole
}

// For its first timer the Go runtime opens two descriptors. If none were left then,
// that would end the program. So it opens them now.
func init() { time.Sleep(time.Nanosecond) }

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)

	addr := "127.0.0.1:8080"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	a, err := netip.ParseAddrPort(addr)
	must("host:port", err)
	s := &server{done: make(chan struct{}), conns: make(map[int]*conn)}
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

	for range threads {
		w := &worker{server: s}
		go w.work()
	}
	go func() {
		<-signals
		_ = unix.Shutdown(s.listener, unix.SHUT_RD) // epoll reports EPOLLHUP
	}()
	fmt.Fprintln(os.Stderr, "listening on", addr)
	<-s.done
}

func must(call string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", call, err)
	}
}

// work is the event loop of one thread.
func (w *worker) work() {
	runtime.LockOSThread() // strace -f shows which of them does what
	for {
		n, err := unix.EpollWait(w.epoll, w.events[:], -1)
		if err == unix.EINTR {
			continue // a signal came, and no event
		}
		must("epoll_wait", err)
		for _, event := range w.events[:n] {
			switch fd := int(event.Fd); {
			case fd != w.listener:
				w.advance(fd, event.Events)
			case event.Events&unix.EPOLLHUP != 0:
				w.stop() // the listener has been shut down
			default:
				w.accept()
			}
		}
	}
}

// accept takes one connection from the accept queue. If there are more, the
// listener is still readable when it is armed, and epoll reports it again.
func (w *worker) accept() {
	fd, _, err := unix.Accept4(w.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOBUFS || err == unix.ENOMEM {
		// The connection stays in the accept queue and keeps the listener readable. If it
		// were armed now, it would wake a thread again and again.
		time.AfterFunc(acceptPause, w.armListener)
		return
	}
	if err == nil {
		c := &conn{fd: fd}
		w.mutex.Lock()
		w.conns[fd] = c
		w.mutex.Unlock()
		if w.watch(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
			w.close(c) // unwatched, it would never be served
		}
	}
	w.armListener() // also after EAGAIN, ECONNABORTED: accept again after the next event
}

// armListener lets epoll report the next client.
func (s *server) armListener() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.stopping {
		must("epoll_ctl", s.watch(unix.EPOLL_CTL_MOD, s.listener, unix.EPOLLIN))
	}
}

// advance takes a connection one step further.
func (w *worker) advance(fd int, events uint32) {
	w.mutex.Lock()
	c := w.conns[fd]
	w.mutex.Unlock()
	switch {
	case c == nil:
	case events&unix.EPOLLERR != 0:
		w.close(c) // it has been reset
	case c.state == reading:
		w.readRequest(c)
	case c.state == sending:
		w.sendResponse(c)
	case c.state == lingering:
		w.discard(c)
	}
}

// readRequest reads once. What it leaves unread, epoll reports again when the entry is
// armed.
func (w *worker) readRequest(c *conn) {
	n, err := unix.Read(c.fd, w.buffer[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		w.arm(c, unix.EPOLLIN)
	case err != nil || n == 0: // a reset, or end of file: nothing to answer
		w.close(c)
	default:
		w.collect(c, w.buffer[:n])
	}
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
	default:
		s.arm(c, unix.EPOLLIN)
	}
}

// respond starts to send. It does not wait until epoll reports room, because the
// send buffer of a new connection is empty.
func (s *server) respond(c *conn, text string) {
	c.request, c.unsent = nil, []byte(text)
	c.timer = time.AfterFunc(lingerTime, func() { s.expire(c) })
	s.enter(c, sending)
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
			s.arm(c, unix.EPOLLOUT)
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
	s.enter(c, lingering)
	if unix.Shutdown(c.fd, unix.SHUT_WR) != nil {
		s.close(c) // ENOTCONN: the client has reset the connection
		return
	}
	s.arm(c, unix.EPOLLIN)
}

// discard reads once and discards it, until end of file, a reset, or too much.
func (w *worker) discard(c *conn) {
	n, err := unix.Read(c.fd, w.buffer[:])
	if err == unix.EAGAIN || err == unix.EINTR {
		w.arm(c, unix.EPOLLIN)
		return
	}
	c.discarded += n
	if err != nil || n == 0 || c.discarded > lingerBytes {
		w.close(c)
		return
	}
	w.arm(c, unix.EPOLLIN)
}

// expire ends a connection whose time is over. A thread of the Go runtime calls it.
func (s *server) expire(c *conn) {
	s.close(c)
}

// enter puts a connection into another state, unless it has been closed.
func (s *server) enter(c *conn, next state) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if c.state != closed {
		c.state = next
	}
}

// close ends a connection. Closing its descriptor, the only one it has, also
// removes it from the interest list.
func (s *server) close(c *conn) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if c.state == closed {
		return
	}
	c.state = closed
	if c.timer != nil {
		c.timer.Stop()
	}
	delete(s.conns, c.fd)
	_ = unix.Close(c.fd) // Linux closes it whatever close returns
	if s.stopping && len(s.conns) == 0 {
		close(s.done)
	}
}

// stop accepts no more. A request that has arrived whole is still answered: read
// returns what has arrived, and only then end of file.
func (s *server) stop() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.stopping = true
	_ = unix.Close(s.listener)
	for _, c := range s.conns {
		if c.state == reading {
			_ = unix.Shutdown(c.fd, unix.SHUT_RD)
		}
	}
	if len(s.conns) == 0 {
		close(s.done)
	}
}

// arm lets epoll report a connection once more, to any of the threads: so it comes
// last, after all that this thread does with the connection.
func (s *server) arm(c *conn, interest uint32) {
	if s.watch(unix.EPOLL_CTL_MOD, c.fd, interest) != nil {
		s.close(c) // not armed, it would wait forever
	}
}

// watch sets an entry of the interest list: the event to report for fd, once.
func (s *server) watch(op, fd int, interest uint32) error {
	return unix.EpollCtl(s.epoll, op, fd,
		&unix.EpollEvent{Events: interest | unix.EPOLLONESHOT, Fd: int32(fd)})
}
