//go:build linux

package trace

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

// record collects the Events of what play does to a Recorder.
func record(play func(*Recorder)) []Event {
	var events []Event
	play(NewRecorder(func(e Event) { events = append(events, e) }))
	return events
}

func TestEventsOfACall(t *testing.T) {
	entered := Event{
		Call: 17, At: 2 * time.Microsecond, Name: "read", FD: 7, Args: "7, 1024 bytes",
		File: "epoll/eventloop.go", Line: 117,
	}
	done := entered
	done.At, done.Left, done.Took = 7*time.Microsecond, true, 5*time.Microsecond
	for _, c := range []struct {
		result int
		err    error
		data   string
		change func(*Event)
	}{
		{3, nil, "a\nb", func(e *Event) { e.Result, e.Data = 3, `"a\nb"` }},
		{0, nil, "", func(e *Event) {}},
		{-1, unix.EAGAIN, "", func(e *Event) { e.Result, e.Err = -1, "EAGAIN" }},
	} {
		got := record(func(r *Recorder) {
			read := call(2, "read", 7, "7, 1024 bytes")
			read.Number = 17
			r.Enter(read)
			read.Data = []byte(c.data)
			r.Leave(left(read, c.result, c.err))
		})
		want := done
		c.change(&want)
		if !reflect.DeepEqual(got, []Event{entered, want}) {
			t.Errorf("read = %d, %v: %+v, want %+v", c.result, c.err, got, want)
		}
	}
}

func TestCallsThatOverlap(t *testing.T) {
	a, b := call(1, "read", 7, "7"), call(2, "read", 8, "8")
	events := record(func(r *Recorder) {
		r.Enter(a)
		r.Enter(b)
		r.Leave(left(a, 0, nil))
		r.Leave(left(b, 0, nil))
	})
	for i, want := range []*Call{a, b, a, b} {
		e := events[i]
		if e.Call != want.Number || e.FD != want.FD || e.Args != want.Args || e.Left != (i > 1) {
			t.Errorf("event %d is %+v, want one of call %d", i, e, want.Number)
		}
	}
}

// From accept4 on, until close, a descriptor is known by the client behind it.
func TestPeers(t *testing.T) {
	const fd = 7
	peer, none := netip.MustParseAddrPort("127.0.0.1:4711"), netip.AddrPort{}
	events := record(func(r *Recorder) {
		accept := call(0, "accept4", 5, "5")
		r.Enter(accept)
		accept.Peer = peer
		r.Leave(left(accept, fd, nil))
		wait := call(1, "epoll_wait", -1, "4, forever")
		r.Enter(wait)
		wait.Events = []unix.EpollEvent{
			{Fd: fd, Events: unix.EPOLLIN}, {Fd: 5, Events: unix.EPOLLIN},
		}
		r.Leave(left(wait, 2, nil))
		for _, name := range []string{"read", "close", "read"} {
			c := call(2, name, fd, "")
			r.Enter(c)
			r.Leave(left(c, 0, nil))
		}
	})
	for i, want := range []netip.AddrPort{
		none, peer, // accept4
		none, none, // epoll_wait
		peer, peer, // read
		peer, peer, // close
		none, none, // read: the number is free
	} {
		if events[i].Peer != want {
			t.Errorf("event %d, %s: peer %v, want %v", i, events[i].Name, events[i].Peer, want)
		}
	}
	ready := []Ready{{fd, "EPOLLIN", peer}, {5, "EPOLLIN", none}}
	if got := events[3].Ready; !reflect.DeepEqual(got, ready) {
		t.Errorf("ready %v, want %v", got, ready)
	}
}

// A State follows the events of a Recorder: what is open, and who is behind each
// descriptor.
func TestState(t *testing.T) {
	a, b := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	type fds = map[netip.AddrPort]int
	const entered, left = false, true
	accept := func(call int64, left bool, fd int, peer netip.AddrPort) Event {
		return Event{Call: call, Name: "accept4", Left: left, Result: fd, Peer: peer}
	}
	s := NewState()
	for i, step := range []struct {
		event           Event
		open            []int64
		fds             fds
		listener, epoll int
	}{
		{Event{Call: 1, Name: "listen", FD: 5}, []int64{1}, fds{}, -1, -1},
		{Event{Call: 1, Name: "listen", FD: 5, Left: true}, nil, fds{}, 5, -1},
		{Event{Call: 2, Name: "epoll_create1", Left: left, Err: "EMFILE"}, nil, fds{}, 5, -1},
		{Event{Call: 3, Name: "epoll_create1", Left: left, Result: 4}, nil, fds{}, 5, 4},
		{accept(4, entered, 0, netip.AddrPort{}), []int64{4}, fds{}, 5, 4},
		{accept(5, entered, 0, netip.AddrPort{}), []int64{4, 5}, fds{}, 5, 4},
		{accept(4, left, 7, a), []int64{5}, fds{a: 7}, 5, 4},
		{Event{Call: 5, Name: "accept4", Left: left, Err: "EAGAIN"}, nil, fds{a: 7}, 5, 4},
		{Event{Call: 6, Name: "close", FD: 7}, []int64{6}, fds{}, 5, 4},
		// The number is used again before close returns.
		{accept(7, left, 7, b), []int64{6}, fds{b: 7}, 5, 4},
		{Event{Call: 6, Name: "close", FD: 7, Left: true}, nil, fds{b: 7}, 5, 4},
		// A close that was not seen, and a client that has gone already.
		{accept(8, left, 7, netip.AddrPort{}), nil, fds{}, 5, 4},
	} {
		_, known := s.Note(step.event)
		var open []int64
		for _, e := range s.Open() {
			open = append(open, e.Call)
		}
		if !slices.Equal(open, step.open) || !maps.Equal(s.Descriptors(), step.fds) ||
			s.Listener != step.listener || s.Epoll != step.epoll {
			t.Errorf("after step %d: open %v, descriptors %v, listener %d, epoll %d; want %+v",
				i, open, s.Descriptors(), s.Listener, s.Epoll, step)
		}
		entered := step.event.Call == 1 || step.event.Call >= 4 && step.event.Call <= 6
		if known != entered {
			t.Errorf("after step %d: call %d known %v", i, step.event.Call, known)
		}
	}
}

func TestLinesOfJSON(t *testing.T) {
	var out bytes.Buffer
	r := NewRecorder(JSON(&out))
	c := call(0, "close", 7, "7")
	r.Enter(c)
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines while the call is open, want 1", n)
	}
	r.Leave(left(c, 0, nil))
	lines := json.NewDecoder(&out)
	lines.DisallowUnknownFields()
	for _, done := range []bool{false, true} {
		var e Event
		if err := lines.Decode(&e); err != nil {
			t.Fatal(err)
		}
		if e.Name != "close" || e.FD != 7 || e.Left != done || e.Peer.IsValid() {
			t.Errorf("%+v", e)
		}
	}
}

// Another process that reads the clock knows when a call was made.
func TestTimesOfJSONAreTheMachines(t *testing.T) {
	clock := func() time.Duration {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			t.Fatal(err)
		}
		return time.Duration(now.Nano())
	}
	const apart = 100 * time.Microsecond // two clocks that are read one after the other
	var out bytes.Buffer
	r := NewRecorder(JSON(&out))
	before := clock()
	c := call(0, "close", 7, "7")
	c.Entered = new(kernel.Linux).Now()
	r.Enter(c)
	var e Event
	if err := json.NewDecoder(&out).Decode(&e); err != nil {
		t.Fatal(err)
	}
	if after := clock(); e.At < before-apart || e.At > after+apart {
		t.Errorf("a call between %v and %v was made at %v", before, after, e.At)
	}
}

func TestEveryEmitGetsEveryEvent(t *testing.T) {
	var a, b int
	r := NewRecorder(func(Event) { a++ }, func(Event) { b++ })
	c := call(0, "close", 7, "7")
	r.Enter(c)
	r.Leave(left(c, 0, nil))
	if a != 2 || b != 2 {
		t.Errorf("%d and %d events, want 2 each", a, b)
	}
}
