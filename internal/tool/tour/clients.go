//go:build linux

package tour

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/play"
	"lesson/internal/protocol"
)

// An Act is something that a client does, to all servers that are shown.
type Act struct {
	Client string `json:"client"`
	Do     string `json:"do"`
	Bytes  string `json:"bytes,omitempty"` // of send
	Slow   bool   `json:"slow,omitempty"`  // of connect: it reads only when told to
}

// verbs are what a client can do.
var verbs = map[string]bool{
	"connect": true, "send": true, "read": true, "half-close": true, "close": true, "reset": true,
}

var clientName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9 _-]{0,19}$`)

func (a Act) check() error {
	switch {
	case !clientName.MatchString(a.Client):
		return badRequest("no client %q", a.Client).hint("a name has 1 to 20 letters and digits")
	case !verbs[a.Do]:
		return badRequest("a client cannot %q", a.Do).
			hint("it can connect, send, read, half-close, close, reset")
	case len(a.Bytes) > maxBytes:
		return badRequest("%d bytes at once", len(a.Bytes)).
			hint(fmt.Sprintf("a client sends at most %d", maxBytes))
	}
	return nil
}

// An actEvent says that a client has been told to do something.
type actEvent struct {
	header
	Act Act    `json:"act"`
	By  string `json:"by"` // "page" or "scenario"
}

// A clientEvent says how a client is, seen from its own end of one connection.
type clientEvent struct {
	header
	Server string `json:"server"`
	Client string `json:"client"`
	Peer   string `json:"peer,omitempty"` // its address, by which calls name it
	State  string `json:"state"`
	Sent   int    `json:"sent"`
	Got    string `json:"got"`
	Note   string `json:"note,omitempty"`
}

// A link is a client's connection to one server. Its acts are done one after the
// other, on a goroutine of its own: a server that does not answer the telephone
// keeps nobody else waiting.
type link struct {
	column  *column
	journal *journal
	acts    chan task
	seen    func(peer netip.AddrPort, name string) // whose address that is
	gone    chan struct{}                          // closed when nothing of it is left

	mu    sync.Mutex
	about clientEvent
	conn  *wire
	over  bool // what the server sends has come to an end
	got   []byte
}

// A wire is one connection.
type wire struct {
	*play.Conn
	slow  bool          // it reads only when told to
	reads chan struct{} // a slow client's permission to read once
	left  chan struct{} // closed when the client has closed
}

// hangUp ends a connection, by Close or Reset.
func (w *wire) hangUp(end func() error) error {
	close(w.left)
	return end()
}

// A task is an act, and what to do when it has been done.
type task struct {
	act  Act
	done func()
}

// keptAnswer bounds what is shown of an answer, in bytes.
const keptAnswer = 4096

// waitForAnswer bounds how long a client waits. Sessions end sooner.
const waitForAnswer = 24 * time.Hour

func newLink(name string, c *column, j *journal, seen func(netip.AddrPort, string)) *link {
	l := &link{
		column: c, journal: j, seen: seen,
		acts: make(chan task, maxActs), gone: make(chan struct{}),
		about: clientEvent{Server: c.id, Client: name},
	}
	go l.work()
	return l
}

// do queues an act; done is called when it has been done. It is false when too
// many wait already.
func (l *link) do(a Act, done func()) bool {
	select {
	case l.acts <- task{a, done}:
		return true
	default:
		return false
	}
}

// work does the acts, until there are no more to come; then it closes.
func (l *link) work() {
	var reading sync.WaitGroup
	for t := range l.acts {
		if t.act.Do == "connect" {
			l.connect(t.act, &reading)
		} else {
			l.act(t.act)
		}
		t.done()
	}
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		_ = conn.hangUp(conn.Close) // a client that is taken away
	}
	reading.Wait()
	close(l.gone)
}

// tell tells the pages how the client is. The lock is held.
func (l *link) tell(state, note string) {
	l.about.State, l.about.Note, l.about.Got = state, note, string(l.got)
	e := l.about
	l.journal.tell("client/"+e.Server+"/"+e.Client, "client", &e)
}

func (l *link) connect(a Act, reading *sync.WaitGroup) {
	l.mu.Lock()
	if l.conn != nil && !l.over {
		l.mu.Unlock()
		return // it connects where it is not connected
	}
	if l.conn != nil {
		_ = l.conn.hangUp(l.conn.Close) // it has no use for what is left of the old connection
	}
	l.conn, l.over = nil, false
	l.about.Sent, l.about.Peer, l.got = 0, "", nil
	addr := l.column.address()
	l.tell("connecting", "")
	l.mu.Unlock()

	dialled, err := play.Dial(addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !addr.IsValid():
		l.tell("refused", "no server runs there")
		return
	case errors.Is(err, unix.ECONNREFUSED):
		l.tell("refused", "connection refused: nobody listens there")
		return
	case err != nil:
		l.tell("refused", err.Error())
		return
	}
	conn := &wire{dialled, a.Slow, make(chan struct{}, 1), make(chan struct{})}
	l.conn = conn
	l.about.Peer = conn.LocalAddr().String()
	l.seen(conn.LocalAddr(), l.about.Client)
	l.tell("connected", "")
	reading.Go(func() { l.read(conn) })
}

// act does anything but connect.
func (l *link) act(a Act) {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return // not connected here: the server came later, or the client has gone
	}
	var err error
	switch a.Do {
	case "send":
		if l.about.Sent+len(a.Bytes) > maxSent {
			err = fmt.Errorf("a client sends at most %d bytes", maxSent)
			break
		}
		err = conn.Send([]byte(a.Bytes))
	case "half-close":
		err = conn.HalfClose()
	case "read":
		select {
		case conn.reads <- struct{}{}:
		default: // it has been told to, and nothing has come yet
		}
	case "close":
		l.leave(conn, conn.hangUp(conn.Close), "closed", "")
		return
	case "reset":
		l.leave(conn, conn.hangUp(conn.Reset), "closed", "it reset the connection")
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != conn {
		return // the reader has seen its end
	}
	switch {
	case errors.Is(err, play.ErrReset):
		l.tell("reset", "the server's side reset the connection")
	case err != nil:
		l.tell(l.about.State, err.Error())
	case a.Do == "send":
		l.about.Sent += len(a.Bytes)
		state := l.about.State
		if state == "connected" {
			state = "waiting"
		}
		l.tell(state, "")
	case a.Do == "half-close":
		l.tell(l.about.State, "half-closed: it will send no more")
	}
}

// leave is the end of a connection that the client has made.
func (l *link) leave(conn *wire, err error, state, note string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		note = err.Error()
	}
	if l.conn == conn {
		l.conn = nil
	}
	l.tell(state, note)
}

// read reads what the server sends, as it comes; a slow client's only when told to.
func (l *link) read(conn *wire) {
	for {
		if conn.slow {
			select {
			case <-conn.reads:
			case <-conn.left:
				return
			}
		}
		p, err := conn.Some(4096, waitForAnswer)
		l.mu.Lock()
		if l.conn != conn {
			l.mu.Unlock()
			return // the client has left
		}
		l.over = err != nil
		l.got = append(l.got, p[:min(len(p), keptAnswer-len(l.got))]...)
		switch {
		case err == nil && string(l.got) == string(protocol.Response):
			l.tell("answered", "")
		case err == nil:
			l.tell("waiting", "")
		case errors.Is(err, io.EOF) && len(l.got) > 0:
			l.tell("answered", "then end of file")
		case errors.Is(err, io.EOF):
			l.tell("closed", "the server closed, without an answer")
		case errors.Is(err, play.ErrReset):
			l.tell("reset", "the server's side reset the connection")
		default:
			l.tell("closed", err.Error())
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
	}
}
