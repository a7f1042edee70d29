package ptrace

import "golang.org/x/sys/unix"

func frameIn(r *unix.PtraceRegs) uint64 { return r.Regs[29] }
