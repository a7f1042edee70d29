//go:build linux

package trace

import (
	"encoding/json"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

// An Event is a call that has been entered, or one that has been left, as data:
// what a viewer of somebody else's server gets to know.
type Event struct {
	Call   int64         `json:"call"` // numbers the calls of a trace, from 1
	At     time.Duration `json:"at"`   // when, in ns; CLOCK_MONOTONIC, the same in every process
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

// A Recorder is a Observer that makes Events. It is safe for concurrent
// use; the Events come one at a time, each call's two in their order.
type Recorder struct {
	// PeerOf is who is at the other end of the connection that an accept4 has
	// returned, if that can be told. It is not to be changed later.
	PeerOf func(accept *Call) (netip.AddrPort, bool)

	mu    sync.Mutex
	emit  func(Event)
	calls int64
	open  map[*Call]int64        // calls that have been entered: their numbers
	peers map[int]netip.AddrPort // who is at the other end of a descriptor
}

// NewRecorder calls emit with every Event, on the server's own thread: it stands
// still meanwhile.
func NewRecorder(emit func(Event)) *Recorder {
	return &Recorder{
		PeerOf: func(c *Call) (netip.AddrPort, bool) { return kernel.PeerOf(c.Result) },
		emit:   emit, open: map[*Call]int64{}, peers: map[int]netip.AddrPort{},
	}
}

// NewJSON is a Recorder that writes each Event to w at once, as a line of JSON:
// what a server has been doing is there also when it was killed.
func NewJSON(w io.Writer) *Recorder {
	lines := json.NewEncoder(w)
	// An Event can be encoded; whoever takes the lines away misses them.
	return NewRecorder(func(e Event) { _ = lines.Encode(e) })
}

// Enter makes an Event of a call that begins.
func (r *Recorder) Enter(c *Call) {
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
func (r *Recorder) Leave(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	number := r.open[c]
	delete(r.open, c)
	accepted := strings.HasPrefix(c.Name, "accept") && c.Err == nil
	if accepted {
		if peer, ok := r.PeerOf(c); ok {
			r.peers[c.Result] = peer
		}
	}
	e := r.event(c, number)
	e.At += c.Took
	e.Left, e.Took, e.Result = true, c.Took, c.Result
	switch {
	case c.Err != nil:
		e.Err = unix.ErrnoName(errno(c.Err))
	case accepted:
		e.Peer = r.peers[c.Result]
	case len(c.Data) > 0:
		e.Data = excerpt(c.Data)
	}
	for _, ready := range c.Events {
		fd := int(ready.Fd)
		e.Ready = append(e.Ready, Ready{fd, EventNames(ready.Events), r.peers[fd]})
	}
	r.emit(e)
}

func (r *Recorder) event(c *Call, number int64) Event {
	return Event{
		Call: number, At: c.Entered, Name: c.Name, FD: c.FD, Args: c.Args,
		File: c.File, Line: c.Line, Thread: c.Thread, Peer: r.peers[c.FD],
	}
}
