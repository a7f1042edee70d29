//go:build linux

package trace

import (
	"cmp"
	"encoding/json"
	"io"
	"lesson/internal/kernel"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An Event is a call that has been entered, or one that has returned, as data: what a
// viewer of another process's calls gets.
type Event struct {
	Call   int64         `json:"call"` // numbers the calls of a trace, from 1
	At     time.Duration `json:"at"`   // when, in ns; CLOCK_MONOTONIC, the same in every process
	Name   string        `json:"name"`
	FD     int           `json:"fd"` // -1 when it is about none
	Args   string        `json:"args"`
	File   string        `json:"file"` // the server's source: "epoll/eventloop.go"
	Line   int           `json:"line"`
	Thread int           `json:"thread"`
	// Peer is the client at the other end of FD, or of the new connection, when
	// accept has returned it. It is not valid when there is none.
	Peer netip.AddrPort `json:"peer,omitzero"`

	Left    bool          `json:"left"` // it has returned: what follows is known
	Took    time.Duration `json:"took,omitempty"`
	Blocked bool          `json:"blocked,omitempty"` // see Call.Return
	Result  int           `json:"result"`            // as the manual has it; -1 after an error
	Err     string        `json:"err,omitempty"`     // "EAGAIN"
	Data    string        `json:"data,omitempty"`    // the first bytes read or sent, quoted
	Ready   []Ready       `json:"ready,omitempty"`   // what epoll_wait returned
}

// Ready is one event that epoll_wait has returned.
type Ready struct {
	FD     int            `json:"fd"`
	Events string         `json:"events"` // "EPOLLIN|EPOLLHUP"
	Peer   netip.AddrPort `json:"peer,omitzero"`
}

// A State follows the Events of one server: which of its calls are open, and which
// client is at the other end of each descriptor. It is not safe for concurrent use.
type State struct {
	Listener, Epoll int // descriptors; -1 while not known

	open  map[int64]Event // by number
	peers map[int]netip.AddrPort
}

// NewState returns the State of a server that has made no call yet.
func NewState() *State {
	return &State{
		Listener: -1, Epoll: -1, open: map[int64]Event{}, peers: map[int]netip.AddrPort{},
	}
}

// Note follows the server by one Event. It returns the Event with which the call was
// entered, and whether that was noted before.
func (s *State) Note(e Event) (entered Event, known bool) {
	if !e.Left {
		s.open[e.Call] = e
		if e.Name == "close" {
			delete(s.peers, e.FD) // the kernel may hand out the number before close returns
		}
		return e, true
	}
	entered, known = s.open[e.Call]
	delete(s.open, e.Call)
	switch {
	case e.Err != "":
	case e.Name == "listen":
		s.Listener = e.FD
	case strings.HasPrefix(e.Name, "epoll_create"):
		s.Epoll = e.Result
	case accepts(e.Name) && e.Peer.IsValid():
		s.peers[e.Result] = e.Peer
	case accepts(e.Name):
		delete(s.peers, e.Result) // its close was not seen
	}
	return entered, known
}

func accepts(name string) bool { return name == "accept" || name == "accept4" }

// Open returns the calls that have been entered and have not returned, the oldest first.
func (s *State) Open() []Event {
	byNumber := func(a, b Event) int { return cmp.Compare(a.Call, b.Call) }
	return slices.SortedFunc(maps.Values(s.open), byNumber)
}

// Descriptors returns the descriptors of the open connections, by client.
func (s *State) Descriptors() map[netip.AddrPort]int {
	byPeer := make(map[netip.AddrPort]int, len(s.peers))
	for fd, peer := range s.peers {
		byPeer[peer] = fd
	}
	return byPeer
}

// A Recorder is an Observer that makes Events of calls. It is safe for concurrent use.
type Recorder struct {
	mu    sync.Mutex
	state *State
	emit  []func(Event)
}

// NewRecorder returns a Recorder that calls every emit with every Event: one Event at a
// time, each call's two in their order. The server's thread waits until they return.
func NewRecorder(emit ...func(Event)) *Recorder {
	return &Recorder{state: NewState(), emit: emit}
}

// Enter returns an Event for a call that is entered.
func (r *Recorder) Enter(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note(Event{
		Call: c.Number, At: c.Entered, Name: c.Name, FD: c.FD, Args: c.Args,
		File: c.File, Line: c.Line, Thread: c.Thread, Peer: r.state.peers[c.FD],
	})
}

// Leave returns an Event for a call that has returned.
func (r *Recorder) Leave(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.state.open[c.Number]
	e.At += c.Took
	e.Left, e.Took, e.Blocked, e.Result = true, c.Took, c.Blocked, c.Result
	switch {
	case c.Err != nil:
		e.Err = errnoName(c.Err)
	case accepts(c.Name):
		e.Peer = c.Peer
	case len(c.Data) > 0:
		e.Data = excerpt(c.Data)
	}
	for _, ready := range c.Events {
		fd := int(ready.Fd)
		e.Ready = append(e.Ready, Ready{fd, kernel.EventNames(ready.Events), r.state.peers[fd]})
	}
	r.note(e)
}

func (r *Recorder) note(e Event) {
	r.state.Note(e)
	for _, emit := range r.emit {
		emit(e)
	}
}

// JSON returns a function that writes each Event to w at once, as a line of JSON: the
// lines are there even if the server is killed.
func JSON(w io.Writer) func(Event) {
	lines := json.NewEncoder(w)
	// An Event can always be encoded. A reader that has gone loses the lines.
	return func(e Event) { _ = lines.Encode(e) }
}

func errnoName(err error) string {
	errno, _ := err.(unix.Errno)
	return unix.ErrnoName(errno)
}
