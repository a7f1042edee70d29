//go:build linux

// Package program adds source lines to what package ptrace reports of another program:
// it gives a trace.Observer the program's system calls, as trace.Traced gives those of a
// lesson, each with the line of the program's own source on which it is made.
//
// Lines are found in programs that Go has built, and that still have their debugging
// information (not those of go build -ldflags=-w, nor of go run), wherever they are loaded; in
// others that were compiled with it, such as those of cc -g; and in programs in Python. The calls
// of others come without. Calls about sockets are observed, and those that wait for them.
package program

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
	"lesson/internal/observe/trace"
)

// Foreign says why calls are missing when Watch has called foreign.
const Foreign = "it runs a program of another architecture, such as one of 32 bits"

// A Watcher watches the processes of one server.
type Watcher struct {
	tracer   *ptrace.Tracer
	observer trace.Observer
	name     func(file string) string
	clock    kernel.Linux
	calls    int64 // so far

	// All of this belongs to the tracer's thread.
	open     map[int]*started // by thread: the call that it has entered
	running  map[int]program  // by thread: what its process runs
	foreign  func()           // is called once, see Watch
	programs *programs
	members  map[uint64]int // what epoll hands back, and the descriptor it stands for
}

// started is a call that has been entered.
type started struct {
	call *trace.Call
	stop ptrace.Stop
}

// Watch gives the observer the calls that the processes will make, and their threads and
// children, until they have all ended or End is called. name turns a source file, as the
// compiler saw it, into the File of a Call. The error is that of ptrace.Trace.
//
// To observe a server from its first call on, watch it before it runs:
// child.Program.Born.
//
// Calls of another architecture, such as those of a program of 32 bits on a machine of 64,
// are not observed: they have other numbers. foreign is called once, at the first of them.
func Watch(
	observer trace.Observer, name func(file string) string, foreign func(), pids ...int,
) (*Watcher, error) {
	w := &Watcher{
		observer: observer, name: name, foreign: sync.OnceFunc(foreign), open: map[int]*started{},
		running: map[int]program{}, programs: newPrograms(), members: map[uint64]int{},
	}
	var err error
	w.tracer, err = ptrace.Trace(w.stops, pids...)
	return w, err
}

// End lets the processes run on, unwatched.
func (w *Watcher) End() error { return w.tracer.Detach() }

// Results of calls that a signal interrupted: include/linux/errno.h. The program never
// sees them: Linux enters the call again, or turns the result into EINTR.
const (
	restartFirst = -516 // ERESTART_RESTARTBLOCK
	restartLast  = -512 // ERESTARTSYS
)

func (w *Watcher) stops(s ptrace.Stop) {
	switch {
	case s.Left:
		w.leaves(s)
	case !s.Native():
		w.foreign()
	default:
		w.enters(s)
	}
}

func (w *Watcher) enters(s ptrace.Stop) {
	name := s.Call()
	if before := w.open[s.Thread]; before != nil {
		// It was interrupted. Is this the same call, entered again?
		if name == "restart_syscall" || name == before.stop.Call() && s.Args == before.stop.Args {
			return
		}
		delete(w.open, s.Thread)
		w.leave(before.call, -int64(unix.EINTR))
	}
	if name == "execve" || name == "exit" {
		delete(w.running, s.Thread) // if execve fails, it is found once more
	}
	shape, shown := shapes[name]
	if !shown || shape.fd >= 0 && !speaksToClients(s.Thread, int32(s.Args[shape.fd])) {
		return
	}
	file, line, known := w.place(s)
	// The Go runtime's own calls are left out, except the epoll_wait in which one thread
	// waits for all goroutines that wait for a descriptor.
	waits := shape.name == "epoll_wait" && s.Args[3] != 0
	if known && file == "" && !waits {
		return
	}
	w.calls++
	call := &trace.Call{
		Number: w.calls, Name: shape.name, FD: -1, Args: shape.args(s), File: file, Line: line,
		Thread: s.Thread, Entered: w.clock.Now(),
	}
	if shape.fd >= 0 {
		call.FD = int(int32(s.Args[shape.fd]))
	}
	if shape.name == "epoll_ctl" {
		w.remember(s)
	}
	w.open[s.Thread] = &started{call, s}
	w.observer.Enter(call)
}

func (w *Watcher) leaves(s ptrace.Stop) {
	before := w.open[s.Thread]
	if before == nil || s.Result >= restartFirst && s.Result <= restartLast {
		return
	}
	delete(w.open, s.Thread)
	if s.Result > 0 {
		switch shapes[before.stop.Call()].data {
		case buffer:
			before.call.Data = make([]byte, min(s.Result, dataKept))
			if ptrace.Peek(s.Thread, before.stop.Args[1], before.call.Data) != nil {
				before.call.Data = nil // it has just been killed
			}
		case events:
			before.call.Events = w.ready(before.stop, int(s.Result))
		}
	}
	w.leave(before.call, s.Result)
}

// dataKept bounds how much of what was read or written is kept, in bytes.
const dataKept = 64

func (w *Watcher) leave(c *trace.Call, result int64) {
	var err error
	if result < 0 {
		result, err = -1, unix.Errno(-result)
	}
	c.Return(w.clock.Now(), int(result), err, func(fd int) bool {
		blocks := true
		borrow(c.Thread, fd, func(fd int) { blocks = kernel.MayBlock(fd) })
		return blocks
	})
	if strings.HasPrefix(c.Name, "accept") && err == nil {
		borrow(c.Thread, c.Result, func(fd int) { c.Peer, _ = kernel.PeerOf(fd) })
	}
	w.observer.Leave(c)
}

// place returns where in its own source the program makes the call, no file if another
// package makes it. known is false if that is not known.
func (w *Watcher) place(s ptrace.Stop) (file string, line int, known bool) {
	runs, found := w.running[s.Thread]
	if !found {
		runs, _ = w.programs.of(s.Thread) // WithoutLines says why it has none
		w.running[s.Thread] = runs
	}
	if runs == nil {
		return "", 0, false
	}
	if file, line, known = runs.place(s); file != "" {
		file = w.name(file)
	}
	return file, line, known
}

// speaksToClients reports whether a descriptor is a socket, and not a file, a terminal
// or a pipe between the threads of the Go runtime.
func speaksToClients(tid int, fd int32) bool {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
	// A number that is no descriptor may be why the call will fail.
	return err != nil || strings.HasPrefix(link, "socket:")
}

// remember notes what a program asks epoll to hand back for a descriptor: its number, a
// pointer, or anything else.
func (w *Watcher) remember(s ptrace.Stop) {
	if op := int(s.Args[1]); op != unix.EPOLL_CTL_ADD && op != unix.EPOLL_CTL_MOD {
		return
	}
	if e, err := peekEvents(s.Thread, s.Args[3], 1); err == nil {
		w.members[cookie(e[0])] = int(int32(s.Args[2]))
	}
}

// ready returns the events that epoll_wait returned, with descriptors in place of what
// the program asked epoll to hand back.
func (w *Watcher) ready(s ptrace.Stop, n int) []unix.EpollEvent {
	list, err := peekEvents(s.Thread, s.Args[1], n)
	if err != nil {
		return nil // it has just been killed
	}
	for i, e := range list {
		if fd, known := w.member(s, cookie(e)); known {
			list[i].Fd = int32(fd)
		}
	}
	return list
}

// member returns the descriptor that epoll hands data back for. Of one that was put into
// the interest list before the trace began, only the kernel knows it.
func (w *Watcher) member(s ptrace.Stop, data uint64) (fd int, known bool) {
	if fd, known = w.members[data]; known {
		return fd, true
	}
	list, err := proc.Interests(s.Thread, int(int32(s.Args[0])))
	if err != nil {
		return 0, false // it has just been killed
	}
	for _, in := range list {
		if in.Data == data {
			w.members[data] = in.FD
			return in.FD, true
		}
	}
	return 0, false
}

func peekEvents(tid int, address uint64, n int) ([]unix.EpollEvent, error) {
	list := make([]unix.EpollEvent, n)
	size := uintptr(n) * unsafe.Sizeof(list[0])
	return list, ptrace.Peek(tid, address, unsafe.Slice((*byte)(unsafe.Pointer(&list[0])), size))
}

// cookie returns the 64 bits of an event that belong to the program.
func cookie(e unix.EpollEvent) uint64 { return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 }

// borrow calls use with a duplicate of a descriptor of the process that a thread
// belongs to, and closes the duplicate. It does nothing if there is no such descriptor.
func borrow(thread, fd int, use func(fd int)) {
	who, err := proc.ReadStatus(thread)
	if err != nil {
		return
	}
	duplicate, err := proc.Duplicate(who.Process, fd)
	if err != nil {
		return
	}
	defer unix.Close(duplicate) // the connection stays open through the server's own
	use(duplicate)
}
