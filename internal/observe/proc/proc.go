//go:build linux

// Package proc reads from /proc what a process is and uses, and what the machine is:
// proc(5).
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrGone reports that the process has ended.
var ErrGone = errors.New("the process has ended")

// gone turns an error of reading /proc about a process that has ended into ErrGone.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

// A Process is one of the processes of this machine. A zombie has ended with all its
// threads, and its parent has not waited for it.
type Process struct {
	Pid, Parent, Group, Session int
	Zombie                      bool
}

// All returns every process that can be seen. The threads of the kernel are none.
func All() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	all, buffer := make([]Process, 0, len(entries)), make([]byte, 0, readSize)
	kernel := kernelThreads(buffer)
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || kernel[entry.Name()] {
			continue
		}
		fields, err := stat("/proc/"+entry.Name()+"/stat", buffer)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		const threads = 20 - 3 // counted from 1, and the first two are cut off
		p := Process{Pid: pid, Zombie: strings.Contains("ZX", fields[0]) && fields[threads] <= "1"}
		var err1, err2, err3 error
		p.Parent, err1 = strconv.Atoi(fields[1])
		p.Group, err2 = strconv.Atoi(fields[2])
		p.Session, err3 = strconv.Atoi(fields[3])
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		all = append(all, p)
	}
	return all, nil
}

// kernelThreads returns the process ids of the threads of the kernel: the children of
// process 2, unless that is a process of a container. They are most of an idle machine's
// processes, and one file lists them. The kernel need not have that file.
func kernelThreads(buffer []byte) map[string]bool {
	const (
		flags   = 9 - 3   // counted from 1, and the first two are cut off
		kthread = 1 << 21 // PF_KTHREAD: include/linux/sched.h
	)
	threads := map[string]bool{}
	fields, err := stat("/proc/2/stat", buffer)
	if err != nil {
		return threads
	}
	if bits, err := strconv.ParseUint(fields[flags], 10, 32); err != nil || bits&kthread == 0 {
		return threads
	}
	text, err := read("/proc/2/task/2/children", buffer)
	if err != nil {
		return threads
	}
	for _, pid := range strings.Fields(string(text)) {
		threads[pid] = true
	}
	return threads
}

// stat returns the fields of a file /proc/PID/stat from the third on, the state: the
// second is a name in parentheses, which may contain spaces and parentheses. It reads into
// the buffer, if that is not nil.
func stat(file string, buffer []byte) ([]string, error) {
	text, err := read(file, buffer)
	if err != nil {
		return nil, gone(err)
	}
	const first = 24 - 2 // as many as Linux 2.6 has, and more than are needed
	rest := string(text[bytes.LastIndexByte(text, ')')+1:])
	fields := strings.SplitN(strings.TrimPrefix(rest, " "), " ", first+1)
	if len(fields) < first {
		return nil, fmt.Errorf("%s has %d fields", file, len(fields)+2)
	}
	return fields, nil
}

// readSize is more than most files of /proc have, in bytes.
const readSize = 2048

// read does what os.ReadFile does, with fewer system calls: a look at all processes reads a file of
// each. It reads into the buffer, if that is not nil.
func read(file string, buffer []byte) ([]byte, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: file, Err: err}
	}
	defer unix.Close(fd) // nothing is lost when this fails
	text := buffer[:0]
	for {
		text = slices.Grow(text, readSize/4)
		n, err := unix.Read(fd, text[len(text):cap(text)])
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: file, Err: err}
		}
		if n == 0 {
			return text, nil
		}
		text = text[:len(text)+n]
	}
}

// HasEnv reports whether a process was started with this variable, given as NAME=value,
// in its environment. A program may have written over it since. ErrGone when the
// process has ended.
func HasEnv(pid int, variable string) (bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false, gone(err)
	}
	return slices.ContainsFunc(bytes.Split(text, []byte{0}), func(v []byte) bool {
		return string(v) == variable
	}), nil
}

// A Status holds what /proc/TID/status shows about a thread.
type Status struct {
	State   byte   // 'R' runs, 'S' sleeps, 'Z' has ended, and more: proc_pid_status(5)
	Process int    // the process that it belongs to
	Parent  int    // that process's parent
	Tracer  int    // the thread that traces it; 0 when none does
	blocked uint64 // signals, a bit each
}

// Blocks reports whether the thread has blocked a signal.
func (s Status) Blocks(signal syscall.Signal) bool { return s.blocked>>(signal-1)&1 == 1 }

// Ended reports whether the thread has ended: its process, or its tracer, has not
// waited for it yet.
func (s Status) Ended() bool { return s.State == 'Z' || s.State == 'X' }

// ReadStatus reads the status of a thread. ErrGone when there is no such thread.
func ReadStatus(tid int) (s Status, err error) {
	file := fmt.Sprintf("/proc/%d/status", tid)
	text, err := os.ReadFile(file)
	if err != nil {
		return s, gone(err)
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "State":
			s.State = value[0] // proc(5) has no empty one
		case "Tgid":
			s.Process, err = strconv.Atoi(value)
		case "PPid":
			s.Parent, err = strconv.Atoi(value)
		case "TracerPid":
			s.Tracer, err = strconv.Atoi(value)
		case "SigBlk":
			s.blocked, err = strconv.ParseUint(value, 16, 64)
		}
		if err != nil {
			return s, fmt.Errorf("%s: %w", file, err)
		}
	}
	return s, nil
}

// ThreadIDs returns the threads of a process. There are none when it has ended, nor for a
// moment during execve.
func ThreadIDs(pid int) []int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil
	}
	var threads []int
	for _, entry := range entries {
		if tid, err := strconv.Atoi(entry.Name()); err == nil {
			threads = append(threads, tid)
		}
	}
	return threads
}

// AwaitEnd waits until the process has ended, and leaves its exit status to its parent.
// Call it before exec.Cmd.Wait, in the same goroutine, when the process may be traced by
// this program: see package ptrace.
func AwaitEnd(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open of process %d: %w", pid, err)
	}
	defer unix.Close(fd) // nothing is lost when this fails
	for {
		// Readable when all threads have ended: pidfd_open(2).
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("poll of process %d: %w", pid, err)
		}
	}
}

// Stopped reports whether SIGSTOP has stopped every thread of the process. ErrGone when
// it has ended.
func Stopped(pid int) (bool, error) {
	return all(pid, func(state byte) bool { return state == 'T' || state == 't' })
}

// Asleep reports whether every thread of the process sleeps or is stopped: none runs or
// waits for a processor. ErrGone when it has ended.
func Asleep(pid int) (bool, error) {
	return all(pid, func(state byte) bool { return state != 'R' })
}

// all reports whether such is true of the states of all threads. ErrGone when there is
// no thread.
func all(pid int, such func(state byte) bool) (bool, error) {
	threads := ThreadIDs(pid)
	if len(threads) == 0 {
		return false, ErrGone
	}
	for _, tid := range threads {
		fields, err := stat(fmt.Sprintf("/proc/%d/task/%d/stat", pid, tid), nil)
		if errors.Is(err, ErrGone) {
			continue // that thread has ended
		}
		if err != nil || !such(fields[0][0]) {
			return false, err
		}
	}
	return true, nil
}

// Mapped returns how much memory a process has mapped, in bytes, whether or not it is used:
// what RLIMIT_AS of setrlimit(2) bounds. ErrGone when it has ended.
func Mapped(pid int) (int64, error) {
	kilobytes, err := numbers(fmt.Sprintf("/proc/%d/status", pid), "VmSize:")
	if err != nil {
		return 0, err
	}
	return kilobytes[0] << 10, nil
}

// Maps reports whether a process has mapped a file of that name, such as a library. ErrGone
// when it has ended.
func Maps(pid int, file string) (bool, error) {
	text, err := read(fmt.Sprintf("/proc/%d/maps", pid), nil)
	if err != nil {
		return false, gone(err)
	}
	return bytes.Contains(text, []byte("/"+file+"\n")), nil
}

// Mappings returns how many mappings of memory a process has: the lines of /proc/PID/maps.
// ErrGone when it has ended.
func Mappings(pid int) (int, error) {
	text, err := read(fmt.Sprintf("/proc/%d/maps", pid), nil)
	if err != nil {
		return 0, gone(err)
	}
	return bytes.Count(text, []byte("\n")), nil
}
