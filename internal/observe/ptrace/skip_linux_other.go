//go:build linux && !amd64

package ptrace

import (
	"errors"

	"golang.org/x/sys/unix"
)

// skipWith is not known on this architecture.
func skipWith(*unix.PtraceRegs, int) error { return errors.ErrUnsupported }

// skipAndRepeat is not known either.
func skipAndRepeat(*unix.PtraceRegs) error { return errors.ErrUnsupported }
