//go:build linux

package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Call is the system call that a thread is blocked in.
type Call struct {
	Number int
	Args   [6]uint64
}

// Name returns the name of the call: "read".
func (c Call) Name() string { return CallName(c.Number) }

// Descriptor returns the first argument, which for most calls is a descriptor.
func (c Call) Descriptor() int { return int(int32(c.Args[0])) }

// ErrRuns reports that a thread is not blocked in a system call.
var ErrRuns = errors.New("no thread is blocked in a system call")

// ThreadBlockedIn returns the system call that a thread is blocked in: /proc/TID/syscall.
// The error is ErrRuns when there is none, ErrGone when the thread has ended, and EPERM
// when the kernel does not let this program look.
func ThreadBlockedIn(tid int) (c Call, err error) {
	file := fmt.Sprintf("/proc/%d/syscall", tid)
	text, err := os.ReadFile(file)
	if err != nil {
		return c, gone(err)
	}
	fields := strings.Fields(string(text))
	if len(fields) < 1+len(c.Args) || fields[0] == "-1" {
		return c, ErrRuns // "running", or blocked elsewhere than in a call
	}
	c.Number, err = strconv.Atoi(fields[0])
	for i := range c.Args {
		var wrong error
		c.Args[i], wrong = strconv.ParseUint(fields[1+i], 0, 64)
		err = errors.Join(err, wrong)
	}
	if err != nil {
		return c, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// BlockedIn returns the system call that a thread of the process is blocked in, passing
// over those that wait for another thread (futex) or for time to pass. The error is that
// of ThreadBlockedIn.
func BlockedIn(pid int) (Call, error) {
	none := ErrGone
	for _, tid := range ThreadIDs(pid) {
		call, err := ThreadBlockedIn(tid)
		if err != nil {
			none = err
			continue
		}
		switch call.Number {
		case unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP:
			none = ErrRuns
		default:
			return call, nil
		}
	}
	return Call{}, none
}

// Blocked returns the system call that each thread of the process sleeps in. The error is
// that of ThreadBlockedIn: ErrRuns when one of them does not sleep in a call.
func Blocked(pid int) ([]Call, error) {
	asleep, err := all(pid, func(state byte) bool { return state == 'S' })
	if err != nil {
		return nil, err
	}
	if !asleep {
		return nil, ErrRuns
	}
	var calls []Call
	for _, tid := range ThreadIDs(pid) {
		call, err := ThreadBlockedIn(tid)
		if err != nil {
			return nil, err
		}
		calls = append(calls, call)
	}
	return calls, nil
}

// Seconds reads the whole seconds of a struct timespec or timeval of the process.
func Seconds(pid int, addr uint64) (time.Duration, error) {
	var word [8]byte
	local := []unix.Iovec{{Base: &word[0]}}
	local[0].SetLen(len(word))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(word)}}
	if n, err := unix.ProcessVMReadv(pid, local, remote, 0); err != nil || n != len(word) {
		return 0, fmt.Errorf("process_vm_readv: %d bytes: %w", n, err)
	}
	return time.Duration(int64(binary.NativeEndian.Uint64(word[:]))) * time.Second, nil
}

// TimerRuns reports whether descriptor fd of the process is a timer that is set:
// timerfd_create(2).
func TimerRuns(pid, fd int) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return false, gone(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "it_value:"); ok {
			return strings.TrimSpace(value) != "(0, 0)", nil
		}
	}
	return false, nil
}

// Alarm reports whether the process has a timer that sends it a signal: timer_create(2),
// or setitimer(2) and alarm(2). The kernel does not show the latter, only that SIGALRM is
// handled; the Go runtime handles every signal, and sets no such timer.
func Alarm(pid int) (bool, error) {
	timers, err := os.ReadFile(fmt.Sprintf("/proc/%d/timers", pid))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without that file
		return false, gone(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false, gone(err)
	}
	var handled uint64
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			if handled, err = strconv.ParseUint(strings.TrimSpace(mask), 16, 64); err != nil {
				return false, fmt.Errorf("/proc/%d/status: %w", pid, err)
			}
		}
	}
	handles := func(s unix.Signal) bool { return handled&(1<<(s-1)) != 0 }
	return len(timers) > 0 || handles(unix.SIGALRM) && !handles(unix.SIGVTALRM), nil
}
