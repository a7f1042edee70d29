//go:build linux

// Package explore runs a server on the simulated kernel in one order of events after
// another, and judges each: is every client answered, does the server spin, hang, end
// or leak? What it finds, it tells as a story, the shortest that it has found.
//
// One order is one execution. It is determined by the choices that are left open: which
// client acts before which system call, where a request is cut into segments, how many
// events one epoll_wait returns, which calls fail. The first alternative of each choice
// is the plain one; any other is a deviation.
package explore

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/kernel/simulated"
)

// A Program runs a server on k until the server ends. It calls started with a function
// that asks the server to stop, if there is a way to do that.
type Program func(k Kernel, started func(stop func()))

// A Kernel is what a program runs on.
type Kernel interface {
	kernel.Kernel
	Dup(fd int) (int, error)
	Silent() (fd int, err error)
	SetNonblock(fd int, nonblocking bool) error
	SocketError(fd int) (unix.Errno, error)
}

// A Failure is what was wrong with an execution.
type Failure struct {
	Kind string // "unanswered", "spins", "ended", …: one word for each kind
	Text string // what is wrong, in one sentence
}

// Bounds of one execution.
const (
	maxCalls   = 3000             // system calls
	idleCalls  = 40               // calls that change nothing before a client is let in
	spinCalls  = 200              // such calls when no client wants to act: it spins
	maxVirtual = 10 * time.Minute // virtual time
)

// An execution is one order of events.
type execution struct {
	program  Program
	scenario Scenario
	faults   Faults
	choose   *chooser

	kernel   *simulated.Kernel
	actors   []*actor
	stop     func()
	stopping bool
	base     int // descriptors open when the server first waited
	idle     int // calls in a row that changed nothing
	changed  int // the kernel's count of changes at the last call
	acting   bool
	failure  *Failure
	done     bool   // judged: what is left is to unwind the server
	story    *Story // nil unless it is recorded
}

// An actor is a client of the scenario in one execution.
type actor struct {
	Client
	conn *simulated.Client
	next int    // the act that comes next
	left []byte // what a cut has left of it
	sent []byte
	got  []byte
	end  bool  // has read end of file
	err  error // or a reset
	gone bool  // has closed or reset
}

// over unwinds the server's goroutine at the end of an execution.
type over struct{}

// run plays one execution with the deviations in c, and returns what was wrong.
func run(p Program, s Scenario, f Faults, c *chooser, story *Story) *Failure {
	x := &execution{program: p, scenario: s, faults: f, choose: c, story: story, base: -1}
	x.kernel = simulated.New(simulated.Options{
		Descriptors: s.Descriptors, SendBuffer: s.SendBuffer, ClientBuffer: s.ClientBuffer, World: x,
		Sleep: sleep,
	})
	for _, client := range s.Clients {
		x.actors = append(x.actors, &actor{Client: client})
	}
	x.play()
	return x.failure
}

// sleep moves the program's own clock as virtual time passes; nil if it reads only the
// kernel's.
var sleep func(time.Duration)

func (x *execution) play() {
	defer func() {
		switch r := recover().(type) {
		case nil, over:
		case unsupported:
			x.fail("unsupported", "the server calls %s, which is not simulated", string(r))
		default:
			x.fail("ended", "the server panics: %v", r)
		}
	}()
	var k Kernel = x.wrapped()
	if x.story != nil {
		k = &told{k, x}
	}
	x.program(k, func(stop func()) { x.stop = stop })
	switch {
	case x.failure != nil:
	case !x.stopping:
		x.fail("ended", "the server has ended by itself")
	case x.kernel.Open() > 0:
		x.fail("leak", "the server has ended and left %s open", count(x.kernel.Open(), "descriptor"))
	}
}

func (x *execution) fail(kind, format string, args ...any) {
	if x.failure == nil {
		x.failure = &Failure{Kind: kind, Text: fmt.Sprintf(format, args...)}
	}
}

// abort ends the execution from inside a system call of the server.
func (x *execution) abort(kind, format string, args ...any) {
	x.fail(kind, format, args...)
	x.end()
}

// end unwinds the server.
func (x *execution) end() {
	x.done = true
	panic(over{})
}

// Call is called before each system call: a client may act first.
func (x *execution) Call(name string, fd int) {
	if x.acting || x.done {
		return
	}
	if x.kernel.Changes() != x.changed {
		x.changed = x.kernel.Changes()
		x.idle = 0
	}
	x.idle++
	if x.kernel.Calls() > maxCalls {
		x.abort("spins", "%d system calls, and no end: the server never rests", maxCalls)
	}
	if x.idle > idleCalls && !x.Idle() && x.idle > spinCalls {
		x.abort("spins", "the last %d system calls changed nothing, and the server did not sleep: it spins",
			spinCalls)
	}
	able := x.able()
	if len(able) == 0 {
		return
	}
	if c := x.choose.pick("act", 1+len(able)); c > 0 {
		x.act(able[c-1])
	}
}

// Step returns the number of the step that is being done.
func (x *execution) Step() int {
	if x.story == nil {
		return x.kernel.Calls()
	}
	return len(x.story.Steps)
}

// Idle is called while the server sleeps.
func (x *execution) Idle() bool {
	able := x.able()
	if len(able) == 0 {
		if x.kernel.Now() > maxVirtual {
			x.rest()
		}
		return false
	}
	if x.base < 0 {
		x.base = x.kernel.Open()
	}
	x.act(able[x.choose.pick("act", len(able))])
	x.idle = 0
	return true
}

// Stuck is called when nothing will wake the server any more.
func (x *execution) Stuck() { x.rest() }

// rest judges the execution: no client wants to act, and the server sleeps.
func (x *execution) rest() {
	if x.stopping {
		x.abort("stop", "the server was asked to stop, and sleeps on")
	}
	x.judge()
	if x.failure != nil {
		x.end()
	}
	if x.stop == nil {
		if open := x.kernel.Open() - x.held() - x.base; x.base >= 0 && open > 0 {
			x.fail("leak", "every client has gone, and %s more than at the start: it leaks",
				plural(open, "descriptor is open", "descriptors are open"))
		}
		x.end()
	}
	x.stopping = true
	x.begin()
	x.note("the server is asked to stop")
	x.stop()
}

// held returns how many clients are still there: their connections may be open.
func (x *execution) held() int {
	n := 0
	for _, a := range x.actors {
		if a.conn != nil && !a.gone {
			n++
		}
	}
	return n
}

// able returns the clients that can act now.
func (x *execution) able() []*actor {
	var able []*actor
	for _, a := range x.actors {
		if a.next < len(a.acts) && a.can() {
			able = append(able, a)
		}
	}
	return able
}

// can reports whether the next act is possible. A read waits for bytes or the end.
func (a *actor) can() bool {
	kind := a.acts[a.next].kind
	switch {
	case kind == connects:
		return true
	case a.conn == nil || !a.conn.Connected():
		return false
	case kind == reads:
		return a.conn.Readable()
	}
	return true
}

// port is where the servers listen.
const port = 8080

// act does the next act of a client.
func (x *execution) act(a *actor) {
	x.acting = true
	defer func() { x.acting = false }()
	x.begin()
	current := a.acts[a.next]
	switch current.kind {
	case connects:
		a.conn = x.kernel.Connect(a.Name, x.listenPort())
		x.note("%s connects", a.Name)
		a.next++
	case sends:
		x.send(a, current.bytes)
	case halfCloses:
		_ = a.conn.HalfClose() // fails if the server has reset it: that is judged
		x.note("%s sends its end", a.Name)
		a.next++
	case closes:
		a.conn.Close()
		a.gone = true
		x.note("%s closes", a.Name)
		a.next++
	case resets:
		a.conn.Reset()
		a.gone = true
		x.note("%s resets", a.Name)
		a.next++
	case reads:
		x.read(a, current.size)
	}
}

// send sends the bytes of an act, or a first part of them: where the network cuts the
// stream is a choice.
func (x *execution) send(a *actor, whole []byte) {
	if a.left == nil {
		a.left = whole
	}
	n := len(a.left)
	if cut := x.choose.pick("cut", n); cut > 0 {
		n = cut
	}
	p := a.left[:n]
	a.left = a.left[n:]
	if len(a.left) == 0 {
		a.left = nil
		a.next++
	}
	a.sent = append(a.sent, p...)
	x.note("%s sends %s", a.Name, quote(p))
	if err := a.conn.Send(p); err != nil {
		a.err = err // and read will say what was lost
	}
}

func (x *execution) read(a *actor, size int) {
	most := size
	if size == 0 {
		most = 1 << 20
	}
	p, ended, err := a.conn.Read(most)
	a.got = append(a.got, p...)
	switch {
	case err != nil:
		a.err = err
		x.note("%s reads: %v", a.Name, unix.Errno.Error(err.(unix.Errno)))
		a.next++
	case ended:
		a.end = true
		x.note("%s reads end of file", a.Name)
		a.next++
	default:
		x.note("%s reads %d bytes", a.Name, len(p))
		if size > 0 {
			a.next++
		}
	}
}

// listenPort returns where the server listens: it may have chosen.
func (x *execution) listenPort() uint16 {
	if p := x.kernel.ListenPort(); p != 0 {
		return p
	}
	return port
}

// judge looks at every client.
func (x *execution) judge() {
	for _, a := range x.actors {
		whole := wholeRequest(a.sent)
		switch {
		case a.gone && !a.end && a.err == nil:
			// it did not want to know
		case !whole && len(a.got) > 0:
			x.fail("early", "%s has sent no whole request, and got %s", a.Name, quote(a.got))
		case !whole:
		case a.conn == nil || !a.conn.Connected():
			x.fail("unconnected", "%s cannot connect", a.Name)
		case string(a.got) != answer && a.err != nil:
			x.fail("reset", "%s got %d of %d bytes of its answer, and then a reset", a.Name,
				len(a.got), len(answer))
		case string(a.got) == answer && a.err != nil:
			x.fail("reset", "%s got its answer, but a reset after it instead of end of file", a.Name)
		case strings.HasPrefix(answer, string(a.got)) && a.end && string(a.got) != answer:
			x.fail("cut", "%s got only %d of %d bytes of its answer", a.Name, len(a.got), len(answer))
		case !strings.HasPrefix(answer, string(a.got)):
			x.fail("wrong", "%s got another answer: %s", a.Name, quote(a.got))
		case !a.end && !a.gone:
			x.unanswered(a)
		}
	}
}

// unanswered says what the server leaves undone while it sleeps.
func (x *execution) unanswered(a *actor) {
	what := "waits for its answer"
	switch {
	case string(a.got) == answer:
		what = "has its answer and waits for end of file"
	case len(a.got) > 0:
		what = fmt.Sprintf("waits for the last %d bytes of its answer", len(answer)-len(a.got))
	}
	text := fmt.Sprintf("%s %s, and the server sleeps", a.Name, what)
	if why := x.kernel.Silence(a.conn); why != "" {
		text += ": " + why
	}
	x.fail("unanswered", "%s", text)
}

// begin begins a step of the story that is no system call; note ends it.
func (x *execution) begin() {
	if x.story != nil {
		x.story.add(x, "", "")
	}
}

func (x *execution) note(format string, args ...any) {
	if x.story != nil {
		last := &x.story.Steps[len(x.story.Steps)-1]
		last.Text = fmt.Sprintf(format, args...)
		last.State = x.kernel.State()
		x.story.save()
	}
}

// quote shows bytes that a client sends or gets.
func quote(p []byte) string {
	const most = 24
	if len(p) > most {
		return fmt.Sprintf("%d bytes, %q…", len(p), p[:most])
	}
	return fmt.Sprintf("%q", p)
}

func count(n int, what string) string { return plural(n, what, what+"s") }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
