//go:build linux

// Package syscount counts the system calls that processes make, by name, with
// ptrace(2): as strace -c -f does, without strace, and while they run.
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
package syscount

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds how long Attach and Detach wait for threads to stop. They
// stop at once, but for one that is in an uninterruptible sleep.
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
	stop chan struct{} // closed by Detach: let them all go
	done chan struct{} // closed when they have been let go, or have all ended

	mu       sync.Mutex
	stopping bool
	counts   map[call]int64
	err      error // what ended the counting; to be read when done
	thread   int   // the thread that traces, or 0 when it does no longer
}

// Attach counts the calls of these processes from now on: of the threads they
// have, and of all threads and processes that will be started by those. It
// does not count children that they have already. It returns when no call goes
// by uncounted.
//
// A thread that waits in a call is woken for it, as by SIGSTOP and SIGCONT: most
// calls are then entered a second time without the program's knowing, some by
// the name of restart_syscall, and are counted; some, like epoll_wait, fail with
// EINTR (signal(7), "Interruption of system calls … by stop signals"). So let
// the processes do something before you take the first Counts to compare with.
//
// Linux allows it to a program that may send them signals and is as privileged,
// once in a time for each thread; where Yama is in force, for the program's own
// children and theirs only (ptrace(2), "Ptrace access mode checking"). The error
// says what stood in the way: an EPERM, or ESRCH for a process that has ended.
// Linux 5.3 or later.
func Attach(pids ...int) (*Counter, error) {
	if err := interruptible(); err != nil {
		return nil, err
	}
	c := &Counter{
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		counts: map[call]int64{},
	}
	attached := make(chan struct{})
	go c.trace(pids, attached)
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-attached:
		return c, nil
	case <-c.done:
		if c.err != nil {
			return nil, c.err
		}
		return c, nil // they have ended
	case <-late.C:
		return nil, errors.Join(fmt.Errorf("ptrace: a thread of %v does not stop", pids), c.Detach())
	}
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
	c.mu.Lock()
	if !c.stopping {
		c.stopping = true
		close(c.stop)
	}
	c.mu.Unlock()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		// The thread may be just about to wait when the signal comes: not once only.
		if err := c.interrupt(); err != nil {
			return err
		}
		select {
		case <-c.done:
			return c.err
		case <-again.C:
		case <-late.C:
			return errors.New("ptrace: a thread does not stop, and is let go when it does")
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
func refused(tid, tracer int, err error) error {
	err = fmt.Errorf("ptrace of thread %d: %w", tid, err)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if tracer != 0 {
		return fmt.Errorf("%w: thread %d traces it already: a debugger, strace, another Counter?",
			err, tracer)
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
