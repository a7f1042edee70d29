//go:build linux

package explore

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/kernel/simulated"
	"lesson/internal/words"
)

// told adds each system call to the story. A call takes its place in the story when it
// is entered, before what clients do while it blocks; its result is added later.
type told struct {
	*kernel.Described
	Machine
	x *execution
}

func (x *execution) told(k Kernel) *told {
	t := &told{Machine: k, x: x}
	t.Described = &kernel.Described{Kernel: k, Enter: t.enter}
	return t
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

// leftOut are the calls that a story does not show: they change nothing that it shows.
var leftOut = []string{"setsockopt", "getsockname"}

// enter announces a step, which begins when no client wants to act before the call. It
// returns the function that ends it with what the call returned.
func (t *told) enter(name string, fd int, args string) func(kernel.Returned) {
	story, x := t.x.story, t.x
	if story.full() || slices.Contains(leftOut, name) {
		return func(kernel.Returned) {}
	}
	text := name + "(" + simulated.Short(args) + ")"
	file, number := line()
	at := -1
	story.announce(callKey{name, fd}, func() {
		at = len(story.Steps)
		story.add(x, "server", "")
		story.Steps[at].say(words.Say("%s waits", text)) // waitsMark
		story.Steps[at].File, story.Steps[at].Line = file, number
	})
	x.faulted = callKey{}
	return func(r kernel.Returned) {
		if x.done || at < 0 || story.full() {
			return
		}
		result, why := x.outcome(r)
		if name == "read" && r.Result > 0 {
			result += fmt.Sprintf(" %.20q", r.Data)
		}
		if x.faulted == (callKey{name, fd}) {
			result += faultMark
		}
		if at == len(story.Steps)-1 { // nothing has happened meanwhile
			story.Steps[at].Text, story.Steps[at].Said = text+" = "+result, nil
			story.Steps[at].State = x.kernel.State()
		} else {
			story.add(x, "server", "")
			last := &story.Steps[len(story.Steps)-1]
			last.say(words.Say("%s returns %s", name, result))
			last.Began = story.Steps[at].Number
			if len(r.Events) > 0 {
				x.kernel.ReportedIn(len(story.Steps))
			}
		}
		last := &story.Steps[len(story.Steps)-1]
		last.File, last.Line, last.Reasons, last.Why = file, number, why, nil
		for _, reason := range why {
			last.Why = append(last.Why, reason.Text)
		}
		story.save()
	}
}

// faultMark follows the result of a call that went wrong because --faults allows it.
const faultMark = " (fault)"

// outcome writes what a call returned, and of each event what put its entry on the ready
// list.
func (x *execution) outcome(r kernel.Returned) (result string, why []words.Sentence) {
	if errno, ok := r.Err.(unix.Errno); ok {
		return unix.ErrnoName(errno), nil
	}
	result = fmt.Sprint(r.Result)
	for i, event := range r.Events {
		cause := x.kernel.Why[i]
		result += fmt.Sprintf(" [%d %s]", cause.FD, simulated.EventNames(event.Events))
		why = append(why, words.Say("%d: %s (step %d)", cause.FD, cause.Text, cause.Step))
	}
	return result, why
}

// Dup is no call of kernel.Kernel: it is described here.
func (t *told) Dup(fd int) (int, error) {
	leave := t.enter("dup", fd, fmt.Sprint(fd))
	n, err := t.Machine.Dup(fd)
	leave(kernel.Returned{Result: n, Err: err})
	return n, err
}

// Write, on an eventfd, is no call of kernel.Kernel either.
func (t *told) Write(fd int, p []byte) (int, error) {
	leave := t.enter("write", fd, fmt.Sprintf("%d, %d bytes", fd, len(p)))
	n, err := t.Machine.Write(fd, p)
	leave(kernel.Returned{Result: n, Err: err})
	return n, err
}

// Eventfd is described as well.
func (t *told) Eventfd(initial uint, flags int) (int, error) {
	leave := t.enter("eventfd2", -1, fmt.Sprint(initial))
	n, err := t.Machine.Eventfd(initial, flags)
	leave(kernel.Returned{Result: n, Err: err})
	return n, err
}
