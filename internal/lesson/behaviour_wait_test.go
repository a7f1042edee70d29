//go:build linux

package lesson_test

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/server"
)

// waiting is what a server costs while it waits, and per client: B9, B15, B16.
var waiting = []behaviour{
	{"B9 idle is idle whatever is pending", traced, idle},
	{"B9 idle is idle also when a lingering client has been given up", traced, idleAfterLinger},
	{"B15 at most max-conns threads run, and the other connections wait in the queue", threads, fullHouse},
	{"B15 a stop ends a server whose threads are all taken", threads, stopFullHouse},
	{"B16 each client costs exactly the counted system calls", traced, systemCalls},
	{"B16 the listener is a plain TCP socket", every, plainTCP},
}

// atRest wants a server that makes no system call for a while. A few are allowed
// at its beginning: kernel.Linux waits in epoll_wait twice when it waits for
// long, a moment raw and then the other way; the Go runtime may interrupt the
// raw one; and the server may not have got there yet. A server that looks for
// work every 100 ms always makes more.
func (s *running) atRest(t testing.TB) {
	t.Helper()
	const watched, allowed, tries = 500 * time.Millisecond, 4, 5
	var made []int64
	for range tries {
		calls := s.calls()
		time.Sleep(watched)
		if calls = s.calls() - calls; calls <= allowed {
			return
		}
		made = append(made, calls)
	}
	t.Errorf("made %d system calls in %v each with nothing to do, want at most %d",
		made, watched, allowed)
}

func idle(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	pending := 1
	if many(l) {
		pending = 5
		r.asks()
		gone := r.dial()
		proof.Must(t, gone.Send([]byte("GET /")))
		proof.Must(t, gone.HalfClose())
		unanswered(t, gone)
		done := r.dial()
		proof.Must(t, done.Send([]byte(request)))
		proof.Must(t, done.HalfClose())
		answered(t, done, response)
		lost := r.dial()
		proof.Must(t, lost.Send([]byte("GET /")))
		digested(t, lost)
		proof.Must(t, lost.Reset())
		r.counted(counts{accepted: 4, served: 2, left: 1, reset: 1})
	}
	for i := range pending {
		c := r.dial()
		if i > 0 { // the first says nothing at all
			proof.Must(t, c.Send([]byte("GET / HTTP/1.0\r\n")))
		}
		digested(t, c)
	}
	s := r.servers[0]
	proof.Eventually(t, "only those in mid-request are left", func() bool {
		return s.ledger.connections() == pending
	})
	s.atRest(t)
}

func idleAfterLinger(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	c := r.dial()
	proof.Must(t, c.Send([]byte(request)))
	answered(t, c, response)
	gone(t, c) // it has never closed
	r.servers[0].atRest(t)
}

// fullHouse: the fourth client waits, at no cost, until one of three leaves.
func fullHouse(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	r.options.MaxConns = 3
	var stuck []*play.Conn
	for range 3 {
		c := r.dial()
		proof.Must(t, c.Send([]byte("GET /")))
		digested(t, c)
		stuck = append(stuck, c)
	}
	fourth := r.dial()
	proof.Must(t, fourth.Send([]byte(request)))
	if got, err := fourth.Read(1, 100*time.Millisecond); !errors.Is(err, play.ErrTimeout) {
		t.Errorf("the fourth client got %q, %v", got, err)
	}
	r.servers[0].atRest(t)
	if got := r.counts().accepted; got != 3 {
		t.Errorf("accepted %d, want 3", got)
	}
	proof.Must(t, stuck[1].Close())
	answered(t, fourth, response)
	proof.Must(t, fourth.Close())

	var conns []*play.Conn
	for range 20 { // and a crowd
		c := r.dial()
		proof.Must(t, c.Send([]byte(request)))
		conns = append(conns, c)
	}
	for _, c := range conns {
		answered(t, c, response)
		proof.Must(t, c.Close())
	}
	r.counted(counts{accepted: 24, served: 21, left: 1})
	if most := r.servers[0].ledger.most; most > 3 {
		t.Errorf("had %d connections at a time, want at most 3", most)
	}
}

// stopFullHouse: the server waits neither in accept4 nor in read.
func stopFullHouse(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	r.options.MaxConns = 2
	for range 2 {
		c := r.dial()
		proof.Must(t, c.Send([]byte("GET /")))
		digested(t, c)
	}
	r.servers[0].atRest(t)
	r.stopsInTime()
}

// systemCalls serves one client after the other, from connect to close, that never
// hurry the server.
func systemCalls(t *T, l lesson.Lesson) {
	if len(l.Calls) == 0 {
		t.Fatal("the registry has no system calls for this lesson")
	}
	tries := 5
	if !t.alone {
		tries = 50 // in one of them, no client is late
	}
	for range tries {
		if systemCallsOf(t, l) {
			return
		}
	}
	t.Fatal("this machine is too slow to serve a client within half a second")
}

// systemCallsOf returns false when a client took so long that the server may
// have given up lingering.
func systemCallsOf(t *T, l lesson.Lesson) bool {
	waitsIn := "read"
	if eventLoop(l) {
		waitsIn = l.Waits
	}
	var w watcher
	defer func() {
		if t.Failed() {
			t.Log(w.told())
		}
	}()
	r := newRig(t, l)
	r.wrap = w.over
	s := r.listen()
	atFirst := w.all()
	s.serve()
	began := time.Now()
	late := func() bool { return time.Since(began) > server.LingerTime/2 }
	waits := func(n int) {
		t.Helper()
		proof.Eventually(t, "the server waits for the client", func() bool {
			return w.entered(waitsIn) == n || late()
		})
	}
	if eventLoop(l) {
		waits(1)
		atFirst = w.all() // the first wait belongs to no client
	}
	clients := 5
	if r.onlyOne() {
		clients = 1
	}
	for range clients {
		began = time.Now()
		before := w.entered(waitsIn)
		c := r.dialTo(s.Addr())
		waits(before + 1)
		proof.Must(t, c.Send([]byte(request)))
		answered(t, c, response)
		waits(before + 2)
		proof.Must(t, c.Close())
		proof.Eventually(t, "the server has closed the connection", func() bool {
			return s.ledger.connections() == 0
		})
		if eventLoop(l) {
			waits(before + 3)
		}
		if late() {
			return false
		}
	}
	if r.onlyOne() {
		r.endsByItself()
	} else if !eventLoop(l) { // the last accept4 belongs to no client
		proof.Eventually(t, "the server waits for the next client", func() bool {
			return w.entered("accept4") == clients+1
		})
		atFirst["accept4"]++
	}
	if blocks(l) { // after an interrupted read, the time for the next is set again
		atFirst["setsockopt"] += w.interrupted["read"]
	}
	for name, n := range w.all() {
		if got := n - atFirst[name]; got != clients*l.Calls[name] {
			t.Errorf("%d clients cost %d %s, want %d each", clients, got, name, l.Calls[name])
		}
	}
	return true
}

// The five are compared: they must not differ in the kind of their sockets.
func plainTCP(t *T, l lesson.Lesson) {
	t.onlyOnLinux("the protocol of a socket is asked of Linux")
	r := newRig(t, l)
	s := r.listen()
	found := 0
	for _, fd := range openDescriptors() {
		looking.RLock()
		own, err := unix.Getsockname(fd)
		looking.RUnlock()
		if err != nil {
			continue
		}
		if addr, _ := kernel.AddrPort(own); addr != s.Addr() {
			continue
		}
		found++
		protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		if err != nil || protocol != unix.IPPROTO_TCP {
			t.Errorf("the listener's protocol is %d, %v, want %d", protocol, err, unix.IPPROTO_TCP)
		}
	}
	if found != 1 {
		t.Errorf("%d sockets at %v, want 1", found, s.Addr())
	}
	s.serve()
}
