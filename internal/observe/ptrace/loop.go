//go:build linux

package ptrace

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
)

// PTRACE_O_TRACESYSGOOD distinguishes a stop in a system call from SIGTRAP. The others
// make every thread and process that is born to a tracee a tracee too, before it
// runs. Of execve nothing more need be known: it is a call like others.
const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE |
	unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK

// A loop is a Tracer's side in one thread of the system: only the thread that has seized
// a tracee may let it continue.
type loop struct {
	*Tracer
	tracees  map[int]bool // by thread id: has it stopped once, to stop in every call from then on?
	born     map[int]bool // those that tracees have started
	ended    map[int]bool // children of this program that their owner has not waited for
	held     map[int]bool // those that continue when all are let go
	stopping bool         // every tracee is let go where it next stops

	news news // what the last call of waitid returned
	info syscallInfo
}

// run seizes the processes, closes attached when every thread of theirs stops in
// every call, and returns when no tracee is left.
func (t *Tracer) run(pids []int, attached chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(t.done)
	t.setThread(unix.Gettid())
	defer t.setThread(0) // the first of the three: no signal goes to a thread that is another's

	l := &loop{
		Tracer: t, tracees: map[int]bool{}, born: map[int]bool{}, ended: map[int]bool{},
		held: map[int]bool{},
	}
	for {
		// A thread that was just creating another when it was seized has created one that
		// is no tracee. When all have stopped, that is over: are there more?
		if attached != nil && !l.stopping && l.allStopped() {
			more, err := l.seize(pids)
			if err != nil {
				l.fail(err)
			} else if !more {
				close(attached)
				attached = nil
			}
		}
		if t.stop.Load() {
			l.letGo()
		}
		switch err := l.wait(); err {
		case nil:
			if err := l.handle(int(l.news.tid)); err != nil {
				l.fail(err)
			}
		case unix.EINTR: // Detach, or nothing new
		case unix.ECHILD: // no tracee is left
			if attached == nil || l.stopping {
				return
			}
			clear(l.tracees) // they have made room for one that was none, and called execve
		default:
			l.fail(fmt.Errorf("waitid: %w", err))
			return
		}
	}
}

// allStopped reports whether every thread that was seized has stopped since.
func (l *loop) allStopped() bool {
	for tid, stopped := range l.tracees {
		if stopped {
			continue
		}
		if who, err := proc.ReadStatus(tid); err == nil && who.Tracer == l.thread {
			return false
		}
		delete(l.tracees, tid) // it has ended, or has become its process by execve
	}
	return true
}

// seize makes all threads of the processes tracees and lets them stop. It returns
// whether there were any that were none before.
func (l *loop) seize(pids []int) (more bool, err error) {
	// While threads end, by execve perhaps, the list of them is not to be trusted.
	const tries = 10
	for _, pid := range pids {
		for try := range tries {
			seized, ours, err := l.seizeProcess(pid)
			more = more || seized > 0
			if err == nil {
				break
			}
			if try == tries-1 && (ours == 0 || !errors.Is(err, unix.ESRCH)) {
				return more, err
			}
			time.Sleep(time.Millisecond)
		}
	}
	return more, nil
}

// seizeProcess makes tracees of all threads that are there now. It returns how many
// it has seized, how many are tracees now, and why one is not: ESRCH has ended.
func (l *loop) seizeProcess(pid int) (seized, ours int, failed error) {
	threads := proc.ThreadIDs(pid)
	if len(threads) == 0 {
		return 0, 0, fmt.Errorf("ptrace of process %d: %w", pid, unix.ESRCH)
	}
	for _, tid := range threads {
		who, err := proc.ReadStatus(tid)
		if err != nil || who.Ended() {
			failed = fmt.Errorf("ptrace of thread %d: %w", tid, unix.ESRCH)
			continue
		}
		if who.Tracer != l.thread { // neither seized before nor born to a tracee
			if err := ptrace(unix.PTRACE_SEIZE, tid, options); err != nil {
				failed = refused(tid, err)
				continue
			}
			l.tracees[tid] = false
			seized++
		}
		if !l.tracees[tid] {
			if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0); err != nil {
				l.tracees[pid] = false // ESRCH: what was seized has become the process by execve
				failed = refused(tid, err)
				continue
			}
		}
		ours++
	}
	return seized, ours, failed
}

// reap waits for threads of a process that have ended, in place of a tracer that
// cannot. For Linux has a deadlock here: execve waits until all other threads of
// the process are gone, those that are traced until their tracer has waited for
// them, and PTRACE_SEIZE waits for execve. The news of their stops are left.
func reap(pid int) error {
	for _, tid := range proc.ThreadIDs(pid) {
		n := new(news)
		err := waitid(n, unix.P_PID, tid, unix.WNOHANG|unix.WALL)
		if tid == pid || err != nil || n.tid == 0 || n.code == trapped {
			continue // ECHILD: it is not traced by this program
		}
		if err := bury(tid); err != nil {
			return err
		}
	}
	return nil
}

// bury waits for a thread that has ended, unless something else has done so.
func bury(tid int) error {
	_, err := unix.Wait4(tid, nil, unix.WALL|unix.WNOHANG, nil)
	if err != nil && err != unix.ECHILD {
		return fmt.Errorf("wait4 of thread %d: %w", tid, err)
	}
	return nil
}

// wait finds the next news of a tracee: that it has stopped, or has ended.
// ECHILD when there is no tracee, EINTR when it is worth looking at l.stop again.
func (l *loop) wait() error {
	if !l.stopping && len(l.ended) == 0 {
		return l.waitid(unix.P_ALL, 0, 0)
	}
	// The end of a child of ours is left where its owner finds it, and so waitid
	// would return it again and again. So ask for the others, one by one, for as
	// long as that lasts.
	for tid := range l.tracees {
		err := l.waitid(unix.P_PID, tid, unix.WNOHANG)
		if err == unix.ECHILD { // its owner has waited for it
			delete(l.tracees, tid)
		} else if err != nil || l.news.tid != 0 {
			return err
		}
	}
	for tid := range l.ended {
		if l.waitid(unix.P_PID, tid, unix.WNOHANG) == unix.ECHILD {
			delete(l.ended, tid)
		}
	}
	// There may be a tracee whose parent was killed before it was reported.
	if err := l.waitid(unix.P_ALL, 0, unix.WNOHANG); err != nil {
		return err
	}
	tid := int(l.news.tid)
	if _, known := l.tracees[tid]; tid != 0 && !known && !l.ended[tid] {
		return nil
	}
	if l.stopping && len(l.tracees) == 0 && l.ended[tid] {
		return unix.ECHILD // none but those
	}
	time.Sleep(time.Millisecond)
	return unix.EINTR
}

// handle does what the news of a tracee require, and lets it continue.
func (l *loop) handle(tid int) error {
	if l.news.code != trapped {
		return l.end(tid)
	}
	l.tracees[tid] = true
	event, signal := int(l.news.status>>8), int(l.news.status&0xff)
	request, deliver := unix.PTRACE_SYSCALL, 0
	var err error
	switch event {
	case 0:
		if signal != int(unix.SIGTRAP)|0x80 {
			deliver = signal // it is about to get one
		} else if !l.stopping { // PTRACE_O_TRACESYSGOOD: it enters a call, or leaves it
			var hold bool
			if hold, err = l.stopsInCall(tid); hold {
				return l.hold(tid)
			}
		}
	case unix.PTRACE_EVENT_STOP:
		// SIGTRAP: after PTRACE_INTERRUPT, SIGCONT, or its birth. Another: stopped by
		// this signal, and so it shall stay until SIGCONT.
		if signal != int(unix.SIGTRAP) {
			request = unix.PTRACE_LISTEN
		}
	default: // a birth
		var newborn uint
		newborn, err = unix.PtraceGetEventMsg(tid)
		if err == nil && !l.ended[int(newborn)] {
			l.tracees[int(newborn)], l.born[int(newborn)] = true, true
		}
	}
	if l.stopping {
		request = unix.PTRACE_DETACH
		delete(l.tracees, tid)
	}
	if err == nil {
		err = ptrace(request, tid, deliver)
	}
	if err != nil && err != unix.ESRCH { // ESRCH: it has been killed, and waitid will tell
		return fmt.Errorf("ptrace of thread %d: %w", tid, err)
	}
	return nil
}

// hold leaves a tracee where it has stopped. Its news are taken: otherwise waitid would
// return them again and again.
func (l *loop) hold(tid int) error {
	l.held[tid] = true
	if _, err := unix.Wait4(tid, nil, unix.WALL|unix.WNOHANG, nil); err != nil {
		return fmt.Errorf("wait4 of thread %d: %w", tid, err)
	}
	return nil
}

// stopsInCall reports the call that a tracee enters or leaves, and returns whether it is
// to be held there.
func (l *loop) stopsInCall(tid int) (hold bool, err error) {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid),
		unsafe.Sizeof(l.info), uintptr(unsafe.Pointer(&l.info)), 0, 0)
	switch {
	case errno == unix.EIO:
		return false, fmt.Errorf("PTRACE_GET_SYSCALL_INFO, which is Linux 5.3: %w", errno)
	case errno != 0:
		return false, errno
	case l.info.op == unix.PTRACE_SYSCALL_INFO_ENTRY:
		return l.report(Stop{
			Thread: tid, Args: l.info.args, call: call{l.info.arch, l.info.number}, pc: l.info.pc,
		}), nil
	case l.info.op == unix.PTRACE_SYSCALL_INFO_EXIT:
		return l.report(Stop{Thread: tid, Left: true, Result: int64(l.info.number)}), nil
	}
	return false, nil
}

// end takes notice of a thread that has ended. A process is not gone before its
// tracer has waited for all its threads, and the last is the process itself. If
// that is a child of this program, its exit status is its owner's.
func (l *loop) end(tid int) error {
	delete(l.tracees, tid)
	born := l.born[tid]
	delete(l.born, tid)
	delete(l.held, tid)
	if who, err := proc.ReadStatus(tid); err == nil && who.Process == tid && who.Parent == os.Getpid() && !born {
		l.ended[tid] = true
		return nil
	}
	return bury(tid)
}

// letGo lets all tracees stop once more; there handle lets them go. Those that are held
// have stopped already.
func (l *loop) letGo() {
	if l.stopping {
		return
	}
	l.stopping = true
	for tid := range l.held {
		delete(l.tracees, tid)
		if err := ptrace(unix.PTRACE_DETACH, tid, 0); err != nil && err != unix.ESRCH {
			l.fail(fmt.Errorf("PTRACE_DETACH of thread %d: %w", tid, err))
		}
	}
	for tid := range l.tracees {
		// ESRCH: it has ended.
		if err := ptrace(unix.PTRACE_INTERRUPT, tid, 0); err != nil && err != unix.ESRCH {
			l.fail(fmt.Errorf("PTRACE_INTERRUPT of thread %d: %w", tid, err))
		}
	}
}

// fail ends the tracing because of err.
func (l *loop) fail(err error) {
	if l.err == nil {
		l.err = err
	}
	l.letGo()
}

// trapped is CLD_TRAPPED: the thread is stopped until it is continued. The
// other codes that waitid is asked for have to do with its end.
const trapped = 4

// news is what waitid(2) returns: a siginfo_t, of 128 bytes.
type news struct {
	_, _, code       int32
	_                [bits.UintSize/32 - 1]int32 // what follows is aligned to an address
	tid, uid, status int32
	_                [128 - 4*(5+bits.UintSize/32)]byte
}

// waitid calls waitid(2) for tracees of this thread; without news, l.news.tid is 0.
//
// __WNOTHREAD leaves out those of other threads, and __WCLONE the children that
// this thread may have started before it became a tracer: it admits only those
// which end with another signal than SIGCHLD, and tracees. With WNOWAIT the news
// stay news: a stop until the tracee continues, an end until it is waited for.
func (l *loop) waitid(idType, id int, flags uintptr) error {
	return waitid(&l.news, idType, id, unix.WNOTHREAD|unix.WCLONE|flags)
}

func waitid(n *news, idType, id int, flags uintptr) error {
	*n = news{}
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, uintptr(idType), uintptr(id),
		uintptr(unsafe.Pointer(n)), unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT|flags, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// ptrace makes the system call of that name, with what x/sys leaves out: options
// for PTRACE_SEIZE, a signal for PTRACE_DETACH, PTRACE_LISTEN.
func ptrace(request, tid, data int) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// A syscallInfo is the struct ptrace_syscall_info of ptrace(2), at the entry. At the
// exit, number is what the call has returned.
type syscallInfo struct {
	op             uint8 // unix.PTRACE_SYSCALL_INFO_…
	_              [3]uint8
	arch           uint32
	pc, sp, number uint64
	args           [6]uint64
	_              uint64 // what is there elsewhere
}

// wake is the signal that calls a tracer away from waiting: the last real-time
// signal, which no program of this repository has a use for. The Go runtime
// catches it, as it catches all, and does nothing more: see os/signal.
const wake = unix.Signal(64)

// interruptible makes a system call fail with EINTR when wake comes. The Go
// runtime has signals caught with SA_RESTART, and so waitid would continue to wait.
var interruptible = sync.OnceValue(func() error {
	var action [4]uint64 // the kernel's sigaction: a handler, flags, and more
	const restart, setSize = 0x10000000, 8
	_, _, errno := unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(wake), 0,
		uintptr(unsafe.Pointer(&action)), setSize, 0, 0)
	if errno == 0 {
		action[1] &^= restart
		_, _, errno = unix.Syscall6(unix.SYS_RT_SIGACTION, uintptr(wake),
			uintptr(unsafe.Pointer(&action)), 0, setSize, 0, 0)
	}
	if errno != 0 {
		return fmt.Errorf("rt_sigaction: %w", errno)
	}
	return nil
})

// setThread notes where wake is to go: nowhere, if 0.
func (t *Tracer) setThread(tid int) {
	t.mu.Lock()
	t.thread = tid
	t.mu.Unlock()
}

// wakeUp sends wake.
func (t *Tracer) wakeUp() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.thread == 0 {
		return nil
	}
	if err := unix.Tgkill(os.Getpid(), t.thread, wake); err != nil {
		return fmt.Errorf("tgkill: %w", err)
	}
	return nil
}
