package ptrace

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_X86_64

func frameIn(r *unix.PtraceRegs) uint64 { return r.Rbp }
func stackIn(r *unix.PtraceRegs) uint64 { return r.Rsp }

// noCall is the number of no system call: the kernel makes none, and leaves Rax as it is.
const noCall = ^uint64(0)

// skipWith turns the call that is entered into none that returns a result.
func skipWith(r *unix.PtraceRegs, result int) error {
	r.Orig_rax, r.Rax = noCall, uint64(result)
	return nil
}

// skipAndRepeat turns the call that is entered into none, after which the instruction that
// makes the call comes again.
func skipAndRepeat(r *unix.PtraceRegs) error {
	const instruction = 2 // bytes of syscall
	r.Rax, r.Orig_rax = r.Orig_rax, noCall
	r.Rip -= instruction
	return nil
}
