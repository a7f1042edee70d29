//go:build linux

package lesson_test

import (
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

// exact are behaviours whose bounds can be held to the byte and to the microsecond: only
// in virtual time, where no machine is slow.
var exact = []behaviour{
	{"B3 lingering ends after a megabyte, to the byte", every, lingerBytesExactly},
	{"B6 a read with less than a microsecond left times out", blocks, lastMicrosecond},
	{"B7 a connection that cannot be watched for room is closed at once", epolls, unwatchedRoom},
	{"B8 a connection that cannot be watched makes accept pause", epolls, unwatchedPauses},
	{"B8 a listener that cannot be watched again is retried only after a pause", levelEpolls, unwatchedListener},
	{"B8 a descriptor that is closed ends the pause of accept", epolls, closeEndsPause},
	{"B8 events of other descriptors do not end the pause of accept", epolls, eventsDuringPause},
}

func lingerBytesExactly(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	c := r.dial()
	proof.Must(t, c.Send([]byte(request)))
	answered(t, c, response)
	proof.Must(t, c.Send([]byte(strings.Repeat("x", server.LingerBytes))))
	digested(t, c)
	if t.machine.theirs(c) < 0 {
		t.Errorf("closed after %d bytes", server.LingerBytes)
	}
	proof.Must(t, c.Send([]byte("x")))
	gone(t, c)
}

// SO_RCVTIMEO counts microseconds, and 0 of them are forever.
func lastMicrosecond(t *T, l lesson.Lesson) {
	const less = 500 * time.Nanosecond
	r := newRig(t, l)
	r.options.Timeout = short + less
	c := r.dial()
	time.Sleep(short - transit)
	proof.Must(t, c.Send([]byte("x")))
	unanswered(t, c)
	r.counted(counts{accepted: 1, timedOut: 1})
}

func unwatchedRoom(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	r.wrap = faulty(kernel.Script(script{"send": fail(unix.EAGAIN), "epoll_ctl": after(2, unix.ENOMEM)}))
	c := r.dial()
	began := time.Now()
	proof.Must(t, c.Send([]byte(request)))
	ended(t, c)
	if took := time.Since(began); took >= server.LingerTime {
		t.Errorf("closed after %v, want at once", took)
	}
}

func unwatchedPauses(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	r.wrap = faulty(kernel.Script(script{"epoll_ctl": after(1, unix.ENOSPC)}))
	s := r.listen()
	refused, next := r.dialTo(s.Addr()), r.dialTo(s.Addr())
	proof.Must(t, next.Send([]byte(request)))
	began := time.Now()
	s.serve()
	answered(t, next, response)
	if took := time.Since(began); took < server.AcceptPause {
		t.Errorf("accepted again after %v, want at least %v", took, server.AcceptPause)
	}
	ended(t, refused)
}

func unwatchedListener(t *T, l lesson.Lesson) {
	var starving atomic.Bool
	starving.Store(true)
	r := newRig(t, l)
	listening := false
	r.wrap = faulty(func(name string, fd int) (kernel.Fault, bool) {
		switch {
		case !starving.Load():
		case name == "accept4":
			return kernel.Fault{Err: unix.EMFILE}, true
		case name == "epoll_ctl" && !listening, name == "epoll_ctl" && r.servers[0].calls() < starvedCalls(0):
			listening = true // the listener is added, and left alone when accept4 fails
		case name == "epoll_ctl":
			return kernel.Fault{Err: unix.ENOMEM}, true
		}
		return kernel.Fault{}, false
	})
	s := r.listen()
	c := r.dialTo(s.Addr())
	proof.Must(t, c.Send([]byte(request)))
	s.serve()
	time.Sleep(starvedFor)
	calls := s.calls()
	time.Sleep(starvedFor)
	if calls = s.calls() - calls; calls > starvedCalls(starvedFor) {
		t.Errorf("made %d system calls in %v, want at most %d", calls, starvedFor, starvedCalls(starvedFor))
	}
	starving.Store(false)
	answered(t, c, response)
}

// starve lets accept4 fail while full returns true. It returns how often that was.
func (r *rig) starve(full func() bool) *atomic.Int64 {
	var failed atomic.Int64
	r.wrap = faulty(func(name string, fd int) (kernel.Fault, bool) {
		if name != "accept4" || !full() {
			return kernel.Fault{}, false
		}
		failed.Add(1)
		return kernel.Fault{Err: unix.EMFILE}, true
	})
	return &failed
}

func closeEndsPause(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	failed := r.starve(func() bool { return r.servers[0].ledger.connections() > 0 })
	first := r.dial()
	accepted(t, first)
	waits := r.dial()
	proof.Must(t, waits.Send([]byte(request)))
	proof.Eventually(t, "accept4 has failed", func() bool { return failed.Load() > 0 })
	began := time.Now()
	proof.Must(t, first.Close())
	answered(t, waits, response)
	if took := time.Since(began); took >= server.AcceptPause/2 {
		t.Errorf("accepted %v after a descriptor was free, want at once", took)
	}
}

func eventsDuringPause(t *T, l lesson.Lesson) {
	var starving atomic.Bool
	r := newRig(t, l)
	failed := r.starve(starving.Load)
	others := []*play.Conn{r.dial(), r.dial()}
	for _, c := range others {
		accepted(t, c)
	}
	starving.Store(true)
	waits := r.dial()
	proof.Eventually(t, "accept4 has failed", func() bool { return failed.Load() > 0 })
	for range 20 {
		for _, c := range others {
			proof.Must(t, c.Send([]byte("x")))
			digested(t, c)
		}
	}
	if n := failed.Load(); n > 1 {
		t.Errorf("accept4 was tried %d times in a pause", n)
	}
	starving.Store(false)
	proof.Must(t, waits.Send([]byte(request)))
	answered(t, waits, response)
}
