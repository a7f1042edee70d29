//go:build linux

package proc

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Thread holds what one thread has used so far.
type Thread struct {
	// Ran is its time on a processor, and Waited the time in which it could
	// have run and had none. A thread that spins does one or the other all the
	// time, however busy the machine is; one that sleeps does neither.
	Ran, Waited time.Duration
	// Sleeps is how often it has given up its processor to wait for
	// something: about once for each blocking call. Preempted is how often its
	// processor was taken away from it.
	Sleeps, Preempted int64
}

// A Usage holds what processes use.
type Usage struct {
	Threads  map[int]Thread // by thread id; those that have not ended
	Resident int64          // memory, in bytes
	Peak     int64          // the most that Resident has ever been

	// CPU is the time on a processor of all threads, those that have ended too, to
	// the nanosecond. User and System are the same time, divided by what each tick
	// of the clock found the process doing, and in steps of 10 ms: right over
	// seconds, not over moments.
	CPU, User, System time.Duration
}

// Add adds the usage of another process.
func (u *Usage) Add(v Usage) {
	if u.Threads == nil {
		u.Threads = map[int]Thread{}
	}
	maps.Copy(u.Threads, v.Threads)
	u.Resident += v.Resident
	u.Peak += v.Peak
	u.CPU += v.CPU
	u.User += v.User
	u.System += v.System
}

// Since returns what has been used since before, thread by thread: of a thread that has
// been created since, all that it has used.
func (u Usage) Since(before Usage) []Thread {
	var threads []Thread
	for tid, now := range u.Threads {
		then := before.Threads[tid]
		threads = append(threads, Thread{
			now.Ran - then.Ran, now.Waited - then.Waited,
			now.Sleeps - then.Sleeps, now.Preempted - then.Preempted,
		})
	}
	return threads
}

// Used reads the usage of a process. ErrGone when it has ended.
func Used(pid int) (Usage, error) {
	u := Usage{Threads: map[int]Thread{}}
	for _, tid := range ThreadIDs(pid) {
		thread, err := usedByThread(fmt.Sprintf("/proc/%d/task/%d", pid, tid))
		if errors.Is(err, ErrGone) {
			continue // that thread has ended
		}
		if err != nil {
			return u, err
		}
		u.Threads[tid] = thread
	}
	kilobytes, err := numbers(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:", "VmHWM:")
	if err != nil {
		return u, err
	}
	u.Resident, u.Peak = kilobytes[0]<<10, kilobytes[1]<<10
	if u.CPU, err = Ran(pid); err != nil {
		return u, err
	}
	u.User, u.System, err = ticks(pid)
	return u, err
}

func usedByThread(dir string) (t Thread, err error) {
	if t.Ran, t.Waited, err = schedstat(dir); err != nil {
		return t, err
	}
	switches, err := numbers(dir+"/status", "voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:")
	if err != nil {
		return t, err
	}
	t.Sleeps, t.Preempted = switches[0], switches[1]
	return t, nil
}

// UsedByThisThread returns what the calling thread has used: lock the goroutine to it.
func UsedByThisThread() (Thread, error) { return usedByThread("/proc/thread-self") }

// ticks returns utime and stime of /proc/PID/stat: proc_pid_stat(5). They are in
// units of USER_HZ, which is 100 a second on all machines that Go knows.
func ticks(pid int) (user, system time.Duration, err error) {
	const tick = 10 * time.Millisecond
	const utime, stime = 14 - 3, 15 - 3 // counted from 1, and the first two are cut off
	fields, err := stat(fmt.Sprintf("/proc/%d/stat", pid), nil)
	if err != nil {
		return 0, 0, err
	}
	u, err1 := strconv.ParseInt(fields[utime], 10, 64)
	s, err2 := strconv.ParseInt(fields[stime], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return time.Duration(u) * tick, time.Duration(s) * tick, nil
}

// schedstat returns how long a thread has run, and has been runnable and waited for
// a processor: Documentation/scheduler/sched-stats.rst.
func schedstat(task string) (ran, waited time.Duration, err error) {
	text, err := read(task+"/schedstat", nil)
	if err != nil {
		return 0, 0, gone(err)
	}
	if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
		return 0, 0, fmt.Errorf("%s/schedstat: %w", task, err)
	}
	return ran, waited, nil
}

// numbers returns the number that follows each key in a file of lines "key: number …".
// A process that is about to end has no memory any more, and no such lines.
func numbers(file string, keys ...string) ([]int64, error) {
	text, err := read(file, nil)
	if err != nil {
		return nil, gone(err)
	}
	found := make([]int64, len(keys))
	missing := len(keys)
	for line := range strings.Lines(string(text)) {
		for i, key := range keys {
			rest, ok := strings.CutPrefix(line, key)
			if !ok {
				continue
			}
			fields := strings.Fields(rest)
			if len(fields) == 0 {
				return nil, fmt.Errorf("%s: no number in %q", file, line)
			}
			if found[i], err = strconv.ParseInt(fields[0], 10, 64); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			missing--
		}
	}
	if missing > 0 {
		return nil, ErrGone
	}
	return found, nil
}

// What follows asks about a process as a whole, without a look at its threads. With
// thousands of them that matters: reading /proc/PID/task/TID makes the kernel remember
// the folder and every file in it, which takes more memory than the thread has.

// Memory returns the memory of a process that no file holds, in bytes: heap and stacks,
// and not its program. A page that several processes share is counted in part for each.
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

// sumOf returns the sum of numbers in a file of lines "key: number kB", in bytes.
func sumOf(file string, keys ...string) (int64, error) {
	kilobytes, err := numbers(file, keys...)
	var sum int64
	for _, n := range kilobytes {
		sum += n << 10
	}
	return sum, err
}

// Threads returns how many threads a process has. ErrGone when it has ended.
func Threads(pid int) (int, error) {
	found, err := numbers(fmt.Sprintf("/proc/%d/status", pid), "Threads:")
	if err != nil {
		return 0, err
	}
	return int(found[0]), nil
}

// Ran returns the time that all threads of a process have been on a processor, those that
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

// DescriptorLimit returns how many descriptors a process may have open: its soft limit
// RLIMIT_NOFILE, getrlimit(2).
func DescriptorLimit(pid int) (int, error) {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
		return 0, gone(fmt.Errorf("prlimit: %w", err))
	}
	return int(min(limit.Cur, 1<<31-1)), nil
}
