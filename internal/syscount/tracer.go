//go:build linux

package syscount

import (
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PTRACE_O_TRACESYSGOOD tells a stop in a system call from SIGTRAP. The others
// make every thread and process that is born to a tracee a tracee too, before it
// runs, and tell which thread is left when one of several calls execve.
const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE |
	unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC

// A state is how far it has come with a tracee, which is one thread.
type state int

const (
	seized  state = iota + 1 // and has not stopped yet, so its calls go by uncounted
	counted                  // stops in every call
	ended                    // a child of this program, and its owner has not waited for it yet
)

// A tracer is a Counter's side in one thread of the system: only the thread that
// has seized a tracee may tell it to go on.
type tracer struct {
	*Counter
	tracees  map[int]state // by thread id
	stopping bool          // every tracee is let go where it next stops

	news report // what the last call of waitid told
	info syscallInfo
}

// trace seizes the processes, closes attached when every thread of theirs is
// counted, and returns when no tracee is left.
func (c *Counter) trace(pids []int, attached chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	c.setThread(unix.Gettid())
	defer c.setThread(0) // the first of the three: no signal goes to a thread that is another's

	t := &tracer{Counter: c, tracees: map[int]state{}}
	for _, pid := range pids {
		if err := t.seize(pid); err != nil {
			t.fail(err)
			break
		}
	}
	for {
		if attached != nil && !t.stopping && !t.any(seized) {
			close(attached)
			attached = nil
		}
		select {
		case <-c.stop:
			t.letGo()
		default:
		}
		switch err := t.wait(); err {
		case nil:
			if err := t.handle(); err != nil {
				t.fail(err)
			}
		case unix.EINTR: // Detach, or nothing new
		case unix.ECHILD: // no tracee is left
			return
		default:
			t.fail(fmt.Errorf("waitid: %w", err))
			return
		}
	}
}

// seize makes all threads of a process tracees, and lets them stop.
func (t *tracer) seize(pid int) error {
	found := false
	// A thread that is not a tracee yet may start another: until there is no new one.
	for again := true; again; {
		again = false
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			break // the process has ended
		}
		for _, thread := range threads {
			tid, err := strconv.Atoi(thread.Name())
			if err != nil {
				return err
			}
			if t.tracees[tid] != 0 {
				continue
			}
			if err := ptrace(unix.PTRACE_SEIZE, tid, options); err != nil {
				who := statusOf(tid)
				switch {
				case who.tracer == unix.Gettid(): // born to a tracee just now; it stops by itself
					found = true
				case !who.ended:
					return refused(tid, who.tracer, err)
				}
				continue
			}
			t.tracees[tid] = seized
			found, again = true, true
			if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0); err != nil && err != unix.ESRCH {
				return fmt.Errorf("ptrace: interrupt thread %d: %w", tid, err)
			}
		}
	}
	if !found {
		return fmt.Errorf("ptrace of process %d: %w", pid, unix.ESRCH)
	}
	return nil
}

// wait finds the next news of a tracee: that it stands still, or has ended.
// ECHILD when there is no tracee, EINTR when it is worth looking at t.stop again.
func (t *tracer) wait() error {
	if !t.stopping && !t.any(ended) {
		return t.waitid(unix.P_ALL, 0, 0)
	}
	// The end of a child of ours is left where its owner finds it, and so waitid
	// would tell of it again and again. So ask for the others, one by one, for as
	// long as that lasts.
	for tid, state := range t.tracees {
		err := t.waitid(unix.P_PID, tid, unix.WNOHANG)
		switch {
		case err == unix.ECHILD: // its owner has waited for it
			delete(t.tracees, tid)
		case err != nil:
			return err
		case t.news.tid != 0 && state != ended:
			return nil
		}
	}
	// A tracee may be there that its parent was killed too early to tell of.
	if err := t.waitid(unix.P_ALL, 0, unix.WNOHANG); err != nil {
		return err
	}
	switch t.tracees[int(t.news.tid)] {
	case ended:
		if t.stopping && !t.any(seized) && !t.any(counted) {
			return unix.ECHILD // only children are left that have ended
		}
	case 0:
		if t.news.tid != 0 {
			return nil
		}
	}
	time.Sleep(time.Millisecond)
	return unix.EINTR
}

// any says whether a tracee is in this state.
func (t *tracer) any(wanted state) bool {
	for _, state := range t.tracees {
		if state == wanted {
			return true
		}
	}
	return false
}

// handle does what the news ask for, and lets the tracee go on.
func (t *tracer) handle() error {
	tid := int(t.news.tid)
	if t.news.code != trapped {
		return t.end(tid)
	}
	t.tracees[tid] = counted
	event, signal := int(t.news.status>>8), int(t.news.status&0xff)
	request, deliver := unix.PTRACE_SYSCALL, 0
	var err error
	switch event {
	case 0:
		switch {
		case signal != int(unix.SIGTRAP)|0x80:
			deliver = signal // it is about to get one
		case !t.stopping: // PTRACE_O_TRACESYSGOOD: it enters a call, or leaves it
			err = t.entered(tid)
		}
	case unix.PTRACE_EVENT_STOP:
		// SIGTRAP: after PTRACE_INTERRUPT, SIGCONT, or its birth. Another: stopped by
		// this signal, and so it shall stay until SIGCONT.
		if signal != int(unix.SIGTRAP) {
			request = unix.PTRACE_LISTEN
		}
	case unix.PTRACE_EVENT_EXEC:
		// It goes by the process's id now, whatever it was before. Until these news
		// are taken, Linux thinks that the thread is meant that had the id then.
		if err = t.take(tid); err == nil {
			var former uint
			former, err = unix.PtraceGetEventMsg(tid)
			delete(t.tracees, int(former))
			t.tracees[tid] = counted
		}
	default: // a birth
		var newborn uint
		newborn, err = unix.PtraceGetEventMsg(tid)
		if err == nil && t.tracees[int(newborn)] == 0 {
			t.tracees[int(newborn)] = counted
		}
	}
	if t.stopping {
		request = unix.PTRACE_DETACH
		delete(t.tracees, tid)
	}
	if err == nil {
		err = ptrace(request, tid, deliver)
	}
	if err == unix.ESRCH { // it has been killed; waitid will tell
		return nil
	}
	if err != nil {
		return fmt.Errorf("ptrace of thread %d: %w", tid, err)
	}
	return nil
}

// entered counts the call that a tracee stands in, if it has not made it yet.
func (t *tracer) entered(tid int) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(t.info), uintptr(unsafe.Pointer(&t.info)), 0, 0)
	switch {
	case errno == unix.EIO:
		return fmt.Errorf("PTRACE_GET_SYSCALL_INFO, which is Linux 5.3: %w", errno)
	case errno != 0:
		return errno
	case t.info.op == unix.PTRACE_SYSCALL_INFO_ENTRY:
		t.count(call{t.info.arch, t.info.number})
	}
	return nil
}

// end takes notice of a thread that has ended. A process is not gone before its
// tracer has waited for all its threads, and the last is the process itself. If
// that is a child of this program, its exit status is its owner's.
func (t *tracer) end(tid int) error {
	if statusOf(tid).child {
		t.tracees[tid] = ended
		return nil
	}
	delete(t.tracees, tid)
	return t.take(tid)
}

// take makes the news of a tracee old news. It is no error when they are so already.
func (t *tracer) take(tid int) error {
	_, err := unix.Wait4(tid, nil, unix.WALL|unix.WNOTHREAD|unix.WNOHANG, nil)
	if err != nil && err != unix.ECHILD {
		return fmt.Errorf("wait4 of thread %d: %w", tid, err)
	}
	return nil
}

// letGo lets all tracees stop once more; there handle lets them go.
func (t *tracer) letGo() {
	if t.stopping {
		return
	}
	t.stopping = true
	for tid, state := range t.tracees {
		if state == ended {
			continue
		}
		if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0); err != nil && err != unix.ESRCH {
			t.fail(fmt.Errorf("ptrace: interrupt thread %d: %w", tid, err))
		}
	}
}

// fail ends the counting because of err.
func (t *tracer) fail(err error) {
	if t.err == nil {
		t.err = err
	}
	t.letGo()
}

// trapped is CLD_TRAPPED: the thread stands still until it is told to go on. The
// other codes that waitid is asked for have to do with its end.
const trapped = 4

// A report is what waitid(2) tells: a siginfo_t, of 128 bytes.
type report struct {
	_, _, code       int32
	_                [bits.UintSize/32 - 1]int32 // on 64 bits, what follows is aligned to them
	tid, uid, status int32
	_                [128 - 4*(5+bits.UintSize/32)]byte
}

// waitid is waitid(2) for tracees of this thread; no news leave t.news.tid 0.
//
// __WNOTHREAD leaves out those of other threads, and __WCLONE the children that
// this thread may have started before it became a tracer: it admits only those
// which end with another signal than SIGCHLD, and tracees. With WNOWAIT the news
// stay news: a stop until the tracee goes on, an end until it is waited for.
func (t *tracer) waitid(idType, id int, flags uintptr) error {
	t.news = report{}
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, uintptr(idType), uintptr(id),
		uintptr(unsafe.Pointer(&t.news)),
		unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|unix.WNOTHREAD|unix.WCLONE|flags, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// A syscallInfo is the struct ptrace_syscall_info of ptrace(2), at the entry.
type syscallInfo struct {
	op             uint8 // unix.PTRACE_SYSCALL_INFO_…
	_              [3]uint8
	arch           uint32
	pc, sp, number uint64
	_              [7]uint64 // the arguments, and what is there elsewhere
}

// ptrace is the system call of that name, with what x/sys leaves out: options
// for PTRACE_SEIZE, a signal for PTRACE_DETACH, PTRACE_LISTEN.
func ptrace(request, tid, data int) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// A status is what /proc/TID/status says of a thread.
type status struct {
	ended  bool
	child  bool // it is the first thread of a process, and that a child of this program
	tracer int  // the thread that traces it, 0 if none
}

func statusOf(tid int) status {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return status{ended: true}
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.TrimSpace(value)
	}
	number := func(name string) int {
		n, err := strconv.Atoi(fields[name])
		if err != nil {
			return -1
		}
		return n
	}
	return status{
		ended:  strings.ContainsAny(fields["State"], "ZX"), // "Z (zombie)", "X (dead)"
		child:  number("Tgid") == tid && number("PPid") == os.Getpid(),
		tracer: number("TracerPid"),
	}
}

// wake is the signal that calls a tracer away from waiting: the last real-time
// signal, which no program of this repository has a use for. The Go runtime
// catches it, as it catches all, and does nothing (os/signal).
const wake = unix.Signal(64)

// interruptible makes a system call fail with EINTR when wake comes. The Go
// runtime has signals caught with SA_RESTART, so that Linux goes on waiting.
var interruptible = sync.OnceValue(func() error {
	// As the kernel has it: handler, flags, and what is left as it is.
	var action [4]uint64
	const restart, setSize = 0x10000000, 8
	if _, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(wake), 0,
		uintptr(unsafe.Pointer(&action)), setSize, 0, 0); errno != 0 {
		return fmt.Errorf("rt_sigaction: %w", errno)
	}
	action[1] &^= restart
	if _, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(wake),
		uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0); errno != 0 {
		return fmt.Errorf("rt_sigaction: %w", errno)
	}
	return nil
})

// setThread notes where wake goes to.
func (c *Counter) setThread(tid int) {
	c.mu.Lock()
	c.thread = tid
	c.mu.Unlock()
}

// interrupt sends wake.
func (c *Counter) interrupt() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.thread == 0 {
		return nil
	}
	if err := unix.Tgkill(os.Getpid(), c.thread, wake); err != nil {
		return fmt.Errorf("tgkill: %w", err)
	}
	return nil
}
