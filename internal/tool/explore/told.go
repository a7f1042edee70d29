//go:build linux

package explore

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel/simulated"
)

// told adds each system call to the story. A call takes its place in the story when it
// is entered, before what clients do while it blocks; its result is added later.
type told struct {
	Kernel
	x *execution
}

// ours are the packages whose frames are not the server's own lines.
var ours = []string{"lesson/internal/", "golang.org/x/sys/", "testing", "runtime"}

// line returns where in the server's source a call is made.
func line() (file string, number int) {
	var pcs [24]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		frame, more := frames.Next()
		own := true
		for _, prefix := range ours {
			own = own && !strings.HasPrefix(frame.Function, prefix)
		}
		if own {
			return filepath.Join(filepath.Base(filepath.Dir(frame.File)), filepath.Base(frame.File)), frame.Line
		}
		if !more {
			return "", 0
		}
	}
}

// A callKey finds a call that has been announced and has not begun.
type callKey struct {
	name string
	fd   int
}

// enter announces a step, which begins when no client wants to act before the call. It
// returns the function that ends it with what the call returned.
func (t *told) enter(name string, fd int, args string, values ...any) func(result string) {
	text := name + "(" + fmt.Sprintf(args, values...) + ")"
	file, number := line()
	story, x := t.x.story, t.x
	at := -1
	if story.full() {
		return func(string) {}
	}
	story.announce(callKey{name, fd}, func() {
		at = len(story.Steps)
		story.add(x, "server", text+" waits")
		story.Steps[at].File, story.Steps[at].Line = file, number
	})
	return func(result string) {
		if x.done || at < 0 || story.full() {
			return
		}
		if at == len(story.Steps)-1 { // nothing has happened meanwhile
			story.Steps[at].Text = text + " = " + result
			story.Steps[at].State = x.kernel.State()
			story.save()
			return
		}
		story.add(x, "server", strings.SplitN(text, "(", 2)[0]+" returns "+result)
		last := &story.Steps[len(story.Steps)-1]
		last.File, last.Line = file, number
	}
}

// outcome writes what a call returned.
func outcome(n int, err error) string {
	if errno, ok := err.(unix.Errno); ok {
		return unix.ErrnoName(errno)
	}
	return fmt.Sprint(n)
}

func (t *told) Socket(domain, typ, proto int) (int, error) {
	leave := t.enter("socket", -1, "")
	fd, err := t.Kernel.Socket(domain, typ, proto)
	leave(outcome(fd, err))
	return fd, err
}

func (t *told) Bind(fd int, addr netip.AddrPort) error {
	leave := t.enter("bind", fd, "%d, %s", fd, addr)
	err := t.Kernel.Bind(fd, addr)
	leave(outcome(0, err))
	return err
}

func (t *told) Listen(fd, backlog int) error {
	leave := t.enter("listen", fd, "%d, %d", fd, backlog)
	err := t.Kernel.Listen(fd, backlog)
	leave(outcome(0, err))
	return err
}

func (t *told) Accept4(fd, flags int) (int, error) {
	leave := t.enter("accept4", fd, "%d", fd)
	n, err := t.Kernel.Accept4(fd, flags)
	leave(outcome(n, err))
	return n, err
}

func (t *told) Read(fd int, p []byte) (int, error) {
	leave := t.enter("read", fd, "%d, %d bytes", fd, len(p))
	n, err := t.Kernel.Read(fd, p)
	result := outcome(n, err)
	if n > 0 {
		result += fmt.Sprintf(" %.20q", p[:n])
	}
	leave(result)
	return n, err
}

func (t *told) Send(fd int, p []byte, flags int) (int, error) {
	leave := t.enter("send", fd, "%d, %d bytes", fd, len(p))
	n, err := t.Kernel.Send(fd, p, flags)
	leave(outcome(n, err))
	return n, err
}

func (t *told) Shutdown(fd, how int) error {
	leave := t.enter("shutdown", fd, "%d, %s", fd, [...]string{"SHUT_RD", "SHUT_WR", "SHUT_RDWR"}[how])
	err := t.Kernel.Shutdown(fd, how)
	leave(outcome(0, err))
	return err
}

func (t *told) Close(fd int) error {
	leave := t.enter("close", fd, "%d", fd)
	err := t.Kernel.Close(fd)
	leave(outcome(0, err))
	return err
}

func (t *told) Dup(fd int) (int, error) {
	leave := t.enter("dup", fd, "%d", fd)
	n, err := t.Kernel.Dup(fd)
	leave(outcome(n, err))
	return n, err
}

func (t *told) EpollCreate1(flags int) (int, error) {
	leave := t.enter("epoll_create1", -1, "")
	n, err := t.Kernel.EpollCreate1(flags)
	leave(outcome(n, err))
	return n, err
}

func (t *told) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	leave := t.enter("epoll_ctl", fd, "%d, %s, %d, %s", epfd, [...]string{"", "ADD", "DEL", "MOD"}[op], fd,
		simulated.EventNames(event.Events))
	err := t.Kernel.EpollCtl(epfd, op, fd, event)
	leave(outcome(0, err))
	return err
}

// EpollWait says of each event which entry it is for, and what put it on the ready list.
func (t *told) EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (int, error) {
	timeout := fmt.Sprintf("%d ms", milliseconds)
	if milliseconds < 0 {
		timeout = "no timeout"
	}
	leave := t.enter("epoll_wait", -1, "%d, %s", epfd, timeout)
	n, err := t.Kernel.EpollWait(epfd, events, milliseconds)
	if t.x.done || t.x.story.full() {
		return n, err
	}
	result := outcome(n, err)
	var why []string
	for i, cause := range t.x.kernel.Why {
		if i < n {
			result += fmt.Sprintf(" [%d %s]", cause.FD, simulated.EventNames(events[i].Events))
			why = append(why, fmt.Sprintf("%d: %s (step %d)", cause.FD, cause.Text, cause.Step))
		}
	}
	leave(result)
	t.x.story.Steps[len(t.x.story.Steps)-1].Why = why
	return n, err
}

func (t *told) Nanosleep(d time.Duration) error {
	leave := t.enter("nanosleep", -1, "%v", d)
	err := t.Kernel.Nanosleep(d)
	leave(outcome(0, err))
	return err
}
