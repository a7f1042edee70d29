//go:build linux

// A level-triggered epoll proxy: what a client sends goes to a back end, and what the back
// end answers to the client. It mostly works: see README.md beside it.
package main

import (
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lingerTime  = time.Second            // from the response to close, at most
	acceptPause = 100                    // milliseconds, when descriptors have run out
	stopTime    = 500 * time.Millisecond // for the clients that are being served, at most
	highWater   = 64 << 10               // unsent bytes at which no more are read
	lowWater    = 16 << 10               // and at which they are read again
)

// none is the descriptor of a half that has been closed.
const none = -1

// A half is one of the two connections of a pair.
type half struct {
	pair     *pair
	other    *half
	fd       int
	interest uint32
	ended    bool   // its end of file has been read
	shut     bool   // it has been sent end of file
	unsent   []byte // what the other half has received for it
	full     bool   // unsent has so much that the other half must not read
}

// A pair is a client, and the connection to the back end that was made for it.
type pair struct {
	client, backEnd half
	connecting      bool // to the back end
	closed          bool
	deadline        time.Time // from the end of the response on
}

type server struct {
	listener int
	epoll    int                 // the descriptor of the interest list
	backEnd  *unix.SockaddrInet4 // its address
	buffer   [16 << 10]byte      // for one read
	halves   map[int]*half       // by descriptor
	ending   []*pair             // those with a deadline, in its order
	paused   bool                // accepts no client for a while: out of descriptors
	stopping bool                // accepts no client any more
	stopBy   time.Time           // when it is stopping
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

	addr, backEnd := "127.0.0.1:8080", "127.0.0.1:8081"
	if len(os.Args) > 1 {
		addr = os.Args[1]
	}
	if len(os.Args) > 2 {
		backEnd = os.Args[2]
	}
	s := &server{halves: make(map[int]*half), backEnd: parse(backEnd)}
	var err error
	s.listener, err = unix.Socket(unix.AF_INET,
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must("socket", err)
	must("setsockopt", unix.SetsockoptInt(s.listener,
		unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must("bind", unix.Bind(s.listener, parse(addr)))
	must("listen", unix.Listen(s.listener, 4096))
	s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must("epoll_create1", err)
	must("epoll_ctl", s.watch(unix.EPOLL_CTL_ADD, s.listener, unix.EPOLLIN))

	go func() {
		<-signals
		_ = unix.Shutdown(s.listener, unix.SHUT_RD) // epoll reports EPOLLHUP
	}()
	fmt.Fprintln(os.Stderr, "listening on", addr, "for", backEnd)
	s.serve()
}

// parse returns an address for bind and connect.
func parse(text string) *unix.SockaddrInet4 {
	a, err := netip.ParseAddrPort(text)
	must("host:port", err)
	return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
}

func must(call string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", call, err)
	}
}

// serve runs the event loop. It returns when it has been stopped, and the clients
// that were being served have ended or have had their time.
func (s *server) serve() {
	var events [128]unix.EpollEvent
	for !s.stopping || len(s.halves) > 0 && time.Now().Before(s.stopBy) {
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
				s.advance(s.halves[fd], event.Events)
			case event.Events&unix.EPOLLHUP != 0:
				stopping = true // the listener has been shut down
			default:
				accepting = true
			}
		}
		s.expire()

		// Accept last. Closing a connection frees its number, and accept
		// gives that number to a new one. If events of this batch were still to
		// come, the new connection could get those of the old one.
		if accepting {
			s.accept()
		}
		if stopping {
			s.stop()
		}
	}
}

// timeout returns how long epoll_wait may sleep, in milliseconds: until the next
// deadline, or forever if there is none. An idle proxy never wakes.
func (s *server) timeout() int {
	next := s.stopBy
	if len(s.ending) > 0 && (next.IsZero() || s.ending[0].deadline.Before(next)) {
		next = s.ending[0].deadline
	}
	switch {
	case s.paused:
		return acceptPause
	case next.IsZero():
		return -1
	}
	return max(int(time.Until(next)/time.Millisecond)+1, 0)
}

// expire closes the pairs whose time is over.
func (s *server) expire() {
	now := time.Now()
	for len(s.ending) > 0 && (s.ending[0].closed || now.After(s.ending[0].deadline)) {
		s.close(s.ending[0])
		s.ending = s.ending[1:]
	}
}

// accept takes one connection from the accept queue, and begins one to the back end. If
// there are more, the listener is still readable, and epoll reports it again.
func (s *server) accept() {
	fd, _, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err == unix.EMFILE || err == unix.ENFILE || err == unix.ENOBUFS || err == unix.ENOMEM {
		s.pause()
	}
	if err != nil {
		return // EAGAIN, ECONNABORTED: accept again after the next event
	}
	backEnd, err := s.connect()
	if err != nil {
		_ = unix.Close(fd)
		return
	}
	p := &pair{connecting: true}
	p.client = half{pair: p, other: &p.backEnd, fd: fd}
	p.backEnd = half{pair: p, other: &p.client, fd: backEnd}
	for _, h := range []*half{&p.client, &p.backEnd} {
		s.halves[h.fd] = h
		h.interest = h.wants()
		if s.watch(unix.EPOLL_CTL_ADD, h.fd, h.interest) != nil {
			s.close(p) // unwatched, it would never be served
			return
		}
	}
}

// connect begins a connection to the back end, and does not wait for it. EPOLLOUT
// reports that it is established, or that it has failed.
func (s *server) connect() (int, error) {
	fd, err := unix.Socket(unix.AF_INET,
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return none, err
	}
	err = unix.Connect(fd, s.backEnd)
	if err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return none, err
	}
	return fd, nil
}

// pause stops watching the listener. The connection that could not be accepted
// stays in the accept queue and keeps the listener readable. If it were watched, it
// would wake the loop again and again for nothing.
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

// advance lets a half continue, and then its pair.
func (s *server) advance(h *half, events uint32) {
	if h == nil {
		return // closed by an earlier event of the same batch
	}
	p := h.pair
	switch {
	case p.connecting && h == &p.backEnd:
		s.connected(p)
	case events&unix.EPOLLERR != 0:
		s.fail(h)
	case events&unix.EPOLLHUP != 0 && h == &p.client:
		s.close(p) // it has the response, and has ended, too
	default:
		if events&unix.EPOLLOUT != 0 {
			s.send(h)
		}
		if events&(unix.EPOLLIN|unix.EPOLLHUP) != 0 && !p.closed {
			s.receive(h)
		}
	}
	s.settle(p)
}

// connected asks whether the connection to the back end is established now. EPOLLOUT alone
// does not say so. Only an established connection has a peer.
func (s *server) connected(p *pair) {
	if _, err := unix.Getpeername(p.backEnd.fd); err != nil {
		return // ENOTCONN: not yet
	}
	p.connecting = false
	s.send(&p.backEnd)
}

// receive reads once, for the other half. What it leaves unread, epoll reports again in
// the next turn, after the other connections have had theirs.
func (s *server) receive(h *half) {
	n, err := unix.Read(h.fd, s.buffer[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil:
		s.fail(h)
	case n == 0:
		h.ended = true
	case h.other.fd != none:
		h.other.unsent = append(h.other.unsent, s.buffer[:n]...)
		s.send(h.other)
	}
}

// send sends until all is sent or the send buffer is full.
func (s *server) send(h *half) {
	for len(h.unsent) > 0 && !(h.pair.connecting && h == &h.pair.backEnd) {
		n, err := unix.Write(h.fd, h.unsent)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return
		case err != nil: // EPIPE, ECONNRESET
			s.fail(h)
			return
		}
		h.unsent = h.unsent[n:]
	}
	if len(h.unsent) == 0 {
		h.unsent = nil
	}
}

// fail ends a half on which a call has failed, and so the pair. But if the back end has
// sent its whole response, the client can still have it.
func (s *server) fail(h *half) {
	if h == &h.pair.backEnd && h.ended {
		s.drop(h)
	} else {
		s.close(h.pair)
	}
}

// settle passes on the ends of file, and asks for what each half waits for now.
func (s *server) settle(p *pair) {
	for _, h := range []*half{&p.backEnd, &p.client} {
		if h.fd != none && h.other.ended && len(h.unsent) == 0 && !h.shut {
			h.shut = true
			if unix.Shutdown(h.fd, unix.SHUT_WR) != nil {
				s.fail(h) // ENOTCONN: it has been reset
			}
		}
		if h.ended && h.shut { // then epoll would report EPOLLHUP, again and again
			s.drop(h)
		}
	}
	if p.client.fd == none {
		s.close(p)
	}
	if p.backEnd.ended && p.deadline.IsZero() {
		p.deadline = time.Now().Add(lingerTime)
		s.ending = append(s.ending, p)
	}
	for _, h := range []*half{&p.client, &p.backEnd} {
		h.other.measure()
		if want := h.wants(); h.fd != none && want != h.interest {
			h.interest = want
			_ = s.watch(unix.EPOLL_CTL_MOD, h.fd, want)
		}
	}
}

// measure finds out whether the half has too much to send. There are two marks: with
// one, the other half would be paused and resumed for each read.
func (h *half) measure() {
	switch n := len(h.unsent); {
	case n >= highWater:
		h.full = true
	case n <= lowWater:
		h.full = false
	}
}

// wants returns what a half waits for. As long as the other one cannot send, it does not
// read: its receive buffer fills, and TCP stops the sender.
func (h *half) wants() (events uint32) {
	if !h.ended && !h.other.full {
		events |= unix.EPOLLIN
	}
	if len(h.unsent) > 0 || h.pair.connecting && h == &h.pair.backEnd {
		events |= unix.EPOLLOUT
	}
	return events
}

// drop closes one half, which also removes it from the interest list. Nothing more comes
// from it, and what is sent to it is discarded.
func (s *server) drop(h *half) {
	if h.fd != none {
		delete(s.halves, h.fd)
		_ = unix.Close(h.fd) // Linux closes it whatever close returns
		h.fd, h.ended, h.shut, h.unsent = none, true, true, nil
	}
}

// close ends a pair.
func (s *server) close(p *pair) {
	p.closed = true
	s.drop(&p.client)
	s.drop(&p.backEnd)
}

// stop closes the listener. The proxy does not know which requests are complete. So it
// gives all clients some time, in which those are answered.
func (s *server) stop() {
	s.stopping = true
	s.stopBy = time.Now().Add(stopTime)
	_ = unix.Close(s.listener)
}

// watch sets an entry of the interest list: the events to report for fd.
func (s *server) watch(op, fd int, interest uint32) error {
	return unix.EpollCtl(s.epoll, op, fd, &unix.EpollEvent{Events: interest, Fd: int32(fd)})
}
