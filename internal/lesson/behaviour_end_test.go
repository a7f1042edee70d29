//go:build linux

package lesson_test

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/proof"
)

// ending is how a client ends the connection, or fails to: B4, B5, B6 by time.
var ending = []behaviour{
	{"B4 an end of file before the terminator is not answered", every, leaves},
	{"B4 a client that half-closes after its request is answered", every, halfCloses},
	{"B5 a reset at any moment costs that connection only", every, resets},
	{"B5 a reset in the accept queue costs that connection only", again, resetsInQueue},
	{"B6 a silent client is closed after the timeout", every, silent},
	{"B6 dripping bytes does not extend the timeout", every, drips},
	{"B6 a timeout of 0 means no timeout", every, noTimeout},
}

func leaves(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	starts := []string{"", "G", "GET / HTTP/1.0\r\n", "GET / HTTP/1.0\r\n\r"}
	for _, start := range starts {
		c := r.dial()
		proof.Must(t, c.Send([]byte(start)))
		proof.Must(t, c.HalfClose())
		unanswered(t, c)
		proof.Must(t, c.Close())

		c = r.dial()
		proof.Must(t, c.Send([]byte(start)))
		proof.Must(t, c.Close())
	}
	n := int64(2 * len(starts))
	r.counted(counts{accepted: n, left: n})
	r.goesOn()
}

func halfCloses(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	for _, rest := range []string{"", "a body"} {
		c := r.dial()
		proof.Must(t, c.Send([]byte(request+rest)))
		proof.Must(t, c.HalfClose())
		answered(t, c, response)
		proof.Must(t, c.Close())
	}
	r.counted(counts{accepted: 2, served: 2})
}

func resets(t *T, l lesson.Lesson) {
	moments := []struct {
		name   string
		before func(*T, *rig, *play.Conn)
	}{
		{"before any byte", func(t *T, r *rig, c *play.Conn) {
			accepted(t, c)
		}},
		{"in mid-request", func(t *T, r *rig, c *play.Conn) {
			proof.Must(t, c.Send([]byte("GET /")))
			digested(t, c)
		}},
		{"with bytes of the request unread", func(t *T, r *rig, c *play.Conn) {
			accepted(t, c)
			proof.Must(t, c.Send([]byte("GET /")))
		}},
		{"after the request, before the answer", func(t *T, r *rig, c *play.Conn) {
			accepted(t, c)
			proof.Must(t, c.Send([]byte(request)))
		}},
		{"before the answer was read", func(t *T, r *rig, c *play.Conn) {
			before := r.counts().served
			proof.Must(t, c.Send([]byte(request)))
			proof.Eventually(t, "it has been answered", func() bool { return r.counts().served > before })
		}},
		{"in the middle of the answer", func(t *T, r *rig, c *play.Conn) {
			proof.Must(t, c.Send([]byte(request)))
			_, err := c.Read(10, patience)
			proof.Must(t, err)
		}},
		{"after the answer", func(t *T, r *rig, c *play.Conn) {
			proof.Must(t, c.Send([]byte(request)))
			answered(t, c, response)
		}},
		{"after the answer, with a body unread", func(t *T, r *rig, c *play.Conn) {
			proof.Must(t, c.Send([]byte(request)))
			answered(t, c, response)
			proof.Must(t, c.Send([]byte(request)))
		}},
	}
	for _, m := range moments {
		t.Run(m.name, func(t *T) {
			r := newRig(t, l)
			for range 5 { // some of these are races, and any outcome is right
				c := r.dial()
				m.before(t, r, c)
				proof.Must(t, c.Reset())
			}
			r.goesOn()
		})
	}
}

// The connection is complete, and reset, before the server serves at all.
func resetsInQueue(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	s := r.listen()
	for _, start := range []string{"", "GET /", request} {
		c := r.dial()
		proof.Must(t, c.Send([]byte(start)))
		proof.Must(t, c.Reset())
	}
	s.serve()
	r.goesOn()
}

const short = 150 * time.Millisecond // a timeout that tests can wait for

// goesOnInTime is goesOn for a server with a short timeout, in which this machine
// may be too slow to ask: then once more.
func (r *rig) goesOnInTime() {
	r.t.Helper()
	if r.onlyOne() {
		r.stop()
		return
	}
	proof.Eventually(r.t, "a client is served again", func() bool {
		c := r.dial()
		defer c.Close()
		if c.Send([]byte(request)) != nil {
			return false
		}
		got, err := c.ReadAll(patience)
		return string(got) == response && err == nil
	})
}

func silent(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	r.options.Timeout = short
	n := int64(0)
	for _, start := range []string{"", "GET / HTTP/1.0\r\n"} {
		proof.Eventually(t, "a client sends in time", func() bool {
			began := time.Now()
			c := r.dial()
			n++
			sent := c.Send([]byte(start))
			late := time.Since(began) >= short // then it may be answered with a reset
			got, end := c.ReadAll(patience)
			if took := time.Since(began); took < short {
				t.Errorf("closed after %v, before the timeout of %v", took, short)
			}
			if failed := errors.Join(sent, end); len(got) > 0 || failed != nil && !late {
				t.Errorf("the client got %q, %v, want nothing, and end of file", got, failed)
			}
			proof.Must(t, c.Close())
			return !late
		})
	}
	r.counted(counts{accepted: n, timedOut: n})
	r.goesOnInTime()
}

func drips(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	r.options.Timeout = short
	began := time.Now()
	c := r.dial()
	tick := time.NewTicker(short / 15)
	defer tick.Stop()
	for c.Send([]byte("x")) == nil { // until the server has closed
		if time.Since(began) > patience {
			t.Fatalf("one byte every %v has kept the connection open", short/15)
		}
		<-tick.C
	}
	if took := time.Since(began); took < short {
		t.Errorf("closed after %v, before the timeout of %v", took, short)
	}
	ended(t, c) // a byte that came too late was answered with a reset
	r.counted(counts{accepted: 1, timedOut: 1})
	r.goesOnInTime()
}

func noTimeout(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	r.options.Timeout = 0
	c := r.dial()
	proof.Must(t, c.Send([]byte(request[:5])))
	if got, err := c.ReadAll(2 * short); err != play.ErrTimeout {
		t.Fatalf("in mid-request, the client got %q, %v", got, err)
	}
	proof.Must(t, c.Send([]byte(request[5:])))
	answered(t, c, response)
	proof.Must(t, c.Close())
	r.counted(counts{accepted: 1, served: 1})
}

// stopping is what Stop does: B12.
var stopping = []behaviour{
	{"B12 a stop ends a server without clients", every, stopIdle},
	{"B12 a stop before serving ends it at once", every, stopFirst},
	{"B12 a stop ends a server that has served", again, stopAfterServing},
	{"B12 a stop closes a request that is not complete", every, stopHalfRequest},
	{"B12 a stop answers a request that has arrived", every, stopArrived},
	{"B12 a stop answers a request that arrives just after it", eventLoop, stopArriving},
	{"B12 a stop waits for a client that lingers, but not long", every, stopLingering},
	{"B12 a stop between a client's arrival and accept", traced, stopBeforeAccept},
	{"B12 a stop ends a server that lacks descriptors", traced, stopStarving},
}

// stopsInTime stops the rig's server and wants Serve to return nil in time.
func (r *rig) stopsInTime() {
	r.t.Helper()
	began := time.Now()
	r.stop()
	if took := time.Since(began); took > r.t.stopBound() {
		r.t.Errorf("took %v to stop, want at most %v", took, r.t.stopBound())
	}
}

// stopBound bounds a stop. A busy machine may take longer: it is exact in virtual time.
func (t *T) stopBound() time.Duration {
	if t.alone {
		return 2 * time.Second
	}
	return patience
}

func stopIdle(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	var w watcher
	r.wrap = w.over
	r.start()
	if traced(l) {
		proof.Eventually(t, "the server waits for clients", func() bool {
			return w.at() == "accept4" || w.at() == l.Waits
		})
	}
	r.stopsInTime()
	for _, s := range r.servers {
		s.Stop() // once more does no harm
	}
}

func stopFirst(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	s := r.listen()
	s.Stop()
	s.serve()
	r.stopsInTime()
}

func stopAfterServing(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	for range 3 {
		r.asks()
	}
	r.stopsInTime()
	if got, want := r.counts(), (counts{accepted: 3, served: 3}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

func stopHalfRequest(t *T, l lesson.Lesson) {
	for _, start := range []string{"", "GET / HTTP/1.0\r\n"} {
		r := newRig(t, l)
		c := r.dial()
		proof.Must(t, c.Send([]byte(start)))
		digested(t, c)
		r.stopsInTime()
		ended(t, c)
		if got, want := r.counts(), (counts{accepted: 1, left: 1}); got != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
	}
}

// The request lies in the receive buffer, and the server has not read it yet. A
// gate before read makes sure of that; netpoll has none, so there it is left
// to chance, many times.
func stopArrived(t *T, l lesson.Lesson) {
	rounds := 1
	if l.Untraced {
		rounds = 100
	}
	for range rounds {
		gate := make(chan struct{})
		w := watcher{enter: func(c *trace.Call) {
			if c.Name == "read" {
				<-gate
			}
		}}
		r := newRig(t, l)
		r.wrap = w.over
		c := r.dial()
		accepted(t, c)
		proof.Must(t, c.Send([]byte(request)))
		arrived(t, c)
		r.servers[0].Stop()
		close(gate)
		answered(t, c, response)
		proof.Must(t, c.Close())
		r.stopsInTime()
		if got, want := r.counts(), (counts{accepted: 1, served: 1}); got != want {
			t.Fatalf("counted %+v, want %+v", got, want)
		}
	}
}

// An event loop to which epoll reports only the stop looks once more at every
// connection before it closes it.
func stopArriving(t *T, l lesson.Lesson) {
	told, gate := make(chan struct{}), make(chan struct{})
	r := newRig(t, l)
	var w watcher
	var stop atomic.Bool
	w.leave = func(c *trace.Call) {
		if c.Name == l.Waits && c.Result > 0 && stop.CompareAndSwap(true, false) {
			close(told)
			<-gate
		}
	}
	r.wrap = w.over
	c := r.dial()
	accepted(t, c)
	proof.Eventually(t, "the server waits for the request", func() bool { return w.at() == l.Waits })
	stop.Store(true)
	r.servers[0].Stop()
	<-told
	proof.Must(t, c.Send([]byte(request)))
	arrived(t, c)
	close(gate)
	answered(t, c, response)
	proof.Must(t, c.Close())
	r.stopsInTime()
}

func stopLingering(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	c := r.dial()
	proof.Must(t, c.Send([]byte(request)))
	answered(t, c, response) // and now the client does not close
	r.stopsInTime()
	if theirs := t.machine.theirs(c); theirs >= 0 {
		t.Error("Serve has returned while a client was still being served")
	}
	if got, want := r.counts(), (counts{accepted: 1, served: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// The server knows that a client has come, or is about to ask, when it is
// stopped: the accept that follows fails with EINVAL.
func stopBeforeAccept(t *T, l lesson.Lesson) {
	at, gate := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	w := watcher{enter: func(c *trace.Call) {
		if c.Name == "accept4" && once.CompareAndSwap(false, true) {
			close(at)
			<-gate
		}
	}}
	r := newRig(t, l)
	r.wrap = w.over
	c := r.dial()
	<-at
	r.servers[0].Stop()
	close(gate)
	ended(t, c)
	r.stopsInTime()
	if got := r.counts(); got != (counts{}) {
		t.Errorf("counted %+v, want nothing", got)
	}
}

// Out of descriptors, a server leaves accept alone for a while. That must not
// make it deaf, and not restless either while its last client lingers.
func stopStarving(t *T, l lesson.Lesson) {
	const mostCalls = 50
	var starving atomic.Bool
	var failed atomic.Int64
	r := newRig(t, l)
	r.wrap = faulty(func(name string, fd int) (kernel.Fault, bool) {
		if name != "accept4" || !starving.Load() {
			return kernel.Fault{}, false
		}
		failed.Add(1)
		return kernel.Fault{Err: unix.EMFILE}, true
	})
	s := r.listen()
	if many(l) {
		s.serve()
		lingers := r.dialTo(s.Addr())
		proof.Must(t, lingers.Send([]byte(request)))
		answered(t, lingers, response)
		starving.Store(true)
	} else {
		starving.Store(true)
		s.serve()
	}
	waits := r.dialTo(s.Addr())
	if blocks(l) && many(l) { // waits in accept4 already, which will succeed
		accepted(t, waits)
		waits = r.dialTo(s.Addr())
	}
	proof.Eventually(t, "accept4 has failed", func() bool { return failed.Load() > 0 })
	// A process that another test starts has the listener as well until it calls exec.
	// Closed here, the listener would stay on the interest list, and its EPOLLHUP with it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	calls := s.calls()
	r.stopsInTime()
	ended(t, waits)
	if calls = s.calls() - calls; calls > mostCalls {
		t.Errorf("made %d system calls to stop, want at most %d", calls, mostCalls)
	}
}
