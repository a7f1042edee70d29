//go:build linux

// Package ptrace counts the system calls that processes make, by name, with
// ptrace(2): as strace -c -f does, without strace, and while they run. It can also
// tell of each call as it is entered and left, and where in the program it is made.
//
// A counted process stops twice in each call, and goes on when its counter has
// taken notice. So it is slower, by some microseconds each time, and otherwise
// as before: it gets its signals, is stopped by SIGSTOP and continued by
// SIGCONT, may fork, exec and exit. Its state in /proc is "t" where it would be
// "T". A program with the set-user-ID bit does not get that user's rights when
// it is counted.
//
// # Waiting for a child that is counted
//
// Linux has one list of news about a process for the whole of its parent
// process, and a tracer in any thread of that parent shares it. So while a child
// is counted, a wait for it in the same program, exec.Cmd.Wait too, would be told
// of the next stop and take it for the end, and the child would stand there for
// ever after. (See "If it is traced by its real parent's group" in the kernel's
// wait_consider_task.) Call AwaitEnd first: it waits for the end without taking
// any news. Or wait when Detach has returned.
//
// The end itself is left to the parent: a Counter never takes the exit status of
// a child of this program. Children that are not counted, and children of others,
// are waited for as ever.
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
)

// patience bounds Attach and Detach, which take milliseconds. A thread in an
// uninterruptible sleep, as on a file server that is gone, does not stop before it ends.
const patience = 10 * time.Second

// call is a system call of one architecture: a process of 32 bits on a machine
// of 64 has other numbers.
type call struct {
	arch   uint32 // AUDIT_ARCH_…
	number uint64
}

func (c call) String() string {
	if c.arch != nativeArch {
		return fmt.Sprintf("syscall %d of architecture %#x", c.number, c.arch)
	}
	return Name(int(c.number))
}

// A Counter counts the system calls of processes, of all their threads, and of
// the processes that they start. Its methods may be called from any goroutine.
type Counter struct {
	stop atomic.Bool   // set by Detach: let them all go
	done chan struct{} // closed when they have been let go, or have all ended
	err  error         // what ended the counting; not to be read before done

	watch func(Stop) // told of each call, when not nil

	mu     sync.Mutex
	counts map[call]int64
	thread int // the thread that traces; 0 when none does
}

// Attach counts the calls of these processes from now on: of the threads they
// have, and of all threads and processes that will be started by those, but not
// of children that they have already: name them too. It returns when no call goes
// by uncounted.
//
// A thread that waits in a call is woken for that, as by SIGSTOP and SIGCONT:
// most calls are then entered again without the program's knowing, and counted,
// some by the name of restart_syscall; some, like epoll_wait, fail with EINTR
// (signal(7), "Interruption of system calls and library functions by stop
// signals"). So let the processes do something before you take the first Counts.
//
// ptrace(2), "Ptrace access mode checking", says who may: root, and whoever runs
// the processes; where Yama is in force, only for children of this program, and
// theirs. A process has one tracer at a time. The error is an EPERM that tries
// to say why, or ESRCH when a process has ended. It takes Linux 5.3.
func Attach(pids ...int) (*Counter, error) { return Watch(nil, pids...) }

// Watch is Attach, and calls watch with every Stop, in the order in which they
// come. The thread stands still until watch returns.
func Watch(watch func(Stop), pids ...int) (*Counter, error) {
	if err := interruptible(); err != nil {
		return nil, err
	}
	c := newCounter()
	c.watch = watch
	attached := make(chan struct{})
	go c.trace(pids, attached)
	late := time.After(patience)
	for {
		select {
		case <-attached:
			return c, nil
		case <-c.done: // refused, or they have ended
			if c.err != nil {
				return nil, c.err
			}
			return c, nil
		case <-time.After(10 * time.Millisecond): // long, for an Attach
			for _, pid := range pids {
				if err := reap(pid); err != nil {
					return nil, errors.Join(err, c.Detach())
				}
			}
		case <-late:
			return nil, errors.Join(fmt.Errorf("ptrace: a thread of %v does not stop", pids), c.Detach())
		}
	}
}

func newCounter() *Counter {
	return &Counter{done: make(chan struct{}), counts: map[call]int64{}}
}

// Counts is how many calls have been entered so far, by name. A call is
// counted before it does anything: whoever has seen its effect finds it here. A
// call that a signal has interrupted and Linux enters again counts again.
func (c *Counter) Counts() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[string]int64, len(c.counts))
	for call, n := range c.counts {
		counts[call.String()] = n
	}
	return counts
}

func (c *Counter) count(entered call) {
	c.mu.Lock()
	c.counts[entered]++
	c.mu.Unlock()
}

// Detach ends the counting and lets the processes run on; one that was stopped
// by a signal stays so. Threads that wait in a call are woken as by Attach. The
// error is the one that ended the counting before Detach did, if any. Another
// Detach does nothing and returns the same.
func (c *Counter) Detach() error {
	c.stop.Store(true)
	late := time.After(patience)
	for {
		// Not once only: it may be just about to wait when the signal comes.
		if err := c.wakeTracer(); err != nil {
			return err
		}
		select {
		case <-c.done:
			return c.err
		case <-time.After(time.Millisecond):
		case <-late:
			return errors.New("ptrace: a thread does not stop; it is let go when it does" +
				" (unless somebody waits for its process without AwaitEnd)")
		}
	}
}

// AwaitEnd waits until the process has ended, and leaves its exit status to
// whoever waits for it. Call it before exec.Cmd.Wait, in the same goroutine,
// when the command may be counted at the time.
func AwaitEnd(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open of process %d: %w", pid, err)
	}
	defer unix.Close(fd) // nothing is lost when this fails
	for {
		// Readable when all threads have ended: pidfd_open(2).
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("poll of process %d: %w", pid, err)
		}
	}
}

// refused explains why a thread could not be traced, as far as that can be seen.
func refused(tid int, err error) error {
	who := statusOf(tid)
	if who.ended {
		err = unix.ESRCH // what ptrace says is EPERM
	}
	err = fmt.Errorf("ptrace of thread %d: %w", tid, err)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if who.tracer != 0 {
		return fmt.Errorf("%w: thread %d traces it already: a debugger, strace, another Counter?",
			err, who.tracer)
	}
	hint := "it belongs to another user or has more privileges, or the container has no CAP_SYS_PTRACE," +
		" or its seccomp filter forbids ptrace"
	const yama = "/proc/sys/kernel/yama/ptrace_scope"
	scope, unread := os.ReadFile(yama)
	if mode := strings.TrimSpace(string(scope)); unread == nil && mode != "0" {
		hint = fmt.Sprintf("%s is %s: 1 allows it for one's own children only, 2 for root only,"+
			" 3 for nobody; or %s", yama, mode, hint)
	}
	return fmt.Errorf("%w: %s", err, hint)
}
