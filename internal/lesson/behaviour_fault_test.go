//go:build linux

package lesson_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/server"
)

// failing is what a server does when system calls fail or fall short: B7. Not
// netpoll: package net makes its calls, out of reach.
var failing = []behaviour{
	{"B7 a failing call costs one client at most", traced, failures},
	{"B7 lingering continues whatever its reads return", traced, lingersOn},
	{"B7 room in the send buffer comes in small portions", epolls, littleRoom},
	{"B7 a failing SO_RCVTIMEO costs one client at most", blocks, noReceiveTimeout},
	{"B7 whatever fails at random, no client notices", traced, failuresAtRandom},
	{"B7 a fatal error of accept4 ends the server", traced, fatalAccept},
	{"B7 a fatal error of the waiting call ends the server", eventLoop, fatalWait},
	{"B7 a server that cannot be made leaves nothing behind", every, failsToStart},
	{"B7 a port in use is an error", every, portInUse},
}

// These spell faults: calls that fail, one error each; the same, after n calls
// that do not; calls that take at most so many bytes.

func fail(errs ...error) []kernel.Fault {
	var faults []kernel.Fault
	for _, err := range errs {
		faults = append(faults, kernel.Fault{Err: err})
	}
	return faults
}

func atMost(bytes, times int) []kernel.Fault {
	return slices.Repeat([]kernel.Fault{{Limit: bytes}}, times)
}

func after(n int, errs ...error) []kernel.Fault {
	return append(make([]kernel.Fault, n), fail(errs...)...)
}

type script = map[string][]kernel.Fault

func failures(t *T, l lesson.Lesson) {
	eintr := []error{unix.EINTR, unix.EINTR, unix.EINTR}
	fine := counts{accepted: 1, served: 1}
	cases := []struct {
		name   string
		who    func(lesson.Lesson) bool
		faults script
		answer string // "" when the connection ends without one
		counts counts
	}{
		{"every call is interrupted", traced,
			script{"accept4": fail(eintr...), "read": fail(eintr...),
				"send": fail(eintr...), l.Waits: fail(eintr...)},
			response, fine},
		{"it is interrupted while it lingers", traced,
			script{"read": after(1, eintr...)}, response, fine},
		{"reads are of one byte", traced, script{"read": atMost(1, 50)}, response, fine},
		{"sends are of one byte", traced, script{"send": atMost(1, 200)}, response, fine},
		{"the send buffer is full", eventLoop,
			script{"send": fail(unix.EAGAIN)}, response, fine},
		{"the send buffer is full in mid-answer", eventLoop,
			script{"send": append(atMost(10, 2), fail(unix.EAGAIN)...)}, response, fine},
		// Edge-triggered, a second EAGAIN would be a lie: there is room.
		{"the send buffer is full again and again", level,
			script{"send": fail(unix.EAGAIN, unix.EAGAIN, unix.EAGAIN)}, response, fine},
		{"the client has gone before the answer: EPIPE", traced,
			script{"send": fail(unix.EPIPE)}, "", counts{accepted: 1, reset: 1}},
		{"the client has gone before the answer: ECONNRESET", traced,
			script{"send": fail(unix.ECONNRESET)}, "", counts{accepted: 1, reset: 1}},
		{"the client has gone before the request", traced,
			script{"read": fail(unix.ECONNRESET)}, "", counts{accepted: 1, reset: 1}},
		{"the client has gone after the answer: shutdown", traced,
			script{"shutdown": fail(unix.ENOTCONN)}, response, fine},
		{"close fails, and closes all the same", traced,
			script{"close": fail(unix.EIO)}, response, fine},
		{"TCP_CORK cannot be set", traced,
			script{"setsockopt": after(1, unix.EINVAL, unix.EINVAL)},
			response, fine},

		// The first epoll_ctl is for the listener.
		{"the connection cannot be watched: ENOSPC", epolls,
			script{"epoll_ctl": after(1, unix.ENOSPC)},
			"", counts{accepted: 1, refused: 1}},
		{"the connection cannot be watched: ENOMEM", epolls,
			script{"epoll_ctl": after(1, unix.ENOMEM)},
			"", counts{accepted: 1, refused: 1}},
		{"the connection cannot be watched for room", epolls,
			script{"send": fail(unix.EAGAIN), "epoll_ctl": after(2, unix.ENOMEM)},
			"", counts{accepted: 1}},
		{"the connection cannot be watched for its end", levelEpolls,
			script{"send": fail(unix.EAGAIN), "epoll_ctl": after(3, unix.ENOMEM)},
			response, fine},
		{"the listener cannot be left alone", levelEpolls,
			script{"accept4": fail(unix.EMFILE), "epoll_ctl": after(1, unix.ENOMEM)},
			response, fine},
		{"the listener cannot be watched again", levelEpolls,
			script{"accept4": fail(unix.EMFILE), "epoll_ctl": after(2, unix.ENOMEM)},
			response, fine},
	}
	t.Run("the client has gone after the answer: read", func(t *T) {
		r := newRig(t, l)
		r.wrap = faulty(onceSent(kernel.Script(script{"read": fail(unix.ECONNRESET)})))
		conn := r.dial()
		proof.Must(t, conn.Send([]byte(request)))
		answered(t, conn, response)
		proof.Must(t, conn.Close())
		proof.Eventually(t, "the fault has ended the connection, and not the next one", func() bool {
			return r.servers[0].ledger.connections() == 0
		})
		r.counted(fine)
		r.goesOn()
	})
	for _, c := range cases {
		if !c.who(l) {
			continue
		}
		t.Run(c.name, func(t *T) {
			r := newRig(t, l)
			r.options.Cork = true
			r.wrap = faulty(kernel.Script(c.faults))
			conn := r.dial()
			proof.Must(t, conn.Send([]byte(request)))
			if c.answer == "" {
				ended(t, conn)
			} else {
				answered(t, conn, c.answer)
			}
			proof.Must(t, conn.Close())
			r.counted(c.counts)
			r.goesOn()
		})
	}
}

// onceSent is a plan that begins with the first send. Reads cannot be counted up
// to there: a signal of the Go runtime's may interrupt any of them.
func onceSent(
	plan func(name string, fd int) (kernel.Fault, bool),
) func(name string, fd int) (kernel.Fault, bool) {
	var sent atomic.Bool
	return func(name string, fd int) (kernel.Fault, bool) {
		if name == "send" {
			sent.Store(true)
		}
		if !sent.Load() {
			return kernel.Fault{}, false
		}
		return plan(name, fd)
	}
}

// lingersOn: what comes after the answer is read to its end, although the reads
// are interrupted or bring one byte each. The server lingers for a second; a
// test that was too slow for that tries again.
func lingersOn(t *T, l lesson.Lesson) {
	faults := map[string][]kernel.Fault{
		"interrupted":     after(1, unix.EINTR, unix.EINTR, unix.EINTR),
		"of one byte":     append(after(1), atMost(1, 50)...),
		"both, and again": slices.Concat(after(2, unix.EINTR), atMost(1, 9), fail(unix.EINTR)),
	}
	for name, reads := range faults {
		t.Run(name, func(t *T) {
			for range 5 {
				if lingersOnOnce(t, l, slices.Clone(reads)) {
					return
				}
			}
			t.Error("the server has closed before it had read everything")
		})
	}
}

func lingersOnOnce(t *T, l lesson.Lesson, reads []kernel.Fault) bool {
	r := newRig(t, l)
	r.wrap = faulty(kernel.Script(script{"read": reads}))
	c := r.dial()
	proof.Must(t, c.Send([]byte(request)))
	answered(t, c, response)
	if c.Send([]byte("and another thing: so long")) != nil {
		return false
	}
	var read bool
	proof.Eventually(t, "the server has read everything, or closed", func() bool {
		unread, onTheirWay, ok := t.machine.queued(c)
		read = ok && unread == 0 && onTheirWay == 0
		return read || r.servers[0].ledger.connections() == 0
	})
	proof.Must(t, c.Close())
	return read
}

// A narrowKernel has send buffers of ten bytes. Once one is full, send fails
// with EAGAIN until epoll_wait has reported EPOLLOUT, which it does only if the server
// has asked for it.
type narrowKernel struct {
	kernel.Kernel
	interest map[int]uint32 // of every descriptor
	full     map[int]bool
}

func (k *narrowKernel) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	k.interest[fd] = event.Events
	return k.Kernel.EpollCtl(epfd, op, fd, event)
}

func (k *narrowKernel) Send(fd int, p []byte, flags int) (int, error) {
	if k.full[fd] {
		return -1, unix.EAGAIN
	}
	k.full[fd] = true
	return k.Kernel.Send(fd, p[:min(10, len(p))], flags)
}

func (k *narrowKernel) EpollWait(
	epfd int, events []unix.EpollEvent, milliseconds int,
) (int, error) {
	for fd, full := range k.full {
		if full && k.interest[fd]&unix.EPOLLOUT != 0 {
			k.full[fd] = false
			events[0] = unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)}
			return 1, nil
		}
	}
	return k.Kernel.EpollWait(epfd, events, milliseconds)
}

func (k *narrowKernel) Close(fd int) error {
	delete(k.full, fd)
	delete(k.interest, fd)
	return k.Kernel.Close(fd)
}

func littleRoom(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	r.wrap = func(k kernel.Kernel) kernel.Kernel {
		return &narrowKernel{Kernel: k, interest: make(map[int]uint32), full: make(map[int]bool)}
	}
	for _, extra := range []string{"", request} {
		c := r.dial()
		proof.Must(t, c.Send([]byte(request+extra)))
		answered(t, c, response)
		proof.Must(t, c.Close())
	}
	r.counted(counts{accepted: 2, served: 2})
}

// A failingTimeval is a Kernel that cannot set times, once it has set some.
type failingTimeval struct {
	kernel.Kernel
	good atomic.Int64
}

func (k *failingTimeval) SetsockoptTimeval(fd, level, name int, d time.Duration) error {
	if k.good.Add(-1) < 0 {
		return unix.ENOMEM
	}
	return k.Kernel.SetsockoptTimeval(fd, level, name, d)
}

// A read that cannot be bounded is not made.
func noReceiveTimeout(t *T, l lesson.Lesson) {
	cases := []struct {
		name   string
		good   int64
		answer string
		counts counts
	}{
		{"before the request", 0, "", counts{accepted: 1, timedOut: 1}},
		{"after the answer", 1, response, counts{accepted: 1, served: 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *T) {
			r := newRig(t, l)
			r.wrap = func(k kernel.Kernel) kernel.Kernel {
				f := &failingTimeval{Kernel: k}
				f.good.Store(c.good)
				return f
			}
			conn := r.dial()
			if c.answer == "" {
				ended(t, conn)
			} else {
				proof.Must(t, conn.Send([]byte(request)))
				answered(t, conn, c.answer)
				gone(t, conn)
			}
			r.counted(c.counts)
		})
	}
}

// Some clients send in pieces and with a body, so that there is more to fail.
func failuresAtRandom(t *T, l lesson.Lesson) {
	const share = 0.15
	clients := 100
	if !many(l) { // here every pause of accept is waited for, one after the other
		clients = 30
	}
	// EAGAIN on a blocking socket is a timeout, and edge-triggered it is the
	// promise of an event: only a level-triggered loop takes it lightly.
	again := level(l)
	for _, seed := range []uint64{1, 2, 3} {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *T) {
			t.Parallel()
			r := newRig(t, l)
			r.wrap = faulty(kernel.Seeded(seed, share, again))
			const abreast = 10
			for first := 0; first < clients; first += abreast {
				var conns []*play.Conn
				for range abreast {
					c := r.dial()
					conns = append(conns, c)
				}
				for i, c := range conns {
					if i%2 == 0 {
						proof.Must(t, c.SendSlowly(play.Cut([]byte(request), 3, len(request)-1), nil))
					} else {
						proof.Must(t, c.Send([]byte(request+strings.Repeat("x", 3000))))
					}
				}
				for _, c := range conns {
					answered(t, c, response)
					proof.Must(t, c.Close())
				}
				if t.Failed() {
					return
				}
			}
			n := int64(clients)
			r.counted(counts{accepted: n, served: n})
		})
	}
}

// fatalAccept: accept4 fails, if the structure allows it while a client is in
// mid-request. That one is closed, and Serve says what went wrong.
func fatalAccept(t *T, l lesson.Lesson) {
	// EINVAL is what Stop makes of accept4: without a Stop it is an error like others.
	for _, errno := range []unix.Errno{unix.EBADF, unix.EINVAL} {
		t.Run(errno.Error(), func(t *T) { fatalAcceptOf(t, l, errno) })
	}
}

func fatalAcceptOf(t *T, l lesson.Lesson, errno unix.Errno) {
	var broken atomic.Bool
	r := newRig(t, l)
	r.fails = errno
	r.wrap = faulty(func(name string, fd int) (kernel.Fault, bool) {
		if name == "accept4" && broken.Load() {
			return kernel.Fault{Err: errno}, true
		}
		return kernel.Fault{}, false
	})
	if !many(l) {
		broken.Store(true)
		r.start()
		r.endsByItself()
		return
	}
	half := r.dial()
	proof.Must(t, half.Send([]byte("GET /")))
	digested(t, half)
	broken.Store(true)
	// A blocked accept4 takes the next client, and fails at the one after. The
	// others fail so soon that not even the client's connect need succeed.
	if last, err := r.connect(r.servers[0].Addr()); err == nil {
		defer last.Close()
		defer ended(t, last)
	}
	r.endsByItself()
	ended(t, half)
}

// endsByItself wants Serve to return without being asked, and with r.fails.
func (r *rig) endsByItself() {
	r.t.Helper()
	for _, s := range r.servers {
		select {
		case err := <-s.ended:
			s.ended <- err // for stop
		case <-time.After(r.t.stopBound()):
			r.t.Errorf("Serve has not returned after %v", r.t.stopBound())
		}
	}
	r.stop()
}

// fatalWait: the call in which it waits fails, with one client in mid-request, one that
// lingers, and accept paused.
func fatalWait(t *T, l lesson.Lesson) {
	var broken, starving atomic.Bool
	var starved atomic.Int64
	r := newRig(t, l)
	r.fails = unix.EBADF
	r.wrap = faulty(func(name string, fd int) (kernel.Fault, bool) {
		switch {
		case name == l.Waits && broken.Load():
			return kernel.Fault{Err: unix.EBADF}, true
		case name == "accept4" && starving.Load():
			starved.Add(1)
			return kernel.Fault{Err: unix.EMFILE}, true
		}
		return kernel.Fault{}, false
	})
	half, lingers := r.dial(), r.dial()
	proof.Must(t, half.Send([]byte("GET /")))
	digested(t, half)
	proof.Must(t, lingers.Send([]byte(request)))
	answered(t, lingers, response)
	starving.Store(true)
	waits := r.dial()
	proof.Eventually(t, "accept4 has failed", func() bool { return starved.Load() > 0 })
	broken.Store(true)
	proof.Must(t, half.Send([]byte("x"))) // wakes it
	r.endsByItself()
	ended(t, half)
	ended(t, lingers)
	ended(t, waits)
}

// failingSetup is a Kernel in which the calls fail that Faulty leaves alone.
type failingSetup struct {
	kernel.Kernel
	name string
}

func (k *failingSetup) Bind(fd int, addr netip.AddrPort) error {
	if k.name == "bind" {
		return unix.EACCES
	}
	return k.Kernel.Bind(fd, addr)
}

func (k *failingSetup) Getsockname(fd int) (netip.AddrPort, error) {
	if k.name == "getsockname" {
		return netip.AddrPort{}, unix.ENOBUFS
	}
	return k.Kernel.Getsockname(fd)
}

func failsToStart(t *T, l lesson.Lesson) {
	cases := []struct {
		call string
		err  error
		who  func(lesson.Lesson) bool
	}{
		{"socket", unix.EMFILE, traced},
		{"setsockopt", unix.ENOPROTOOPT, every},
		{"bind", unix.EACCES, traced},
		{"listen", unix.EADDRINUSE, every},
		{"getsockname", unix.ENOBUFS, traced},
		{"epoll_create1", unix.EMFILE, epolls},
		{"epoll_ctl", unix.ENOSPC, epolls},
	}
	for _, c := range cases {
		if !c.who(l) {
			continue
		}
		books := &ledger{Kernel: t.machine.kernel(l), open: make(map[int]string)}
		k := faulty(kernel.Script(script{c.call: fail(c.err)}))(
			&failingSetup{Kernel: books, name: c.call})
		_, err := l.Start(k, newRig(t, l).options)
		if !errors.Is(err, c.err) {
			t.Errorf("%s failed, and Start with %v, want %v", c.call, err, c.err)
		}
		if err != nil && traced(l) && !strings.HasPrefix(err.Error(), c.call) {
			t.Errorf("%q does not say that it was %s", err, c.call)
		}
		books.settle(t)
	}
}

func portInUse(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	s := r.listen()
	s.serve()
	books := &ledger{Kernel: t.machine.kernel(l), open: make(map[int]string)}
	options := server.Options{Addr: s.Addr(), Backlog: 1, MaxConns: 1}
	if _, err := l.Start(books, options); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Start on a port in use: %v, want %v", err, unix.EADDRINUSE)
	}
	books.settle(t)
	c := r.dialTo(s.Addr()) // the other one has not noticed
	proof.Must(t, c.Send([]byte(request)))
	answered(t, c, response)
}
