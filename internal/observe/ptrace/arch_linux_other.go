//go:build linux && !amd64 && !arm64

package ptrace

import "golang.org/x/sys/unix"

const nativeArch = 0

// frameIn returns nothing on this architecture: a stack has one entry.
func frameIn(*unix.PtraceRegs) uint64 { return 0 }

// stackIn returns nothing either.
func stackIn(*unix.PtraceRegs) uint64 { return 0 }
