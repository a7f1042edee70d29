//go:build linux

package trace

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"reflect"
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
		Call: 1, At: 2 * time.Microsecond, Name: "read", FD: 7, Args: "7, 1024 bytes",
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

func TestCallsThatOverlapKeepTheirNumbers(t *testing.T) {
	events := record(func(r *Recorder) {
		a, b := call(1, "read", 7, "7"), call(2, "read", 8, "8")
		r.Enter(a)
		r.Enter(b)
		r.Leave(left(a, 0, nil))
		r.Leave(left(b, 0, nil))
	})
	for i, want := range []int64{1, 2, 1, 2} {
		if events[i].Call != want {
			t.Errorf("event %d is of call %d, want %d", i, events[i].Call, want)
		}
	}
}

// From accept4 on, until close, a descriptor is known by the client behind it.
func TestWhoIsAtTheOtherEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.(*net.TCPListener).AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	peer := client.LocalAddr().(*net.TCPAddr).AddrPort()
	var none netip.AddrPort
	_ = raw.Control(func(descriptor uintptr) {
		fd := int(descriptor)
		events := record(func(r *Recorder) {
			accept := call(0, "accept4", 5, "5")
			r.Enter(accept)
			r.Leave(left(accept, fd, nil))
			wait := call(1, "epoll_wait", -1, "4, for ever")
			r.Enter(wait)
			wait.Events = []unix.EpollEvent{{Fd: int32(fd), Events: unix.EPOLLIN}, {Fd: 5, Events: unix.EPOLLIN}}
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
			peer, none, // close: the number is free
			none, none,
		} {
			if events[i].Peer != want {
				t.Errorf("event %d, %s: peer %v, want %v", i, events[i].Name, events[i].Peer, want)
			}
		}
		ready := []Ready{{fd, "EPOLLIN", peer}, {5, "EPOLLIN", none}}
		if got := events[3].Ready; !reflect.DeepEqual(got, ready) {
			t.Errorf("ready %v, want %v", got, ready)
		}
	})
}

func TestLinesOfJSON(t *testing.T) {
	var out bytes.Buffer
	r := NewJSON(&out)
	c := call(0, "close", 7, "7")
	r.Enter(c)
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines while the call goes on, want 1", n)
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
	r := NewJSON(&out)
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

func TestSeveralAreTold(t *testing.T) {
	var a, b int
	several := Several{
		NewRecorder(func(Event) { a++ }), NewRecorder(func(Event) { b++ }),
	}
	c := call(0, "close", 7, "7")
	several.Enter(c)
	several.Leave(left(c, 0, nil))
	if a != 2 || b != 2 {
		t.Errorf("told %d and %d times, want 2", a, b)
	}
}
