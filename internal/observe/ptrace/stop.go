//go:build linux

package ptrace

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Stop is a thread that enters a system call, or leaves it.
type Stop struct {
	Thread int
	Number int // Name has its name
	Args   [6]uint64
	// Stack is program counters: the call's own, then where each function
	// returns to, innermost first. It is found by frame pointers, which Go keeps
	// (and C only with -fno-omit-frame-pointer), so it may end early.
	Stack []uint64

	Left bool // the call has been made, and what follows is known
	// Result is what the kernel returns: -EAGAIN, and not -1. From -516 to -512
	// it is an interrupted call that Linux enters again, or makes an EINTR of when
	// a handler has run: include/linux/errno.h.
	Result int64
}

// deepest is how many frames are looked at.
const deepest = 32

// tell tells of the call that a thread stands in. A call of another architecture is
// nobody's whose lines could be found.
func (t *tracer) tell(tid int) {
	if t.info.arch != nativeArch {
		return
	}
	switch t.info.op {
	case unix.PTRACE_SYSCALL_INFO_ENTRY:
		s := Stop{Thread: tid, Number: int(t.info.number), Args: t.info.args, Stack: t.stack(tid)}
		t.made[tid] = s
		t.watch(s)
	case unix.PTRACE_SYSCALL_INFO_EXIT:
		s, entered := t.made[tid]
		if !entered {
			return // it was in the call when it was attached to
		}
		delete(t.made, tid)
		s.Left, s.Result = true, int64(t.info.number)
		t.watch(s)
	}
}

// stack walks the frame pointers: where one points to, there is the caller's, and
// beside it the address to return to. Both are so on amd64 and on arm64.
func (t *tracer) stack(tid int) []uint64 {
	stack := []uint64{t.info.pc}
	frame, err := framePointer(tid)
	for err == nil && frame != 0 && len(stack) < deepest {
		var words [2]uint64
		if Peek(tid, frame, unsafe.Slice((*byte)(unsafe.Pointer(&words)), unsafe.Sizeof(words))) != nil {
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

// ntPRStatus is NT_PRSTATUS of elf.h: the general registers.
const ntPRStatus = 1

// framePointer reads the register of a thread that stands still.
func framePointer(tid int) (uint64, error) {
	var registers unix.PtraceRegs
	vector := unix.Iovec{Base: (*byte)(unsafe.Pointer(&registers))}
	vector.SetLen(int(unsafe.Sizeof(registers)))
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGSET, uintptr(tid),
		ntPRStatus, uintptr(unsafe.Pointer(&vector)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return frameIn(&registers), nil
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
