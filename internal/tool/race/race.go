//go:build linux

// Package race shows which client waits for which. It runs the same clients against
// every lesson at the same time, each lesson in a process of its own, and prints rows of
// time: one for each client, as the client sees it, and below them the server's own,
// from its trace.
package race

import (
	"net/netip"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/play"
	"lesson/internal/report"
)

// Listing returns the scenarios as a table.
func Listing() *report.Table {
	t := &report.Table{Left: 3}
	for _, s := range play.Many() {
		t.Rows = append(t.Rows, []string{s.Name, s.Title, s.Question})
	}
	return t
}

// Options say what to run.
type Options struct {
	Scenario play.Scenario
	Only     []string // names of lessons; none is all
	// Progress, when not nil, is called from time to time with how long the play has
	// lasted and how many servers are done with it. Calls do not overlap.
	Progress func(lasted time.Duration, done, all int)
}

// A Report is what happened. All times in it are from the beginning of the play.
type Report struct {
	Scenario    play.Scenario `json:"scenario"`
	Machine     proc.Machine  `json:"machine"`
	Lasted      time.Duration `json:"lasted"` // the longest of the servers' plays
	Interrupted bool          `json:"interrupted,omitempty"`
	Servers     []Server      `json:"servers"`
}

// A Server is one lesson and what happened there.
type Server struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Command string `json:"command"`
	Chapter string `json:"chapter"`
	// Untraced is set when package net makes the server's calls and no trace shows
	// them: Lanes and Stood are empty.
	Untraced bool          `json:"untraced,omitempty"`
	Lasted   time.Duration `json:"lasted"`
	// Frozen is the time until which it was stopped by SIGSTOP.
	Frozen time.Duration `json:"frozen,omitempty"`
	Ended  bool          `json:"ended,omitempty"` // it had exited: nothing listens there
	Rows   []Row         `json:"clients"`
	Lanes  []Lane        `json:"lanes,omitempty"`
	Stood  []Place       `json:"stood,omitempty"` // the longest first
	// Kept lists the clients that waited while the server was blocked on another.
	Kept     []Kept `json:"kept,omitempty"`
	Sentence string `json:"sentence"`
}

// A Row is one client.
type Row struct {
	Name   string         `json:"name"`
	Role   string         `json:"role"`
	Addr   netip.AddrPort `json:"addr,omitzero"`
	How    play.Outcome   `json:"how"`
	Waited time.Duration  `json:"waited"` // for its answer, from when it could have come
	Spans  []Span         `json:"spans"`
}

// A Lane is a row of the server's own.
type Lane struct {
	Name  string `json:"name"`
	Spans []Span `json:"spans"`
}

// A Span is a time in which one thing happened.
type Span struct {
	From time.Duration `json:"from"`
	To   time.Duration `json:"to"`
	What Phase         `json:"what"`
	At   string        `json:"at,omitempty"`    // the line of source: "blocking/once.go:110"
	For  string        `json:"for,omitempty"`   // the client that a call is about
	Many int           `json:"many,omitempty"`  // how many threads do this at the time
	Note string        `json:"note,omitempty"`  // what a call has returned
	Err  string        `json:"error,omitempty"` // "EAGAIN"
}

// A Phase is what happens in a Span.
type Phase string

// The phases of a client. A server's are names of system calls, and these below.
const (
	Connecting Phase = "connecting"
	Own        Phase = "its own time" // it has not sent its request, or does not read yet
	Queued     Phase = "in the accept queue"
	Waiting    Phase = "waiting, accepted"
	Served     Phase = "reading the answer"
	Unserved   Phase = "waiting" // and where is not known
)

// The phases of a server besides its system calls.
const (
	Running Phase = "running"
	Stopped Phase = "stopped by SIGSTOP"
)

// A Place is a line of source, and how long the server was blocked there.
type Place struct {
	Call  string        `json:"call"`
	At    string        `json:"at"`
	For   []string      `json:"for,omitempty"` // clients, the longest first
	Stood time.Duration `json:"stood"`         // of all threads
	Calls int           `json:"calls"`
}

// Kept is one client that waited while the server was blocked on another.
type Kept struct {
	Client string        `json:"client"`
	By     []string      `json:"by"`     // the clients that it waited for, the longest first
	Call   string        `json:"call"`   // in which the server was blocked longest: "read"
	At     string        `json:"at"`     // and where
	Waited time.Duration `json:"waited"` // in all
}
