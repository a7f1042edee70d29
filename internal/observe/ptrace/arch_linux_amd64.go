package ptrace

import "golang.org/x/sys/unix"

const nativeArch = unix.AUDIT_ARCH_X86_64

func frameIn(r *unix.PtraceRegs) uint64 { return r.Rbp }
func stackIn(r *unix.PtraceRegs) uint64 { return r.Rsp }
