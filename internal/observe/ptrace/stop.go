//go:build linux

package ptrace

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
)

// A call is a system call of one architecture: a process of 32 bits on a machine
// of 64 has other numbers.
type call struct {
	arch   uint32 // AUDIT_ARCH_…
	number uint64
}

func (c call) String() string {
	if c.arch != nativeArch {
		return fmt.Sprintf("syscall %d of architecture %#x", c.number, c.arch)
	}
	return proc.CallName(int(c.number))
}

// A Stop is a thread that enters a system call, or leaves the one that it entered last.
type Stop struct {
	Thread int
	Left   bool
	call   call      // that is entered
	Args   [6]uint64 // of the call that is entered
	pc     uint64    // where it is entered
	// Result is what the kernel returns when a call is left: -EAGAIN, and not -1. From
	// -516 to -512 it is an interrupted call that Linux enters again, or turns into an
	// EINTR when a handler has run: include/linux/errno.h.
	Result int64
}

// Native reports whether the call that is entered is one of this program's own architecture: a process of
// 32 bits on a machine of 64 makes others.
func (s Stop) Native() bool {
	return s.call.arch == nativeArch || nativeArch == 0
}

// Call returns the name of the call that is entered: "accept4".
func (s Stop) Call() string { return s.call.String() }

// deepest is how many frames are looked at.
const deepest = 32

// Stack returns program counters: the one at which the call is entered, then where each
// function returns to, innermost first. It finds them by frame pointers, which Go keeps
// (and C only with -fno-omit-frame-pointer), so it may end early. Call it only while the
// thread is stopped: before the function that was given the Stop returns.
//
// Where a frame pointer points to, the caller's is kept, and beside it the address to
// return to, on amd64 and on arm64.
func (s Stop) Stack() []uint64 {
	stack := []uint64{s.pc}
	if s.call.arch != nativeArch {
		return stack
	}
	frame, err := register(s.Thread, frameIn)
	for err == nil && frame != 0 && len(stack) < deepest {
		var words [2]uint64
		if Peek(s.Thread, frame, unsafe.Slice((*byte)(unsafe.Pointer(&words)), unsafe.Sizeof(words))) != nil {
			break // the pointer is none
		}
		if words[1] == 0 {
			break
		}
		stack = append(stack, words[1])
		if words[0] <= frame { // a stack grows downwards
			break
		}
		frame = words[0]
	}
	return stack
}

// topOfStack is how much of a stack Top returns, in words.
const topOfStack = 128

// Top returns the words at the top of the stack, the innermost first. The addresses to
// which functions return are among them, also those that no frame pointer leads to. Call
// it only while the thread is stopped.
func (s Stop) Top() []uint64 {
	at, err := register(s.Thread, stackIn)
	if err != nil || at == 0 || s.call.arch != nativeArch {
		return nil
	}
	words := make([]uint64, topOfStack)
	size := uintptr(len(words)) * unsafe.Sizeof(words[0])
	if Peek(s.Thread, at, unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), size)) != nil {
		return nil // the stack is shorter
	}
	return words
}

// Fail lets the call that is entered return an error instead of being made. Call it only while
// the thread is stopped there. What it returns is reported like that of any other call.
func (s Stop) Fail(with unix.Errno) error {
	return s.skip(func(r *unix.PtraceRegs) error { return skipWith(r, -int(with)) })
}

// Again lets the thread come to the call that is entered once more: a signal that has come
// meanwhile finds it just before the call, and not in it. Call it only while the thread is
// stopped there. It is reported as a call that returns, and then as one that is entered.
func (s Stop) Again() error { return s.skip(skipAndRepeat) }

func (s Stop) skip(how func(*unix.PtraceRegs) error) error {
	var r unix.PtraceRegs
	if !s.Native() {
		return errors.ErrUnsupported
	}
	if err := registers(s.Thread, unix.PTRACE_GETREGSET, &r); err != nil {
		return err
	}
	if err := how(&r); err != nil {
		return err
	}
	return registers(s.Thread, unix.PTRACE_SETREGSET, &r)
}

// register reads one register of a stopped thread.
func register(tid int, in func(*unix.PtraceRegs) uint64) (uint64, error) {
	var r unix.PtraceRegs
	if err := registers(tid, unix.PTRACE_GETREGSET, &r); err != nil {
		return 0, err
	}
	return in(&r), nil
}

// ntPRStatus is NT_PRSTATUS of elf.h: the general registers.
const ntPRStatus = 1

// registers reads or writes the general registers of a stopped thread.
func registers(tid, request int, r *unix.PtraceRegs) error {
	vector := unix.Iovec{Base: (*byte)(unsafe.Pointer(r))}
	vector.SetLen(int(unsafe.Sizeof(*r)))
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid),
		ntPRStatus, uintptr(unsafe.Pointer(&vector)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Peek copies from the memory of a process: process_vm_readv(2). EFAULT when not
// all of it is there.
func Peek(pid int, address uint64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	local := unix.Iovec{Base: &p[0]}
	local.SetLen(len(p))
	n, err := unix.ProcessVMReadv(pid, []unix.Iovec{local},
		[]unix.RemoteIovec{{Base: uintptr(address), Len: len(p)}}, 0)
	if err == nil && n < len(p) {
		err = unix.EFAULT
	}
	return err
}
