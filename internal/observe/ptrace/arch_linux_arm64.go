package ptrace

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_AARCH64

func frameIn(r *unix.PtraceRegs) uint64 { return r.Regs[29] }
func stackIn(r *unix.PtraceRegs) uint64 { return r.Sp }
