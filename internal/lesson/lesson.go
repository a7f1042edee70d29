//go:build linux

// Package lesson holds the registry of the lessons, in registry.go, and runs one as a
// program. Whatever differs from lesson to lesson is in the registry: no other package
// lists their names.
package lesson

import (
	"embed"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"lesson/internal/kernel"
	"lesson/internal/report"
	"lesson/internal/server"
)

// A Server runs one lesson. It listens from the start.
type Server interface {
	Serve() error         // serves until Stop, or until it has nothing left to do
	Stop()                // makes Serve return; safe from any goroutine, at any time
	Addr() netip.AddrPort // where it listens
	Counts() *server.Stats
}

// A Model names how a server uses threads. It decides which rules apply to it.
type Model string

// The models, as on the command line.
const (
	Blocking  Model = "blocking"   // one client, then it ends
	Loop      Model = "loop"       // one client at a time
	Threaded  Model = "threaded"   // a thread or process for each connection
	EventLoop Model = "event-loop" // one thread for all connections

	// No lesson has one of these.
	Pool       Model = "pool"        // a fixed number of threads or processes, one client each
	EventLoops Model = "event-loops" // several event loops: processes, or threads
)

// Models returns all models: each serves as many clients at the same time as the one before
// it, or more.
func Models() []Model { return []Model{Blocking, Loop, Pool, Threaded, EventLoop, EventLoops} }

// A Lesson is one way to wait for clients, and all that the tools know about it.
type Lesson struct {
	Step    int      `json:"step"`
	Name    string   `json:"name"`
	Title   string   `json:"title"`   // in a few words
	Command string   `json:"command"` // what to type to run it
	Chapter string   `json:"chapter"` // its file in the repository
	Files   []string `json:"files"`   // its source, in reading order, its own folder first
	Model   Model    `json:"model"`
	// Untraced reports that package net makes its system calls, out of sight of
	// kernel.Kernel.
	Untraced bool `json:"untraced"`

	// Waits is the system call in which it waits for all of its clients at once, and
	// the only one that blocks. Without it, each call blocks on its own descriptor, or
	// package net waits.
	Waits string `json:"waits,omitempty"`
	// Edge reports that Waits is edge-triggered.
	Edge bool `json:"edge,omitempty"`

	// Flag is a flag of another lesson's command that starts this one: "epoll --edge".
	Flag string `json:"-"`
	// About and Examples are for the help of the command of the lesson's name. Without
	// About there is none: only Flag starts the lesson.
	About    string `json:"-"`
	Examples string `json:"-"`
	// Rank is its place in a comparison: the first is what the others are compared
	// with. 0 leaves it out: it serves one client and ends.
	Rank int `json:"-"`
	// Calls is the system calls of one client, from accept to close, by name: the
	// fewest that this structure can do with. Nil if Untraced.
	Calls map[string]int `json:"-"`

	// Start makes the server; Serve then runs it.
	Start func(kernel.Kernel, server.Options) (Server, error) `json:"-"`

	source embed.FS // of the folder of its first file
}

// MostThreads bounds the connections of a lesson that has a thread for each. The Go
// runtime ends a program at 10,000 threads.
const MostThreads = 8000

// Kernel returns Linux, as the lesson is to call it.
func (l Lesson) Kernel() *kernel.Linux { return &kernel.Linux{Nonblocking: l.Waits != ""} }

// All returns the lessons, step by step, and last the variant of step 3.
func All() []Lesson { return slices.Clone(lessons) }

// Steps returns the first lesson of each step.
func Steps() []Lesson {
	var first []Lesson
	for _, l := range lessons {
		if !slices.ContainsFunc(first, func(f Lesson) bool { return f.Step == l.Step }) {
			first = append(first, l)
		}
	}
	return first
}

// Find returns the lesson of that name.
func Find(name string) (Lesson, error) {
	for _, l := range lessons {
		if l.Name == name {
			return l, nil
		}
	}
	return Lesson{}, fmt.Errorf("no lesson %q; there are %s", name, names(lessons))
}

// FindAll returns the lessons of those names, and all lessons if there are no names.
func FindAll(names []string) ([]Lesson, error) {
	if len(names) == 0 {
		return All(), nil
	}
	var found []Lesson
	for _, name := range names {
		l, err := Find(name)
		if err != nil {
			return nil, err
		}
		found = append(found, l)
	}
	return found, nil
}

// Compared returns the lessons that can be measured against each other, by Rank.
func Compared() []Lesson {
	compared := slices.DeleteFunc(All(), func(l Lesson) bool { return l.Rank == 0 })
	slices.SortStableFunc(compared, func(a, b Lesson) int { return a.Rank - b.Rank })
	return compared
}

// FindCompared returns the lessons of those names, and Compared if there are no names.
// It fails for a lesson that cannot be measured.
func FindCompared(wanted []string) ([]Lesson, error) {
	if len(wanted) == 0 {
		return Compared(), nil
	}
	found, err := FindAll(wanted)
	for _, l := range found {
		if l.Rank == 0 {
			return nil, fmt.Errorf("%s serves one client and ends, so it cannot be measured; try %s",
				l.Name, names(Compared()))
		}
	}
	return found, err
}

func names(lessons []Lesson) string {
	var names []string
	for _, l := range lessons {
		names = append(names, l.Name)
	}
	return strings.Join(names, ", ")
}

// Differ returns the source of two lessons without the files of both, which it names.
func Differ(a, b Lesson) (onlyA, onlyB report.Text, both []string, err error) {
	without := func(l, other Lesson) (only []string) {
		for _, file := range l.Files {
			if !slices.Contains(other.Files, file) {
				only = append(only, file)
			}
		}
		return only
	}
	for _, file := range a.Files {
		if slices.Contains(b.Files, file) {
			both = append(both, file)
		}
	}
	if onlyA, err = joined(without(a, b)); err != nil {
		return onlyA, onlyB, nil, err
	}
	onlyB, err = joined(without(b, a))
	return onlyA, onlyB, both, err
}

// joined returns the files one after the other; none is /dev/null, as for diff(1).
func joined(files []string) (report.Text, error) {
	if len(files) == 0 {
		return report.Text{Name: "/dev/null"}, nil
	}
	all := report.Text{Name: strings.Join(files, "+")}
	for _, file := range files {
		body, err := Source(file)
		if err != nil {
			return all, err
		}
		all.Body += body
	}
	return all, nil
}

// Source returns the text of one of a lesson's Files.
func Source(file string) (string, error) {
	for _, l := range lessons {
		if path.Dir(l.Files[0]) == path.Dir(file) {
			text, err := l.source.ReadFile(path.Base(file))
			return string(text), err
		}
	}
	return "", fmt.Errorf("no lesson has a file %q", file)
}
