//go:build linux

package crowd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lesson/internal/child"
	"lesson/internal/lesson"
)

// A Target is a server to measure.
type Target struct {
	child.Program
	Most int    // it serves so many at a time; 0 is any number
	Why  string // why no more
	// One at a time: it accepts the next client when it is done with one.
	OneByOne bool
	silent   bool // it answers no client: no probes
}

// acceptOnly is the name of the server that all others are compared with.
const acceptOnly = "accept only"

// Lessons returns the lessons to measure: those named, or all that can be, step by step.
func Lessons(only []string) ([]Target, error) {
	lessons, err := lesson.FindCompared(only)
	if err != nil {
		return nil, err
	}
	if len(only) == 0 {
		slices.SortStableFunc(lessons, func(a, b lesson.Lesson) int { return a.Step - b.Step })
	}
	var targets []Target
	for _, l := range lessons {
		if slices.ContainsFunc(targets, func(t Target) bool { return t.Name == l.Name }) {
			continue
		}
		t, err := lessonTarget(l)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return targets, nil
}

func lessonTarget(l lesson.Lesson) (Target, error) {
	t := Target{OneByOne: l.Model == lesson.Loop}
	flags := []string{"--quiet", "--timeout", "0"} // else it would close the idle ones
	var err error
	if l.Model == lesson.Threaded {
		if t.Most, t.Why, err = mostThreads(); err != nil {
			return t, err
		}
		flags = append(flags, "--max-conns", strconv.Itoa(t.Most))
	}
	t.Program, err = child.Lesson(l.Name, flags...)
	return t, err
}

// mostThreads returns how many connections a lesson can have here with a thread for
// each, and why not more.
func mostThreads() (n int, why string, err error) {
	n = lesson.MostThreads
	why = fmt.Sprintf("--max-conns can be at most %d,"+
		" because the Go runtime ends a program that needs more than 10,000 threads", lesson.MostThreads)
	const others = 500 // its own threads, our own, and those of the whole machine
	for _, limit := range threadLimits() {
		allowed, err := limit.read()
		if err != nil {
			return 0, "", err
		}
		if allowed-others < n {
			n = max(1, allowed-others)
			why = fmt.Sprintf("it may have only %d threads here: %s is %d", n, limit.name, allowed)
		}
	}
	return n, why, nil
}

type threadLimit struct {
	name string
	read func() (int, error)
}

// threadLimits is what bounds the threads of a program: clone(2), EAGAIN; cgroups(7).
func threadLimits() []threadLimit {
	limits := []threadLimit{
		{"kernel.threads-max", numberIn("/proc/sys/kernel/threads-max")},
		{"kernel.pid_max", numberIn("/proc/sys/kernel/pid_max")},
		{"RLIMIT_NPROC (ulimit -u)", userProcesses},
	}
	cgroups, _ := os.ReadFile("/proc/self/cgroup") // without: there is nothing to bound us
	for line := range strings.Lines(string(cgroups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) < 3 || parts[1] != "" && parts[1] != "pids" {
			continue
		}
		file := filepath.Join("/sys/fs/cgroup", parts[1], parts[2], "pids.max")
		limits = append(limits, threadLimit{file, numberIn(file)})
	}
	return limits
}

// unbounded stands for no limit.
const unbounded = 1 << 30

func numberIn(file string) func() (int, error) {
	return func() (int, error) {
		text, err := os.ReadFile(file)
		word := strings.TrimSpace(string(text))
		if errors.Is(err, fs.ErrNotExist) || word == "max" {
			return unbounded, nil
		}
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(word)
	}
}

func userProcesses() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	if os.Geteuid() == 0 {
		return unbounded, nil // root is not held to it
	}
	return int(min(limit.Cur, unbounded)), nil
}
