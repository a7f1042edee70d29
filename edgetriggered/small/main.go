//go:build linux

// Small runs the small server of chapter 4, edge-triggered. Chapter 5 begins with it
// (docs/05-edge-triggered.md). To see what the mode changes, compare the two:
//
//	diff -u epoll/small/main.go edgetriggered/small/main.go
//
// A comment that begins with "shortcut" names the cases of `lesson check` that fail
// because of the line below it, and the section of chapter 4 or 5 that repays it.
package main

import (
	"flag"
	"log"
	"net/netip"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

const response = "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"

var terminator = regexp.MustCompile("\n\r?\n")

type server struct {
	listener int
	epoll    int            // the descriptor of the interest list
	requests map[int][]byte // by descriptor: what has arrived of each request
	buffer   [16 << 10]byte
}

// main runs the event loop. Only epoll_wait blocks, and it waits for all clients at once.
//
// shortcut: signals/terminate, signals/interrupt, repaid in "Stop"
// shortcut: signals/terminate-half-request, signals/terminate-answers, repaid in "Stop"
func main() {
	flag.Parse()
	s := listen(flag.Arg(0))
	var events [128]unix.EpollEvent
	for {
		// shortcut: slow/timeout, slow/timeout-silent, slow/timeout-dripping, repaid in "Deadlines"
		n, err := unix.EpollWait(s.epoll, events[:], -1) // -1: wait forever
		if err == unix.EINTR {
			continue // a signal arrived, no event
		}
		must("epoll_wait", err)
		for _, event := range events[:n] {
			if fd := int(event.Fd); fd == s.listener {
				s.accept()
			} else {
				s.readRequest(fd)
			}
		}
	}
}

// accept accepts until EAGAIN: epoll_wait reports the listener once, however many clients
// have arrived.
func (s *server) accept() {
	for {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK)
		if err != nil { // EAGAIN: the accept queue is empty
			// Or a client has gone, or no descriptor is left: what is in the queue is forgotten.
			// shortcut: limits/descriptors-recovers, repaid in "Accept until EAGAIN"
			// shortcut: limits/descriptors-raised, repaid in "Accept until EAGAIN"
			// shortcut: limits/stale-event, limits/accept-errors, repaid in "Accept until EAGAIN"
			return
		}
		if s.watch(fd) != nil {
			s.close(fd) // unwatched, it would never be served
		}
	}
}

// readRequest reads until EAGAIN: epoll_wait reports the connection once, however many
// bytes have arrived.
func (s *server) readRequest(fd int) {
	// shortcut: fairness/endless-request, repaid in "Read until EAGAIN"
	for {
		n, err := unix.Read(fd, s.buffer[:])
		if err == unix.EAGAIN {
			return // the receive buffer is empty: the next byte brings an event
		}
		if err != nil || n == 0 {
			s.close(fd) // a reset, or end of file: there is nothing to answer
			return
		}
		// shortcut: limits/oversize, limits/endless, repaid in "Bound the request"
		s.requests[fd] = append(s.requests[fd], s.buffer[:n]...)
		if terminator.Match(s.requests[fd]) {
			s.respond(fd)
			return
		}
	}
}

func (s *server) respond(fd int) {
	// shortcut: slow/full-send-buffer, slow/short-write, repaid in "Send without asking"
	// shortcut: slow/full-send-buffer-others, repaid in "Send without asking"
	_, _ = unix.Write(fd, []byte(response))
	// shortcut: disconnects/body-with-request, disconnects/late-body, repaid in "Linger"
	s.close(fd)
}

// close ends a connection. Closing its descriptor also takes it out of the interest list.
func (s *server) close(fd int) {
	delete(s.requests, fd)
	_ = unix.Close(fd)
}

// watch puts a descriptor into the interest list.
func (s *server) watch(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)})
}

// listen returns a server that has its listener in the interest list, and nothing else.
func listen(addr string) *server {
	// For its first timer, the Go runtime opens two descriptors. It must not do that when
	// none is left, since that would end the program.
	time.Sleep(time.Nanosecond)

	a, err := netip.ParseAddrPort(addr)
	must("the argument host:port", err)
	s := &server{requests: make(map[int][]byte)}
	s.listener, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	must("socket", err)
	must("setsockopt", unix.SetsockoptInt(s.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must("bind", unix.Bind(s.listener,
		&unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}))
	must("listen", unix.Listen(s.listener, 4096))
	s.epoll, err = unix.EpollCreate1(0)
	must("epoll_create1", err)
	must("epoll_ctl", s.watch(s.listener))
	log.Print("listening on ", addr)
	return s
}

func must(call string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", call, err)
	}
}
