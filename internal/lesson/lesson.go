//go:build linux

// Package lesson knows the five lessons: what each is called, which chapter and
// files go with it, how to start one. It is the only place that knows them all.
package lesson

import (
	"embed"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"lesson/blocking"
	"lesson/edgetriggered"
	"lesson/epoll"
	"lesson/internal/kernel"
	"lesson/internal/server"
	"lesson/threaded"
)

// A Server is a lesson that has been started: it listens already.
type Server interface {
	Serve() error         // serves until Stop, or until it has nothing left to do
	Stop()                // makes Serve return; safe from any goroutine, at any time
	Addr() netip.AddrPort // where it listens
	Counts() *server.Stats
}

// A Lesson is one way to wait for clients.
type Lesson struct {
	Step    int      `json:"step"`
	Name    string   `json:"name"`    // as on the command line
	Title   string   `json:"title"`   // in a few words
	Command string   `json:"command"` // what to type to run it
	Chapter string   `json:"chapter"` // its file in the repository
	Files   []string `json:"files"`   // its source, in reading order

	// Nonblocking says that every descriptor of the lesson is: see
	// kernel.Linux.
	Nonblocking bool `json:"nonblocking"`
	// Untraced says that package net makes its system calls, out of sight
	// of kernel.Kernel.
	Untraced bool `json:"untraced"`

	// Start makes the server; Serve then runs it.
	Start func(kernel.Kernel, server.Options) (Server, error) `json:"-"`
}

// steps are the five lessons and, last, the variant of step 3.
var steps = []Lesson{
	{
		Step: 1, Name: "blocking", Title: "one blocking accept: one client, then done",
		Command: "lesson blocking", Chapter: "docs/01-one-client.md",
		Files: []string{"blocking/once.go"},
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			s, err := blocking.New(k, o)
			return once{s}, err
		},
	},
	{
		Step: 2, Name: "loop", Title: "the accept loop: one client at a time",
		Command: "lesson loop", Chapter: "docs/02-a-loop.md",
		Files: []string{"blocking/loop.go", "blocking/once.go"},
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			s, err := blocking.New(k, o)
			return loop{s}, err
		},
	},
	{
		Step: 3, Name: "threaded", Title: "a goroutine, and an OS thread, per connection",
		Command: "lesson threaded", Chapter: "docs/03-a-goroutine-each.md",
		Files: []string{"threaded/threaded.go", "blocking/once.go"},
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			return threaded.New(k, o)
		},
	},
	{
		Step: 4, Name: "epoll", Title: "one event loop, level-triggered epoll",
		Command: "lesson epoll", Chapter: "docs/04-level-triggered.md",
		Files:       []string{"epoll/eventloop.go"},
		Nonblocking: true,
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			return epoll.New(k, o)
		},
	},
	{
		Step: 5, Name: "edgetriggered", Title: "one event loop, edge-triggered epoll",
		Command: "lesson epoll --edge", Chapter: "docs/05-edge-triggered.md",
		Files:       []string{"edgetriggered/eventloop.go"},
		Nonblocking: true,
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			return edgetriggered.New(k, o)
		},
	},
	{
		Step: 3, Name: "netpoll", Title: "a goroutine per connection, parked by package net",
		Command: "lesson threaded --netpoll", Chapter: "docs/10-go-already-does-this.md",
		Files:    []string{"threaded/netpoll.go"},
		Untraced: true,
		Start: func(k kernel.Kernel, o server.Options) (Server, error) {
			return threaded.NewNetpoll(k, o)
		},
	},
}

// once and loop give the two steps of package blocking the name Serve.
type once struct{ *blocking.Server }

func (s once) Serve() error { return s.Once() }

type loop struct{ *blocking.Server }

func (s loop) Serve() error { return s.Loop() }

// All is the five lessons, step by step.
func All() []Lesson { return steps[:5:5] }

// WithVariants is All and, after them, step 3 through package net.
func WithVariants() []Lesson { return steps[:len(steps):len(steps)] }

// Find is the lesson of that name.
func Find(name string) (Lesson, error) {
	var names []string
	for _, l := range steps {
		if l.Name == name {
			return l, nil
		}
		names = append(names, l.Name)
	}
	return Lesson{}, fmt.Errorf("no lesson %q; there are %s", name, strings.Join(names, ", "))
}

// Differ tells the files of a from those of b. What both use is the same in both.
func Differ(a, b Lesson) (onlyA, onlyB, both []string) {
	for _, file := range a.Files {
		if slices.Contains(b.Files, file) {
			both = append(both, file)
		} else {
			onlyA = append(onlyA, file)
		}
	}
	for _, file := range b.Files {
		if !slices.Contains(both, file) {
			onlyB = append(onlyB, file)
		}
	}
	return onlyA, onlyB, both
}

// Source is the text of one of a lesson's Files.
func Source(file string) (string, error) {
	sources := map[string]embed.FS{
		"blocking":      blocking.Source,
		"threaded":      threaded.Source,
		"epoll":         epoll.Source,
		"edgetriggered": edgetriggered.Source,
	}
	text, err := sources[path.Dir(file)].ReadFile(path.Base(file))
	return string(text), err
}
