//go:build linux

package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
	"lesson/internal/report"

	"golang.org/x/sys/unix"
)

// A step is one line of a script: what it says, and what it does.
type step struct {
	text string
	do   func(*trial) error
	once string // what it says of a server for one client, where that differs

	prepares bool // it arranges what the case is about, and does not judge it
	after    bool // it only judges what comes after what the case is about
}

// preparing returns a step that arranges what the case is about.
func preparing(s step) step {
	s.prepares = true
	return s
}

// judging returns a step that judges what the case is about.
func judging(s step) step {
	s.prepares = false
	return s
}

// A failure is a step that came to something else than it must.
type failure struct {
	got, want string
	cause     string // when that says more than the case's own
	otherwise string // the cause when what was seen has none
	seen      *sight // what the kernel showed; nil if it was not asked
	heard     heard
	later     bool // another client of the same step has been answered
}

// seeing adds to a failure what the kernel shows of the server, and of a connection if c
// is not nil.
func (f *failure) seeing(t *trial, c *play.Conn) *failure {
	seen, words := t.observe(c)
	f.seen = seen
	f.got += words
	return f
}

// inSight reports whether the server was seen at work, or waiting, after the step had failed.
func (f *failure) inSight() bool { return f.seen != nil && f.seen.looked && !f.seen.gone }

func fails(got, want string) *failure { return &failure{got: got, want: want} }

func (f *failure) Error() string { return fmt.Sprintf("got %s, want %s", f.got, f.want) }

// unable explains why a case cannot be judged here, which is no failure of the server.
type unable struct{ reason string }

func (u unable) Error() string { return u.reason }

// given is steps that bring about what a case is about, and that other cases judge: where
// one of them fails, this case is not judged.
func given(steps ...step) []step {
	all := make([]step, len(steps))
	for i, s := range steps {
		do := s.do
		s.do = func(t *trial) error {
			err := do(t)
			var f *failure
			if errors.As(err, &f) && !t.server.Ended() {
				return unable{"the situation that the case needs did not arise: " + f.got}
			}
			return err
		}
		all[i] = preparing(s)
	}
	return all
}

// A trial is one case on its way, with its own server and clients.
type trial struct {
	ctx      context.Context
	server   *server
	model    Model
	patience time.Duration
	timeout  time.Duration // the server's own for unfinished requests
	answer   *answer       // what this server answers to a whole request

	vigil        vigil
	clients      map[string]*play.Conn
	sent         map[string]string // by each client, so far
	early        map[string]bool   // was it answered before its request was complete?
	answersEarly bool              // the server is known to answer half a request
	answersLine  bool              // and an empty line without a request
	filled       map[string]int    // bytes that were put before a client's answer
	fits         int               // bytes that fit into a send buffer
	slow         int               // bytes of an endless request that it has read, if it reads on slowly
	crowd        []*play.Conn
	flood        *flood
	holds        *holding        // a thread of the server, if one is held
	failing      *faultyAccept   // calls of accept, if they are made to fail
	before       proc.Usage      // what the server had used when it was last looked at
	held         int             // descriptors it had then
	left         remains         // of its processes and threads, then
	born         time.Time       // before the last clients connected
	asked        time.Time       // before the last request became complete
	socket       uint32          // the inode of the socket that it had for a client
	limits       map[int]limited // by process, when the script has limited its descriptors

	turnsAway bool // the server closes what it has no descriptor for
	stopped   bool // the script has stopped the server
	together  bool // processes of the server have ended at the same time
	mayEnd    bool // the script ends the server
	last      bool // the case does not begin again if it is late
	notes     []string
	ended     *server                 // the first, when restart has put another in its place
	restart   func() (*server, error) // a second server in the place of the first
}

func (t *trial) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// dial connects. A server that cannot be reached has failed, whatever the case
// is about.
func (t *trial) dial() (*play.Conn, error) {
	if t.stopped { // then the kernel ignores clients that find the accept queue full
		if l, err := t.listener(); err == nil && l.Unread > l.Unsent {
			return nil, &failure{
				got: fmt.Sprintf("no connection: %s in the accept queue, which is full",
					report.Plural(int(l.Unread), "client waits", "clients wait")),
				want:  "a connection",
				cause: shortQueue,
			}
		}
	}
	return t.dialled(play.Dial(t.server.Addr))
}

func (t *trial) dialled(c *play.Conn, err error) (*play.Conn, error) {
	if errors.Is(err, unix.EMFILE) {
		return nil, unable{"this program, and not the server, has run out of descriptors:" +
			" raise its limit with ulimit -n"}
	}
	if err != nil {
		return nil, fails("no connection: "+err.Error(), "a connection")
	}
	t.vigil.mu.Lock()
	defer t.vigil.mu.Unlock()
	t.vigil.conns = append(t.vigil.conns, c)
	return c, nil
}

// theirs is the server's end of a client's connection. ErrNone when the server
// has closed it, or runs on another machine.
func (t *trial) theirs(c *play.Conn) (sockets.Socket, error) {
	s, err := sockets.Connection(t.server.Addr, c.LocalAddr())
	if err != nil || s.Inode != 0 {
		return s, err
	}
	// No process has a descriptor for it. In one of these states it waits in the
	// accept queue; in any other it has been closed and only ends.
	if s.State == sockets.Established || s.State == sockets.CloseWait {
		return s, nil
	}
	return s, sockets.ErrNone
}

// listener is the server's listener as the kernel sees it. Several that share the address
// (SO_REUSEPORT) count as one, with the sum of what waits and of what may wait.
func (t *trial) listener() (sockets.Socket, error) {
	return listenerAt(t.server.Addr)
}

func listenerAt(addr netip.AddrPort) (sockets.Socket, error) {
	listeners, err := sockets.ListenersAt(addr)
	if err == nil && len(listeners) == 0 {
		err = sockets.ErrNone
	}
	if err != nil {
		return sockets.Socket{}, err
	}
	sum := listeners[0]
	for _, l := range listeners[1:] {
		sum.Unread += l.Unread
		sum.Unsent += l.Unsent
	}
	return sum, nil
}

// read reads the rest of a conversation and says what came in words.
func (t *trial) read(name string) (got []byte, end error) {
	got, end = t.readAll(t.clients[name])
	if filled := t.filled[name]; filled > 0 {
		got = got[min(filled, len(got)):]
	}
	return got, end
}

// words says what a client has read, and how the conversation ended.
func (t *trial) words(got []byte, end error) string {
	var what string
	switch {
	case len(got) == 0:
		what = "not a byte"
	case t.answer.equal(got):
		what = "the answer"
	case t.answer.begins(got):
		what = fmt.Sprintf("%d of the answer's %d bytes", len(got), len(t.answer.bytes))
	case t.answer.more(got) != nil:
		more := t.answer.more(got)
		what = fmt.Sprintf("the answer and %d bytes more: %s", len(more), quote(more))
	default:
		what = fmt.Sprintf("%d bytes: %s", len(got), quote(got))
	}
	switch {
	case end == nil:
		return what + ", then end of file"
	case errors.Is(end, play.ErrReset):
		return what + ", then a reset"
	case errors.Is(end, play.ErrTimeout):
		return fmt.Sprintf("%s, and then nothing for %v; the connection is open", what, t.waited())
	default:
		return fmt.Sprintf("%s, then: %v", what, end)
	}
}

// quotedBytes bounds what a report shows of what was sent or received.
const quotedBytes = 60

func quote(p []byte) string {
	if len(p) <= quotedBytes {
		return fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("%q…", p[:quotedBytes])
}

// hears is the failure of a client that has received got, and then end, and wanted
// something else. What the kernel shows is added when it waits in vain.
func (t *trial) hears(c *play.Conn, got []byte, end error, want string) *failure {
	f := fails(t.words(got, end), want)
	f.heard = t.hearing(got, end)
	if errors.Is(end, play.ErrTimeout) {
		f.seeing(t, c)
	}
	return f
}

// expectAnswer reads a whole answer and then end of file, and nothing else.
func (t *trial) expectAnswer(name string) error {
	got, end := t.read(name)
	err := t.judgeAnswer(t.clients[name], got, end)
	var f *failure
	if errors.As(err, &f) && len(got) == 0 && t.filled[name] > 0 && f.heard != heardNothing {
		f.otherwise = lostInFull
	}
	return err
}

func (t *trial) judgeAnswer(c *play.Conn, got []byte, end error) error {
	if end == nil && t.answer.equal(got) {
		return nil
	}
	return t.hears(c, got, end, fmt.Sprintf("%v, then end of file", t.answer))
}

// close ends whatever the trial has begun.
func (t *trial) close() error {
	if t.flood != nil {
		t.flood.stop()
	}
	var held error
	if t.holds != nil {
		held = t.holds.tracer.Detach()
	}
	for _, c := range t.clients {
		_ = c.Close() // what it says is not of interest any more
	}
	for _, c := range t.crowd {
		_ = c.Close()
	}
	return errors.Join(held, t.ended.end(), t.server.End(), t.server.backEnd.end())
}
