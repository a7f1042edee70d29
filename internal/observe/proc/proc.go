//go:build linux

// Package proc reads from /proc what a process uses and what the machine is: proc(5).
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that the process has ended.
var ErrGone = errors.New("the process has ended")

// gone makes ErrGone of what reading /proc says about a process that has ended.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

type ids struct{ pid, parent, group int }

// processes is every process that can be seen.
func processes() ([]ids, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []ids
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue // not a process
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it has just ended
		}
		// The name, in parentheses, may hold spaces and parentheses.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 3 || fields[0] == "Z" {
			continue // a zombie has nothing left but its number
		}
		parent, err1 := strconv.Atoi(fields[1])
		group, err2 := strconv.Atoi(fields[2])
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		all = append(all, ids{pid, parent, group})
	}
	return all, nil
}

// Tree returns a process and all its descendants that run, the process first. A
// descendant whose own parent has ended is found by its process group, which is the
// first one's number where that one leads a group.
func Tree(pid int) ([]int, error) {
	all, err := processes()
	if err != nil {
		return nil, err
	}
	tree := []int{pid}
	for found := true; found; {
		found = false
		for _, q := range all {
			ours := slices.Contains(tree, q.parent) || q.group == pid
			if ours && !slices.Contains(tree, q.pid) {
				tree = append(tree, q.pid)
				found = true
			}
		}
	}
	return tree, nil
}

// Descriptors is what each open descriptor of a process is, as the links of
// /proc/PID/fd say it: "socket:[4711]", "anon_inode:[eventpoll]", "/dev/null".
func Descriptors(pid int) (map[int]string, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, gone(err)
	}
	descriptors := make(map[int]string, len(entries))
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		if link, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			descriptors[fd] = link // else closed since
		}
	}
	return descriptors, nil
}

// SocketLink is how Descriptors names the socket with that inode.
func SocketLink(inode uint32) string { return fmt.Sprintf("socket:[%d]", inode) }

// Holders is the processes, of those given, that have the socket open. With
// none given, it looks at all that it may look at.
func Holders(inode uint32, pids ...int) ([]int, error) {
	if len(pids) == 0 {
		all, err := processes()
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			pids = append(pids, p.pid)
		}
	}
	var holders []int
	for _, pid := range pids {
		descriptors, err := Descriptors(pid)
		if errors.Is(err, ErrGone) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, link := range descriptors {
			if link == SocketLink(inode) {
				holders = append(holders, pid)
				break
			}
		}
	}
	return holders, nil
}

// An Interest is an entry of an epoll interest list.
type Interest struct {
	FD     int
	Events uint32
}

// Interests is the interest list of an epoll descriptor of a process:
// /proc/PID/fdinfo/FD.
func Interests(pid, fd int) ([]Interest, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, fd))
	if err != nil {
		return nil, gone(err)
	}
	var list []Interest
	for line := range strings.Lines(string(info)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] != "tfd:" {
			continue // pos, flags, mnt_id, ino
		}
		fd, err1 := strconv.Atoi(fields[1])
		events, err2 := strconv.ParseUint(fields[3], 16, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("fdinfo %q: %w", line, err)
		}
		list = append(list, Interest{FD: fd, Events: uint32(events)})
	}
	return list, nil
}

// A Thread is what one thread has used so far.
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

// Usage is what processes use.
type Usage struct {
	Threads  map[int]Thread // by thread id; those that have not ended
	Resident int64          // memory, in bytes
	Peak     int64          // the most that Resident has ever been

	// CPU is the time on a processor of all threads, those that have ended too, to
	// the nanosecond. User and System are the same time, parted by what each tick
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

// Since is what has been used since before, thread by thread. A thread that
// has come since is there with all it has used.
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
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return Usage{}, gone(err)
	}
	u := Usage{Threads: map[int]Thread{}}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return u, err
		}
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

// UsedByThisThread is what the calling thread has used: lock the goroutine to it.
func UsedByThisThread() (Thread, error) { return usedByThread("/proc/thread-self") }

// ticks is utime and stime of /proc/PID/stat: proc_pid_stat(5). They are in
// units of USER_HZ, which is 100 a second on all machines that Go knows.
func ticks(pid int) (user, system time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, gone(err)
	}
	const tick = 10 * time.Millisecond
	const utime, stime = 14 - 3, 15 - 3 // counted from 1, and the first two are cut off
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) <= stime {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	u, err1 := strconv.ParseInt(fields[utime], 10, 64)
	s, err2 := strconv.ParseInt(fields[stime], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return time.Duration(u) * tick, time.Duration(s) * tick, nil
}

// schedstat is how long a thread has run, and has been runnable and waited for
// a processor: Documentation/scheduler/sched-stats.rst.
func schedstat(task string) (ran, waited time.Duration, err error) {
	text, err := os.ReadFile(task + "/schedstat")
	if err != nil {
		return 0, 0, gone(err)
	}
	if _, err := fmt.Sscan(string(text), &ran, &waited); err != nil {
		return 0, 0, fmt.Errorf("%s/schedstat: %w", task, err)
	}
	return ran, waited, nil
}

// numbers is the number that follows each key in a file of lines "key: number …".
// A process that is about to end has no memory any more, and no such lines.
func numbers(file string, keys ...string) ([]int64, error) {
	text, err := os.ReadFile(file)
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

// ErrRuns says that no thread of a process stands in a system call.
var ErrRuns = errors.New("no thread stands in a system call")

// StandsIn is the system call that a thread of the process stands in, by number,
// and its first argument: /proc/PID/task/TID/syscall. A thread that waits for
// another thread (futex) or sleeps is passed over. ErrRuns when there is none;
// EPERM when we may not look.
func StandsIn(pid int) (call, argument int, err error) {
	files, err := callFiles(pid)
	if err != nil {
		return 0, 0, err
	}
	err = ErrRuns
	for _, file := range files {
		c, failed := callIn(file)
		switch {
		case errors.Is(failed, ErrRuns):
			continue
		case failed != nil:
			err = failed
			continue
		}
		switch c.Number {
		case unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP:
			continue
		}
		return c.Number, int(int32(c.Args[0])), nil
	}
	return 0, 0, err
}

// Stopped says whether every thread of the process stands still after SIGSTOP.
func Stopped(pid int) (bool, error) {
	return all(pid, func(state byte) bool { return state == 'T' || state == 't' })
}

// Asleep says whether every thread of the process sleeps or is stopped: none runs
// or waits for a processor.
func Asleep(pid int) (bool, error) {
	return all(pid, func(state byte) bool { return state != 'R' })
}

// all says whether the states of all threads are such: the letters of
// /proc/PID/stat. ErrGone when there is no thread.
func all(pid int, such func(state byte) bool) (bool, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false, err
	}
	if len(files) == 0 {
		return false, ErrGone
	}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if errors.Is(gone(err), ErrGone) {
			continue // that thread has ended
		}
		if err != nil {
			return false, err
		}
		state := bytes.TrimSpace(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(state) == 0 || !such(state[0]) {
			return false, nil
		}
	}
	return true, nil
}
