//go:build linux

package trace

import (
	"encoding/json"
	"io"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

// An Event is a call that has been entered, or one that has been left, as data:
// what a viewer of somebody else's server gets to know.
type Event struct {
	Call   int64         `json:"call"` // numbers the calls of a trace, from 1
	At     time.Duration `json:"at"`   // when, in ns; Kernel.Now, or what NewJSON makes of it
	Name   string        `json:"name"`
	FD     int           `json:"fd"` // -1 when it is about none
	Args   string        `json:"args"`
	File   string        `json:"file"` // the lesson's source: "epoll/eventloop.go"
	Line   int           `json:"line"`
	Thread int           `json:"thread"`
	// Peer is the client at the other end of FD: of the new connection, when
	// accept4 has been left. Not valid when there is none.
	Peer netip.AddrPort `json:"peer,omitzero"`

	Left   bool          `json:"left"` // what follows is known
	Took   time.Duration `json:"took,omitempty"`
	Result int           `json:"result"`          // as the manual has it; -1 after an error
	Err    string        `json:"err,omitempty"`   // "EAGAIN"
	Data   string        `json:"data,omitempty"`  // the beginning of what was read or sent, quoted
	Ready  []Ready       `json:"ready,omitempty"` // what epoll_wait returned
}

// Ready is one event that epoll_wait has returned.
type Ready struct {
	FD     int            `json:"fd"`
	Events string         `json:"events"` // "EPOLLIN|EPOLLHUP"
	Peer   netip.AddrPort `json:"peer,omitzero"`
}

// A Recorder is a kernel.Observer that makes Events. It is safe for concurrent
// use; the Events come one at a time, each call's two in their order.
type Recorder struct {
	mu    sync.Mutex
	emit  func(Event)
	calls int64
	open  map[*kernel.Call]int64 // calls that have been entered: their numbers
	peers map[int]netip.AddrPort // who is at the other end of a descriptor
}

// NewRecorder calls emit with every Event, on the server's own thread: it stands
// still meanwhile.
func NewRecorder(emit func(Event)) *Recorder {
	return &Recorder{emit: emit, open: map[*kernel.Call]int64{}, peers: map[int]netip.AddrPort{}}
}

// NewJSON is a Recorder that writes each Event to w at once, as a line of JSON:
// what a server has been doing is there also when it was killed. At is on
// CLOCK_MONOTONIC, which is the same in every process.
func NewJSON(w io.Writer) *Recorder {
	lines := json.NewEncoder(w)
	start := startOfNow()
	return NewRecorder(func(e Event) {
		e.At += start
		// An Event can be encoded; whoever takes the lines away misses them.
		_ = lines.Encode(e)
	})
}

// startOfNow is the moment that kernel.Linux counts from, on CLOCK_MONOTONIC, to a
// few microseconds: the best of several tries, for between two readings of a clock
// this thread may have to wait for a processor.
func startOfNow() time.Duration {
	const tries = 50
	var k kernel.Linux
	var start time.Duration
	least := time.Duration(math.MaxInt64)
	for range tries {
		var t unix.Timespec
		before := k.Now()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails only for clocks that are not there
		after := k.Now()
		if after-before < least {
			least = after - before
			start = time.Duration(t.Nano()) - before - least/2
		}
	}
	return start
}

// Enter makes an Event of a call that begins.
func (r *Recorder) Enter(c *kernel.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	r.open[c] = r.calls
	e := r.event(c, r.calls)
	if c.Name == "close" {
		// While close runs, the kernel may give the number to somebody else.
		delete(r.peers, c.FD)
	}
	r.emit(e)
}

// Leave makes an Event of a call that has ended.
func (r *Recorder) Leave(c *kernel.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	number := r.open[c]
	delete(r.open, c)
	if c.Name == "accept4" && c.Err == nil {
		if peer, ok := peerOf(c.Result); ok {
			r.peers[c.Result] = peer
		}
	}
	e := r.event(c, number)
	e.At += c.Took
	e.Left, e.Took, e.Result = true, c.Took, c.Result
	switch {
	case c.Err != nil:
		e.Err = unix.ErrnoName(errno(c.Err))
	case c.Name == "accept4":
		e.Peer = r.peers[c.Result]
	case len(c.Data) > 0:
		e.Data = excerpt(c.Data)
	}
	for _, ready := range c.Events {
		fd := int(ready.Fd)
		e.Ready = append(e.Ready, Ready{fd, kernel.EventNames(ready.Events), r.peers[fd]})
	}
	r.emit(e)
}

func (r *Recorder) event(c *kernel.Call, number int64) Event {
	return Event{
		Call: number, At: c.Entered, Name: c.Name, FD: c.FD, Args: c.Args,
		File: c.File, Line: c.Line, Thread: c.Thread, Peer: r.peers[c.FD],
	}
}

// peerOf is getpeername(2). A client that has gone already has no address any
// more (ENOTCONN).
func peerOf(fd int) (netip.AddrPort, bool) {
	address, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}, false
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}

// Several is an Observer that tells several others.
type Several []kernel.Observer

// Enter tells all of a call that begins.
func (s Several) Enter(c *kernel.Call) {
	for _, o := range s {
		o.Enter(c)
	}
}

// Leave tells all of a call that has ended.
func (s Several) Leave(c *kernel.Call) {
	for _, o := range s {
		o.Leave(c)
	}
}
