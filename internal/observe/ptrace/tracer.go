//go:build linux

// Package ptrace stops the threads of other processes at their system calls, with
// ptrace(2), as strace(1) does: a Tracer reports each call as it is entered and left. A
// Counter is a Tracer that counts the calls by name.
//
// A traced process stops twice in each call, and continues when its Tracer has seen
// that. So it is slower, by some microseconds each time, and otherwise as before: it gets
// its signals, is stopped by SIGSTOP and continued by SIGCONT, may fork, exec and exit.
// Its state in /proc is "t" where it would be "T". A program with the set-user-ID bit
// does not get that user's rights when it is traced.
//
// # Waiting for a child that is traced
//
// Linux keeps one list of news about a process for the whole of its parent process, and
// a tracer in any thread of that parent shares it. So while a child is traced, a wait for
// it in the same program, exec.Cmd.Wait too, would receive the next stop and take it for
// the end, and the child would stay stopped forever. (See "If it is traced by its real
// parent's group" in the kernel's wait_consider_task.) Call proc.AwaitEnd first: it waits
// for the end without receiving any news. Or wait when Detach has returned.
//
// The end itself is left to the parent: a Tracer never takes the exit status of a
// process that this program has started. Children that are not traced, and children of
// others, are waited for as usual.
package ptrace

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
)

// patience bounds Trace and Detach, which take milliseconds. A thread in an
// uninterruptible sleep, as on a file server that is gone, does not stop before it ends.
const patience = 10 * time.Second

// A Tracer traces processes: all their threads, and the processes that they start. Its
// methods may be called from any goroutine.
type Tracer struct {
	report func(Stop) (hold bool)
	stop   atomic.Bool   // set by Detach: let them all go
	done   chan struct{} // closed when they have been let go, or have all ended
	err    error         // what ended the tracing; not to be read before done

	mu     sync.Mutex
	thread int // the thread that traces; 0 when none does
}

// Trace calls report with every Stop of these processes from now on, in the order in
// which they come, and on one thread: of the threads that they have, and of all threads
// and processes that will be started by those, but not of children that they have
// already: name them too. The thread that has stopped continues when report returns.
// Trace returns when no call escapes it.
//
// A thread that is blocked in a call is woken for that, as by SIGSTOP and SIGCONT: most
// calls are then entered again without the program's knowing, and reported, some by the
// name of restart_syscall; some, like epoll_wait, fail with EINTR (signal(7),
// "Interruption of system calls and library functions by stop signals").
//
// ptrace(2), "Ptrace access mode checking", describes who may: root, and the user of the
// processes; where Yama is in force, only for children of this program, and theirs. A
// process has one tracer at a time. The error is an EPERM that tries to say why, or ESRCH
// when a process has ended. It takes Linux 5.3.
func Trace(report func(Stop), pids ...int) (*Tracer, error) {
	return Hold(func(s Stop) bool {
		report(s)
		return false
	}, pids...)
}

// Hold is Trace with a choice: a thread for whose Stop report returns true does not continue
// before Detach. The other threads of its process do.
func Hold(report func(Stop) (hold bool), pids ...int) (*Tracer, error) {
	if err := interruptible(); err != nil {
		return nil, err
	}
	t := newTracer(report)
	attached := make(chan struct{})
	go t.run(pids, attached)
	late := time.After(patience)
	for {
		select {
		case <-attached:
			return t, nil
		case <-t.done: // refused, or they have ended
			if t.err != nil {
				return nil, t.err
			}
			return t, nil
		case <-time.After(10 * time.Millisecond): // long, for this
			for _, pid := range pids {
				if err := reap(pid); err != nil {
					return nil, errors.Join(err, t.Detach())
				}
			}
		case <-late:
			return nil, errors.Join(fmt.Errorf("ptrace: a thread of %v does not stop", pids), t.Detach())
		}
	}
}

func newTracer(report func(Stop) bool) *Tracer {
	return &Tracer{report: report, done: make(chan struct{})}
}

// Detach ends the tracing and lets the processes run on; one that was stopped by a
// signal stays so. Threads that are blocked in a call are woken as by Trace. The error
// is the one that ended the tracing before Detach did, if any. Another Detach does
// nothing and returns the same.
func (t *Tracer) Detach() error {
	t.stop.Store(true)
	late := time.After(patience)
	for {
		// Not once only: it may be just about to wait when the signal comes.
		if err := t.wakeUp(); err != nil {
			return err
		}
		select {
		case <-t.done:
			return t.err
		case <-time.After(time.Millisecond):
		case <-late:
			return errors.New("ptrace: a thread does not stop; it is let go when it does" +
				" (unless something waits for its process without proc.AwaitEnd)")
		}
	}
}

// refused explains why a thread could not be traced, as far as that can be seen.
func refused(tid int, err error) error {
	who, unread := proc.ReadStatus(tid)
	if unread != nil || who.Ended() {
		err = unix.ESRCH // where ptrace returns EPERM
	}
	err = fmt.Errorf("ptrace of thread %d: %w", tid, err)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if who.Tracer != 0 {
		return fmt.Errorf("%w: thread %d traces it already: a debugger, strace, another Tracer?",
			err, who.Tracer)
	}
	hint := "it belongs to another user or has more privileges, or the container has no CAP_SYS_PTRACE," +
		" or its seccomp filter forbids ptrace"
	const yama = "/proc/sys/kernel/yama/ptrace_scope"
	scope, unread := os.ReadFile(yama)
	if mode := strings.TrimSpace(string(scope)); unread == nil && mode != "0" {
		hint = fmt.Sprintf("%s is %s: 1 allows it for one's own children only, 2 for root only,"+
			" 3 not at all; or %s", yama, mode, hint)
	}
	return fmt.Errorf("%w: %s", err, hint)
}
