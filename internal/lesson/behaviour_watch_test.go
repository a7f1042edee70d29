//go:build linux

package lesson_test

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/proof"
)

// A ledger is a Kernel that keeps account of a server's descriptors: which are
// open, and every use of one that is not. Unlike a count of /proc/self/fd it
// knows whose they are, so tests can run side by side.
type ledger struct {
	kernel.Kernel
	mu    sync.Mutex
	open  map[int]string // descriptor: the call that made it
	most  int            // connections at a time
	wrong []string
}

func (l *ledger) opened(call string, fd int, err error) (int, error) {
	if err == nil {
		l.mu.Lock()
		l.open[fd] = call
		l.most = max(l.most, l.count())
		l.mu.Unlock()
	}
	return fd, err
}

func (l *ledger) used(call string, fd int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[fd] == "" {
		l.wrong = append(l.wrong, call+" on a descriptor that is not open")
	}
}

// connections is how many the server has accepted and not closed.
func (l *ledger) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count()
}

func (l *ledger) count() int {
	n := 0
	for _, call := range l.open {
		if call == "accept4" {
			n++
		}
	}
	return n
}

// settle wants every descriptor closed, each once, and none used after that.
func (l *ledger) settle(t testing.TB) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for fd, call := range l.open {
		t.Errorf("descriptor %d, from %s, has not been closed", fd, call)
	}
	for _, wrong := range l.wrong {
		t.Error(wrong)
	}
}

func (l *ledger) Socket(domain, typ, proto int) (int, error) {
	fd, err := l.Kernel.Socket(domain, typ, proto)
	return l.opened("socket", fd, err)
}

func (l *ledger) Accept4(fd, flags int) (int, error) {
	conn, err := l.Kernel.Accept4(fd, flags)
	return l.opened("accept4", conn, err)
}

func (l *ledger) EpollCreate1(flags int) (int, error) {
	fd, err := l.Kernel.EpollCreate1(flags)
	return l.opened("epoll_create1", fd, err)
}

func (l *ledger) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	l.used("epoll_ctl", fd)
	return l.Kernel.EpollCtl(epfd, op, fd, event)
}

func (l *ledger) Read(fd int, p []byte) (int, error) {
	l.used("read", fd)
	return l.Kernel.Read(fd, p)
}

func (l *ledger) Send(fd int, p []byte, flags int) (int, error) {
	l.used("send", fd)
	return l.Kernel.Send(fd, p, flags)
}

func (l *ledger) Shutdown(fd, how int) error {
	l.used("shutdown", fd)
	return l.Kernel.Shutdown(fd, how)
}

func (l *ledger) Close(fd int) error {
	l.used("close", fd)
	l.mu.Lock()
	delete(l.open, fd) // before the number can be handed out again
	l.mu.Unlock()
	return l.Kernel.Close(fd)
}

// A watcher is a trace.Observer that counts calls and lets a test step in. It
// does not count calls that end with EINTR: when the Go runtime wants a thread's
// processor it sends the thread a signal, now and then into a system call.
type watcher struct {
	mu          sync.Mutex
	calls       map[string]int // entered and not interrupted, by name
	interrupted map[string]int
	last        string // the one entered last
	story       []string
	enter       func(*trace.Call)
	leave       func(*trace.Call)
}

func (w *watcher) Enter(c *trace.Call) {
	w.mu.Lock()
	if w.calls == nil {
		w.calls = make(map[string]int)
	}
	w.calls[c.Name]++
	w.last = c.Name
	w.mu.Unlock()
	if w.enter != nil {
		w.enter(c)
	}
}

func (w *watcher) Leave(c *trace.Call) {
	w.mu.Lock()
	w.story = append(w.story,
		fmt.Sprintf("%v %s(%s) = %d %v", c.Entered, c.Name, c.Args, c.Result, c.Err))
	if c.Err == unix.EINTR {
		if w.interrupted == nil {
			w.interrupted = make(map[string]int)
		}
		w.calls[c.Name]--
		w.interrupted[c.Name]++
	}
	w.mu.Unlock()
	if w.leave != nil {
		w.leave(c)
	}
}

// entered is how often the call has been made, the one that is being made now
// among them.
func (w *watcher) entered(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[name]
}

// told is every call that has been left, one a line.
func (w *watcher) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.story, "\n")
}

// all is entered for every call.
func (w *watcher) all() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.calls)
}

// at is the call that was made last: with one thread, and nothing more to do,
// the one that the server is waiting in.
func (w *watcher) at() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// over is the wrap of a rig that lets w watch.
func (w *watcher) over(k kernel.Kernel) kernel.Kernel {
	return trace.Traced(k, w)
}

// faulty is the wrap of a rig whose calls fail as planned.
func faulty(plan func(name string, fd int) (kernel.Fault, bool)) func(kernel.Kernel) kernel.Kernel {
	return func(k kernel.Kernel) kernel.Kernel { return &kernel.Faulty{Kernel: k, Plan: plan} }
}

// accepted waits until the server has taken c from the accept queue.
func accepted(t *T, c *play.Conn) {
	t.Helper()
	proof.Eventually(t, "the server has accepted the client", func() bool {
		return t.machine.theirs(c) >= 0
	})
}

// gone waits until the server has closed its end. c itself must be open.
func gone(t *T, c *play.Conn) {
	t.Helper()
	proof.Eventually(t, "the server has closed the connection", func() bool {
		return t.machine.theirs(c) < 0
	})
}

// digested waits until the server has read everything that c has sent.
func digested(t *T, c *play.Conn) {
	t.Helper()
	proof.Eventually(t, "the server has read what was sent", func() bool {
		unread, onTheirWay, ok := t.machine.queued(c)
		return ok && unread == 0 && onTheirWay == 0
	})
}

// arrived waits until the last bytes that c has sent are in the server's
// receive buffer, or have been read from it.
func arrived(t *T, c *play.Conn) {
	t.Helper()
	proof.Eventually(t, "what was sent has arrived", func() bool {
		unread, onTheirWay, ok := t.machine.queued(c)
		return ok && (unread > 0 || onTheirWay == 0)
	})
}

// A holding counts what a process has and a server must give back.
type holding struct{ descriptors, goroutines int }

// more reports whether there is more of anything than in another.
func (h holding) more(than holding) bool {
	return h.descriptors > than.descriptors || h.goroutines > than.goroutines
}

// holds is what this process has now.
func holds() holding {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	return holding{len(entries) - 1, runtime.NumGoroutine()} // one was the directory
}
