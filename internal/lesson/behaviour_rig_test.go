//go:build linux

package lesson_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/server"
)

// patience bounds every wait for something that must happen. It is generous:
// a test that waits so long has failed, however slow the machine.
const patience = 10 * time.Second

// A rig is one lesson under test. It starts the server when the first client
// dials and stops it when the test ends. Step 1 serves one client and is done:
// there, each client gets a server of its own.
type rig struct {
	t       *T
	lesson  lesson.Lesson
	options server.Options
	// wrap, if any, puts decorators between the lesson and the kernel.
	wrap func(kernel.Kernel) kernel.Kernel
	// fails is the error that Serve is expected to return.
	fails error

	servers []*running
	stopped bool
}

// running is one server of a rig.
type running struct {
	lesson.Server
	calls  func() int64 // system calls so far
	ledger *ledger
	ended  chan error // what Serve returned
}

func newRig(t *T, l lesson.Lesson) *rig {
	r := &rig{t: t, lesson: l, options: server.Options{
		Addr:     netip.MustParseAddrPort("127.0.0.1:0"),
		Backlog:  128,
		Timeout:  time.Minute, // longer than any test
		MaxConns: 64,
	}}
	t.Cleanup(r.stop)
	return r
}

// listen makes a server that does not serve yet.
func (r *rig) listen() *running {
	r.t.Helper()
	s := &running{
		ended: make(chan error, 1),
	}
	below := r.t.machine.kernel(r.lesson)
	s.calls = below.Calls
	s.ledger = &ledger{Kernel: below, open: make(map[int]string)}
	var k kernel.Kernel = s.ledger
	if r.wrap != nil {
		k = r.wrap(k)
	}
	var err error
	s.Server, err = r.lesson.Start(k, r.options)
	proof.Must(r.t, err)
	r.servers = append(r.servers, s)
	return s
}

func (s *running) serve() { go func() { s.ended <- s.Serve() }() }

// start makes a server and lets it serve.
func (r *rig) start() *running {
	r.t.Helper()
	s := r.listen()
	s.serve()
	return s
}

// onlyOne reports whether the lesson serves one client and is done.
func (r *rig) onlyOne() bool { return r.lesson.Model == lesson.Blocking }

// server is the one that the next client talks to.
func (r *rig) server() *running {
	r.t.Helper()
	if r.onlyOne() || len(r.servers) == 0 {
		return r.start()
	}
	return r.servers[0]
}

// dial connects a client, which is closed when the test ends.
func (r *rig) dial() *play.Conn {
	r.t.Helper()
	return r.dialTo(r.server().Addr())
}

func (r *rig) dialTo(addr netip.AddrPort) *play.Conn {
	r.t.Helper()
	c, err := r.connect(addr)
	proof.Must(r.t, err)
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// connect is dialTo for a client that may fail, and that the test closes itself.
func (r *rig) connect(addr netip.AddrPort) (*play.Conn, error) {
	return r.t.machine.dial(addr, play.Dial)
}

// stop stops every server, waits for it, and looks at what it leaves behind.
func (r *rig) stop() {
	if r.stopped {
		return
	}
	r.stopped = true
	for _, s := range r.servers {
		s.Stop()
	}
	for _, s := range r.servers {
		select {
		case err := <-s.ended:
			if !errors.Is(err, r.fails) {
				r.t.Errorf("Serve returned %v, want %v", err, r.fails)
			}
			s.ledger.settle(r.t)
		case <-time.After(patience):
			r.t.Errorf("Serve has not returned %v after Stop", patience)
		}
	}
}

// Counts of all servers of the rig together.
type counts struct{ accepted, served, refused, timedOut, left, reset int64 }

func (r *rig) counts() counts {
	var sum counts
	for _, s := range r.servers {
		c := s.Counts()
		sum.accepted += c.Accepted.Load()
		sum.served += c.Served.Load()
		sum.refused += c.Refused.Load()
		sum.timedOut += c.TimedOut.Load()
		sum.left += c.Left.Load()
		sum.reset += c.Reset.Load()
	}
	return sum
}

// counted waits until the servers have counted exactly this.
func (r *rig) counted(want counts) {
	r.t.Helper()
	for end := time.Now().Add(patience); r.counts() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("counted %+v, want %+v", r.counts(), want)
		}
	}
}

// answered reads to the end and wants exactly the answer, then end of file.
func answered(t testing.TB, c *play.Conn, want string) {
	t.Helper()
	got, err := c.ReadAll(patience)
	if string(got) != want {
		t.Errorf("the client got %q, want %q", got, want)
	}
	if err != nil {
		t.Errorf("the client's answer ended with %q, want end of file", err)
	}
}

// unanswered reads to the end and wants nothing, then end of file.
func unanswered(t testing.TB, c *play.Conn) {
	t.Helper()
	answered(t, c, "")
}

// ended waits until the server has closed the connection, by a reset or not,
// and wants no answer.
func ended(t testing.TB, c *play.Conn) {
	t.Helper()
	got, err := c.ReadAll(patience)
	if err != nil && !errors.Is(err, play.ErrReset) {
		t.Errorf("the connection ended with %q, want end of file or a reset", err)
	}
	if len(got) > 0 {
		t.Errorf("the client got %q, want nothing", got)
	}
}

// asks is the behaviour of a good client: connect, send, read, close.
func (r *rig) asks() {
	r.t.Helper()
	c := r.dial()
	proof.Must(r.t, c.Send([]byte(request)))
	answered(r.t, c, response)
	proof.Must(r.t, c.Close())
}

// goesOn checks that whatever happened to a client has cost only that client:
// the next one is served. A server of step 1 has no next one: it must end well.
func (r *rig) goesOn() {
	r.t.Helper()
	if r.onlyOne() {
		r.stop()
		return
	}
	r.asks()
}
