//go:build linux

package proc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Call is the system call that a thread is in: /proc/PID/task/TID/syscall.
type Call struct {
	Number int
	Args   [6]uint64
}

// Blocked returns the system call that each thread of the process sleeps in.
// ErrRuns when one of them does not sleep in a system call; EPERM when the kernel
// does not let us look; ErrGone when the process has ended.
func Blocked(pid int) ([]Call, error) {
	asleep, err := all(pid, func(state byte) bool { return state == 'S' })
	if err != nil {
		return nil, err
	}
	files, err := callFiles(pid)
	if err != nil {
		return nil, err
	}
	if !asleep {
		return nil, ErrRuns
	}
	var calls []Call
	for _, file := range files {
		call, err := callIn(file)
		if err != nil {
			return nil, err
		}
		calls = append(calls, call)
	}
	return calls, nil
}

func callFiles(pid int) ([]string, error) {
	return filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
}

// callIn reads one such file. ErrRuns when the thread is not in a system call.
func callIn(file string) (c Call, err error) {
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

// Duplicate returns a descriptor of ours for the same open file as descriptor fd of
// the process: pidfd_getfd(2), Linux 5.6.
func Duplicate(pid, fd int) (int, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	ours, err := unix.PidfdGetfd(pidfd, fd, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_getfd: %w", err)
	}
	return ours, nil
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
