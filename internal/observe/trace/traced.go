//go:build linux

package trace

import (
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

// Traced returns a Kernel that makes every call through k and reports it to o.
func Traced(k kernel.Kernel, o Observer) kernel.Kernel {
	var calls atomic.Int64
	enter := func(name string, fd int, args string) func(kernel.Returned) {
		c := &Call{
			Number: calls.Add(1), Name: name, FD: fd, Args: args,
			Thread: unix.Gettid(), Entered: k.Now(),
		}
		c.File, c.Line = lessonLine()
		o.Enter(c)
		return func(r kernel.Returned) {
			c.leave(r, k.Now())
			o.Leave(c)
		}
	}
	return &kernel.Described{Kernel: k, Enter: enter}
}

func (c *Call) leave(r kernel.Returned, at time.Duration) {
	if r.Err != nil {
		r.Result = -1
	}
	c.Return(at, r.Result, r.Err, kernel.MayBlock)
	c.Data, c.Events = r.Data, r.Events
	if accepts(c.Name) && r.Err == nil {
		c.Peer, _ = kernel.PeerOf(r.Result)
	}
}

// below are the packages that make calls for a lesson: a call that one of them makes
// belongs to the line of the lesson that asked for it.
var below = []string{
	"lesson/internal/kernel", "lesson/internal/observe/trace", "lesson/internal/server",
}

// lessonLine returns where in the lesson a call was made: the nearest caller outside
// the packages below.
func lessonLine() (file string, line int) {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		frame, more := frames.Next()
		// A function's name starts with its package's path: "lesson/blocking.(*Server).Once".
		dir, name := path.Split(frame.Function)
		name, _, _ = strings.Cut(name, ".")
		if pkg := dir + name; !more || !slices.Contains(below, pkg) {
			return path.Join(strings.TrimPrefix(pkg, "lesson/"), path.Base(frame.File)), frame.Line
		}
	}
}
