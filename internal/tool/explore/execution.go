//go:build linux

// Package explore runs a server on the simulated kernel in one order of events after
// another, and judges each: is every client answered, does the server spin, hang, end
// or leak? It reports the first failure as a story, step by step.
//
// One order is one execution. It is determined by the choices that are left open: which
// client acts before which system call, where a request is cut into segments, how many
// events one epoll_wait returns, which calls fail. The first alternative of each choice
// is the plain one; any other is a deviation.
package explore

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/kernel/simulated"
	"lesson/internal/words"
)

// A Program runs a server on k until the server ends. It calls started with a function
// that asks the server to stop, if there is a way to do that.
type Program func(k Kernel, started func(stop func()))

// A Kernel is what a program runs on.
type Kernel interface {
	kernel.Kernel
	Machine
}

// A Machine is what a program needs besides the system calls of a lesson.
type Machine interface {
	// Run runs main, which may use goroutines: see simulated.Kernel.
	Run(main, wait func())
	Dup(fd int) (int, error)
	Eventfd(initial uint, flags int) (int, error)
	IsEventfd(fd int) bool
	Write(fd int, p []byte) (int, error)
	Silent() (fd int, err error)
	SetNonblock(fd int, nonblocking bool) error
	SocketError(fd int) (unix.Errno, error)
}

// A Failure is what was wrong with an execution.
type Failure struct {
	Kind string `json:"kind"` // one word: "unanswered", "spins", "ended", …
	Text string `json:"text"` // what is wrong, in one sentence
}

// Bounds of one execution.
const (
	maxCalls    = 3000             // system calls, without a flooder
	spinCalls   = 40               // calls in a row that neither sleep nor change anything
	restless    = 20               // calls without a client's act before one is let in
	besideFlood = 3                // the same, while another client floods
	starving    = 2 << 20          // bytes read of a flooder while another client waits
	maxCuts     = 24               // places where a request may be cut
	maxVirtual  = 10 * time.Minute // virtual time
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
	base     int           // descriptors open when the server first waited
	idle     int           // calls in a row that changed nothing
	repeated []string      // which calls the last of these were
	flooded  int           // bytes that a flooder has sent
	late     time.Duration // what catchUp lets pass
	since    int           // calls since a client has acted or the server slept
	changed  int           // the kernel's count of changes at the last call
	acting   bool
	faulted  callKey // the call for which a fault was chosen last
	failure  *Failure
	done     bool   // judged: what is left is to unwind the server
	alone    bool   // the server is one goroutine
	story    *Story // nil unless it is recorded
}

// over unwinds the server's goroutine at the end of an execution.
type over struct{}

// run plays one execution with the deviations in c, and returns what was wrong.
func run(p Program, s Scenario, f Faults, c *chooser, story *Story) *Failure {
	x := &execution{program: p, scenario: s, faults: f, choose: c, story: story, base: -1, alone: true}
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

// running is the execution that runs now.
var running *execution

func (x *execution) play() {
	running = x
	defer func() {
		switch r := recover().(type) {
		case nil, over:
		default:
			if !x.alone { // the server's goroutines are others: this is a fault of ours
				panic(r)
			}
			x.fail("ended", "the server panics: %s", fmt.Sprint(r))
		}
	}()
	var k Kernel = x.wrapped()
	if x.story != nil {
		k = x.told(k)
	}
	x.program(k, func(stop func()) { x.stop = stop })
	switch {
	case x.failure != nil || x.done:
	case !x.stopping:
		x.fail("ended", "the server has ended by itself")
	case x.kernel.Open() > 0:
		x.fail("leak", "the server has ended and left %s open", count(x.kernel.Open(), "descriptor"))
	}
}

func (x *execution) fail(kind, form string, args ...any) { x.failSaid(kind, words.Say(form, args...)) }

func (x *execution) failSaid(kind string, said words.Sentence) {
	if x.failure == nil {
		x.failure = &Failure{Kind: kind, Text: said.Text}
		if x.story != nil {
			x.story.Failed = &said
		}
	}
}

// abort ends the execution from inside a system call of the server.
func (x *execution) abort(kind, form string, args ...any) {
	x.fail(kind, form, args...)
	x.done = true
	x.kernel.Exit(over{})
}

// end ends the execution while the server sleeps.
func (x *execution) end() {
	x.done = true
	if x.alone {
		panic(over{})
	}
	x.kernel.End()
}

// Call is called before each system call: a client may act first.
func (x *execution) Call(name string, fd int) {
	if x.acting || x.done {
		return
	}
	x.before(name)
	x.story.begin(callKey{name, fd})
}

func (x *execution) before(name string) {
	if x.failure != nil { // it failed while a client acted
		x.abort("", "")
	}
	if x.kernel.Changes() != x.changed {
		x.changed = x.kernel.Changes()
		x.idle = 0
	}
	x.idle++
	x.since++
	if x.idle <= spinCalls-10 { // the last ten are enough to see what is repeated
		x.repeated = x.repeated[:0]
	}
	if !slices.Contains(x.repeated, name) {
		x.repeated = append(x.repeated, name)
	}
	x.flood()
	x.catchUp(name)
	if x.kernel.Calls() > maxCalls && x.flooded == 0 {
		x.abort("spins", "after %d system calls, the server has still not slept once", maxCalls)
	}
	if x.idle > spinCalls {
		x.shorten(x.idle)
		x.abort("spins", "the last %d system calls changed nothing (%s): the server spins", spinCalls, x.again())
	}
	for _, a := range x.actors {
		if a.asked && x.flooded-a.askedFlooded > starving && !a.answered() {
			x.shorten(len(x.steps()) - a.askedStep)
			x.abort("starves", "%s", x.starves(a))
		}
	}
	if x.seen(false) {
		x.done = true
		x.kernel.Exit(over{})
	}
	able := x.able()
	// A server that never sleeps because it has work to do must let the others act. One
	// that changes nothing is left to itself: it spins.
	bound := restless
	if x.flooded > 0 {
		bound = besideFlood
	}
	if len(able) > 0 && x.since > bound && x.idle < restless/2 {
		x.act(able[0])
		return
	}
	if len(able) == 0 {
		return
	}
	if c := x.choose.pick("act", 1+len(able)); c > 0 {
		x.act(able[c-1])
	}
}

// starves says what the server reads while a waits.
func (x *execution) starves(a *actor) words.Sentence {
	read := x.flooded - a.askedFlooded
	if a.next < len(a.acts) && a.acts[a.next].kind == floods {
		return words.Say("%s waits for its answer: the server has read %d bytes that followed its request", a.Name, read)
	}
	return words.Say("%s starves: the server has read %d bytes from another client meanwhile", a.Name, read)
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
	if x.failure != nil {
		x.end()
		return true
	}
	x.since = 0
	x.flood()
	if x.seen(true) {
		x.end()
		return true
	}
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
		x.fail("stop", "the server was asked to stop, and still sleeps")
	} else {
		x.judge()
	}
	if x.failure != nil {
		x.end()
		return
	}
	if x.stop == nil {
		if open := x.kernel.Open() - x.held() - x.base; x.base >= 0 && open > 0 {
			x.fail("leak", "every client has gone, and %s than at the start%s: the server leaks",
				plural(open, "more descriptor is open", "more descriptors are open"), x.leaked())
		}
		x.end()
		return
	}
	x.stopping = true
	x.begin()
	x.note("the server is asked to stop")
	x.stop()
}

// leaked names the first connection that is open although its client has gone.
func (x *execution) leaked() string {
	for _, a := range x.actors {
		if a.conn != nil && a.gone && a.conn.Descriptor() >= 0 {
			return fmt.Sprintf(" (%d, of %s: %s)", a.conn.Descriptor(), a.Name, x.kernel.Silence(a.conn))
		}
	}
	return ""
}

// again names the calls that a server repeats.
func (x *execution) again() words.Sentence {
	calls := words.Say("%s", x.repeated[0])
	for _, call := range x.repeated[1:] {
		calls = words.Say("%s and %s", calls, call)
	}
	if !slices.Contains(x.repeated, "epoll_wait") {
		return words.Say("%s again and again", calls)
	}
	if events := x.kernel.Reported(); events.Text != "" {
		return words.Say("%s again and again; epoll_wait reports %s", calls, events)
	}
	return words.Say("%s again and again, and nothing is ready", calls)
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

// shorten drops the last steps of the story, in which the server repeats itself, but
// for the first few of them.
func (x *execution) shorten(repeated int) {
	const shown = 3
	if all := x.steps(); repeated > shown && len(all) >= repeated {
		x.story.Steps = all[:len(all)-repeated+shown]
	}
}

func (x *execution) steps() []Step {
	if x.story == nil {
		return nil
	}
	return x.story.Steps
}

// begin begins a step of the story that is no system call; note ends it.
func (x *execution) begin() {
	if x.story != nil && !x.story.full() {
		x.story.add(x, "", "")
	}
}

func (x *execution) note(form string, args ...any) { x.noteSaid(words.Say(form, args...)) }

func (x *execution) noteSaid(said words.Sentence) {
	if x.story != nil && !x.story.full() {
		last := &x.story.Steps[len(x.story.Steps)-1]
		last.say(said)
		last.State = x.kernel.State()
		x.story.save()
	}
}

// quote shows bytes that a client sends or gets.
func quote(p []byte) words.Sentence {
	const most = 24
	if len(p) > most {
		return words.Say("%d bytes, %s…", len(p), fmt.Sprintf("%q", p[:most]))
	}
	return words.Sentence{Text: fmt.Sprintf("%q", p)}
}

func count(n int, what string) string { return plural(n, what, what+"s") }

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
