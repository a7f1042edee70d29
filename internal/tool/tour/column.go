//go:build linux

package tour

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/observe/program"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/server"
	"lesson/internal/words"
)

// The states of a server.
const (
	starting  = "starting"
	listening = "listening"
	ended     = "ended" // by itself, as step 1 does
	failed    = "failed"
	removed   = "removed" // it is shown no more
)

// A serverEvent says how a server is.
type serverEvent struct {
	header
	Server   string          `json:"server"`
	Lesson   string          `json:"lesson"` // as it was asked for
	Title    string          `json:"title"`
	Addr     string          `json:"addr,omitempty"`
	Files    []string        `json:"files"`
	Untraced bool            `json:"untraced,omitempty"` // its calls cannot be seen
	Parked   bool            `json:"parked,omitempty"`   // package net makes them, and Go's runtime waits
	Lines    bool            `json:"lines"`              // its calls come with file and line
	Note     string          `json:"note,omitempty"`     // why its calls are not shown
	Noted    *words.Sentence `json:"noted,omitempty"`    // the same
	Frozen   bool            `json:"frozen,omitempty"`   // it is stopped: see freeze
	Rationed bool            `json:"rationed,omitempty"` // it gets no new descriptor: see ration
	State    string          `json:"state"`
	Error    string          `json:"error,omitempty"`
	Said     *words.Sentence `json:"said,omitempty"` // the error
	Hint     string          `json:"hint,omitempty"`
}

// A running server is a lesson in this process, or a program of its own.
type running interface {
	addr() netip.AddrPort
	pid() int     // whose descriptors are the server's
	stop()        // asks it to end; safe at any time
	end() error   // waits until it has ended, and says why if that is a fault
	threads() int // how many it has; -1 if that is not known
	ration(on bool) error
}

// A column is one server that is shown.
type column struct {
	id      string
	journal *journal
	start   func(*column) (running, error)
	clients *play.Clients // those that act here; guarded by the session's mu

	nearMu sync.Mutex
	near   map[string]netip.AddrPort // the clients that act here, where they connected from last
	reset  map[string]netip.AddrPort // those of them whose connection the server has reset

	judge judge // guarded by the session's looking
	brake brake // that its calls pass

	ctx    context.Context // ends when it is asked to end
	cancel context.CancelFunc

	mu      sync.Mutex
	about   serverEvent
	run     running       // nil while it does not run
	gone    chan struct{} // closed when run has ended, or has not started
	addr    netip.AddrPort
	stopped bool // it was asked to end

	foreignCalls bool // its system calls have the numbers of another architecture
}

func newColumn(id, name, title string, files []string, j *journal) *column {
	c := &column{id: id, journal: j, near: map[string]netip.AddrPort{}, reset: map[string]netip.AddrPort{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.about = serverEvent{Server: id, Lesson: name, Title: title, Files: files, Lines: true}
	return c
}

// tell tells the pages how the server is now. The lock is held.
func (c *column) tell(state string, err error) {
	c.about.State, c.about.Error, c.about.Hint, c.about.Said = state, "", "", nil
	if err != nil {
		said := sentenceOf(err)
		c.about.Error, c.about.Hint, c.about.Said = said.Text, hintOf(err).Text, &said
	}
	e := c.about
	c.journal.tell("server/"+c.id, "server", &e)
}

// launch starts the server, again if it has ended.
func (c *column) launch() error {
	c.mu.Lock()
	if c.run != nil || c.about.State == starting {
		c.mu.Unlock()
		return nil
	}
	c.journal.begins(c.id)
	c.about.Frozen, c.about.Rationed = false, false
	c.tell(starting, nil)
	c.gone = make(chan struct{})
	c.mu.Unlock()

	run, err := c.start(c) // it makes calls already
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		close(c.gone)
		c.tell(failed, err)
		return err
	}
	c.run, c.addr = run, run.addr()
	c.about.Addr = c.addr.String()
	c.tell(listening, nil)
	if c.stopped {
		run.stop() // it was asked to end while it started
	}
	go c.await(run, c.gone)
	return nil
}

// await waits for the server's end.
func (c *column) await(run running, gone chan struct{}) {
	err := run.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = nil
	c.about.Frozen, c.about.Rationed = false, false
	close(gone)
	switch {
	case c.stopped: // the page has gone
	case err != nil:
		c.tell(failed, err)
	default:
		c.tell(ended, nil)
	}
}

// stop ends the server and returns when it has ended.
func (c *column) stop() {
	c.mu.Lock()
	c.stopped = true
	run, gone := c.run, c.gone
	c.mu.Unlock()
	c.cancel()
	c.brake.release()
	if run != nil {
		run.stop()
	}
	if gone != nil {
		<-gone
	}
}

// call notes half a call of the server, on its own thread.
func (c *column) call(e trace.Event) {
	c.brake.pass()
	c.journal.call(c.id, e)
}

// frozen reports whether the server is stopped.
func (c *column) frozen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.about.Frozen
}

// cannotBeTraced notes that the server's calls cannot be shown, and why.
func (c *column) cannotBeTraced(why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := words.Say("Its calls cannot be shown: %s.", words.Sentence{Text: why})
	c.about.Untraced, c.about.Lines, c.about.Note, c.about.Noted = true, false, said.Text, &said
}

// withoutLines notes why the server's calls come without lines, unless they come with them.
func (c *column) withoutLines(why words.Sentence) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.about.Untraced {
		return // there are no calls
	}
	if c.about.Lines, c.about.Note, c.about.Noted = true, "", nil; why.Text != "" {
		c.about.Lines, c.about.Note, c.about.Noted = false, why.Text, &why
	}
}

// gains notes a source file that the server has made a call from.
func (c *column) gains(file string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.about.Files, file) {
		return
	}
	c.about.Files = append(slices.Clone(c.about.Files), file) // pages may be reading it
	if c.about.State == listening {
		c.tell(listening, nil)
	}
}

// isForeign notes that the server is a program of another architecture.
func (c *column) isForeign() {
	c.cannotBeTraced(program.Foreign)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.foreignCalls = true
	if c.about.State == listening {
		c.tell(listening, nil)
	}
}

// meet notes where a client has connected from, and whether the server has reset that
// connection.
func (c *column) meet(name string, addr netip.AddrPort, reset bool) {
	c.nearMu.Lock()
	defer c.nearMu.Unlock()
	c.near[name] = addr
	if delete(c.reset, name); reset {
		c.reset[name] = addr
	}
}

// resets returns the clients whose connections the server has reset.
func (c *column) resets() []netip.AddrPort {
	c.nearMu.Lock()
	defer c.nearMu.Unlock()
	return slices.SortedFunc(maps.Values(c.reset), netip.AddrPort.Compare)
}

// where returns where the server listens, or has listened.
func (c *column) where() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

// address is where the server listens; not valid when it does not run.
func (c *column) address() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run == nil && c.about.State != ended {
		return netip.AddrPort{}
	}
	return c.addr // of one that has ended, so that a client is refused there
}

// A lessonRun is a lesson that runs in this process.
type lessonRun struct {
	lesson.Server
	column      *column
	ended       chan error
	giveThreads func()    // back
	descriptors *rationed // nil when its calls are not traced
}

// lessonColumn is a column with one of the lessons.
func (t *Tour) lessonColumn(id string, l lesson.Lesson, j *journal) *column {
	c := newColumn(id, l.Name, l.Title, l.Files, j)
	c.about.Untraced, c.about.Parked, c.about.Lines = l.Untraced, l.Untraced, !l.Untraced
	c.start = func(c *column) (running, error) { return startLesson(c, l, &t.threads) }
	return c
}

func startLesson(c *column, l lesson.Lesson, all *threads) (running, error) {
	giveThreads, err := all.take(threadsOf(l))
	if err != nil {
		return nil, err
	}
	var k kernel.Kernel = l.Kernel()
	var descriptors *rationed
	if !l.Untraced {
		descriptors = &rationed{Kernel: k, left: maxOutsiders + maxClients}
		k = trace.Traced(descriptors, trace.NewRecorder(c.call))
	}
	options := server.Options{
		Addr: netip.AddrPortFrom(loopback, c.addr.Port()), Backlog: 4096,
		MaxConns: maxOutsiders + maxClients,
	}
	s, err := l.Start(k, options)
	if err != nil && options.Addr.Port() != 0 { // another socket has its old port now
		options.Addr = netip.AddrPortFrom(loopback, 0)
		s, err = l.Start(k, options)
	}
	if err != nil {
		giveThreads()
		return nil, fmt.Errorf("cannot start %s: %w", l.Name, err)
	}
	run := &lessonRun{
		Server: s, column: c, ended: make(chan error, 1), giveThreads: giveThreads, descriptors: descriptors,
	}
	go func() { run.ended <- s.Serve() }()
	return run, nil
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

func (r *lessonRun) addr() netip.AddrPort { return r.Addr() }
func (r *lessonRun) pid() int             { return self }
func (r *lessonRun) stop()                { r.Stop() }

func (r *lessonRun) end() error {
	defer r.giveThreads()
	return <-r.ended
}

// threads returns in how many threads the server has an open call: the process has many
// servers, and Go keeps more threads than it needs.
func (r *lessonRun) threads() int {
	if r.column.about.Untraced {
		return -1
	}
	threads := map[int]bool{}
	r.column.journal.look(r.column.id, func(s *trace.State) {
		for _, call := range s.Open() {
			threads[call.Thread] = true
		}
	})
	return len(threads)
}

// A rationed kernel has descriptors for so many connections. Beyond it says EMFILE,
// as Linux does at RLIMIT_NOFILE: a whole process with many servers in it must
// not come to that.
type rationed struct {
	kernel.Kernel
	mu    sync.Mutex
	left  int
	none  bool // a reader has taken the rest away
	given map[int]bool
}

func (r *rationed) Accept4(fd, flags int) (int, error) {
	r.mu.Lock()
	if r.left == 0 || r.none {
		r.mu.Unlock()
		return -1, unix.EMFILE
	}
	r.left--
	r.mu.Unlock()

	conn, err := r.Kernel.Accept4(fd, flags)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.left++
		return conn, err
	}
	if r.given == nil {
		r.given = map[int]bool{}
	}
	r.given[conn] = true
	return conn, nil
}

func (r *rationed) Close(fd int) error {
	r.mu.Lock()
	if r.given[fd] {
		delete(r.given, fd)
		r.left++
	}
	r.mu.Unlock()
	return r.Kernel.Close(fd)
}
