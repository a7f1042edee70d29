//go:build linux

package proc

// What one process uses as a whole, asked for without a look at its threads. With
// thousands of them that matters: whoever looks into /proc/PID/task/TID makes the
// kernel remember the folder and every file in it, which takes more memory than the
// thread has.

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Memory is the memory of a process that no file holds, in bytes: heap and stacks, and
// not its program. A page that several processes share is counted in part for each.
// Nothing that the kernel keeps for the process is in it: no kernel stack, no
// socket, no page table.
//
// It is the sum of Pss_Anon and Pss_Shmem in /proc/PID/smaps_rollup, or, where that is
// not to be had, RssAnon and RssShmem in /proc/PID/status: proc(5). ErrGone when the
// process has ended.
func Memory(pid int) (int64, error) {
	sum, err := sumOf(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Pss_Anon:", "Pss_Shmem:")
	if err == nil {
		return sum, nil
	}
	// Another user's process, or a kernel before 5.9; or it has ended, as we shall see.
	return sumOf(fmt.Sprintf("/proc/%d/status", pid), "RssAnon:", "RssShmem:")
}

// sumOf is the sum of numbers in a file of lines "key: number kB", in bytes.
func sumOf(file string, keys ...string) (int64, error) {
	kilobytes, err := numbers(file, keys...)
	var sum int64
	for _, n := range kilobytes {
		sum += n << 10
	}
	return sum, err
}

// Threads is how many threads a process has. ErrGone when it has ended.
func Threads(pid int) (int, error) {
	found, err := numbers(fmt.Sprintf("/proc/%d/status", pid), "Threads:")
	if err != nil {
		return 0, err
	}
	return int(found[0]), nil
}

// OfThread is the process that a thread belongs to. ErrGone when it has ended.
func OfThread(tid int) (pid int, err error) {
	found, err := numbers(fmt.Sprintf("/proc/%d/status", tid), "Tgid:")
	if err != nil {
		return 0, err
	}
	return int(found[0]), nil
}

// Ran is the time that all threads of a process have been on a processor, those that
// have ended too, to the nanosecond: its clock, as clock_getcpuclockid(3) has it.
// ErrGone when it has ended.
func Ran(pid int) (time.Duration, error) {
	const ofAllThreads = 2 // CPUCLOCK_SCHED in the kernel's posix-timers_types.h
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|ofAllThreads), &at); err != nil {
		if err == unix.EINVAL {
			return 0, ErrGone
		}
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return time.Duration(at.Nano()), nil
}

// DescriptorLimit is how many descriptors a process may have open: its soft limit
// RLIMIT_NOFILE, getrlimit(2).
func DescriptorLimit(pid int) (int, error) {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return 0, gone(fmt.Errorf("prlimit: %w", err))
	}
	return int(min(limit.Cur, 1<<31-1)), nil
}
