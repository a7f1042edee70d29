//go:build linux

// Package demo is small experiments with the kernel, each of them about one
// thing that a chapter says. A demo makes its own sockets, lets the thing happen,
// counts, and says what it has seen: no figure is written beforehand.
//
// One file is one demo.
package demo

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"lesson/internal/report"
)

// A Demo is one experiment.
type Demo struct {
	Name    string `json:"name"`           // as on the command line
	Title   string `json:"title"`          // one line
	Chapter string `json:"chapter"`        // its file in the repository: "docs/09-socket-options.md"
	Root    string `json:"root,omitempty"` // what needs root, and why; "" when nothing does
	Drawn   bool   `json:"-"`              // its result has a Picture

	// Run makes the experiment, in less than 20 seconds. When ctx ends early, it
	// returns what it has seen so far with the error of ctx; the Result is nil
	// when that is nothing. Any other error says why it cannot run here.
	Run func(ctx context.Context, o Options) (*Result, error) `json:"-"`
}

// Options are for the one who watches.
type Options struct {
	Say func(format string, args ...any) // what is being done now, one line; may be nil
}

func (o Options) say(format string, args ...any) {
	if o.Say != nil {
		o.Say(format, args...)
	}
}

// A Result is what was seen. Its tables and sentences are made from Data.
type Result struct {
	Demo      string   `json:"demo"`
	Tables    []Table  `json:"tables"`
	Sentences []string `json:"sentences"`
	Data      any      `json:"data"` // the figures as they were taken
	// Picture is the figures drawn, where that shows more than a table; or nil.
	Picture report.Chart `json:"-"`
}

// A Table has as many cells in each of its Rows as in its Head.
type Table struct {
	Title string     `json:"title"`
	Head  []string   `json:"head"`
	Rows  [][]string `json:"rows"`
}

var demos = []Demo{
	reset,
	events,
	connect,
	backlog,
	descriptors,
	ports,
	memory,
	cork,
	nodelay,
	deferAccept,
	herd,
	uneven,
	orphans,
	handover,
	completions,
}

// All is every demo, in the order of the chapters.
func All() []Demo { return slices.Clone(demos) }

// Listing returns the demos as a table.
func Listing() *report.Table {
	t := &report.Table{Left: 2, Width: width, Head: []string{"NAME", "WHAT IT SHOWS, AND THE CHAPTER"}}
	for _, d := range demos {
		t.Rows = append(t.Rows, []string{d.Name, d.Title}, []string{"", d.Chapter})
		if d.Root != "" {
			t.Rows = append(t.Rows, []string{"", "root: " + d.Root})
		}
	}
	return t
}

// Find is the demo of that name.
func Find(name string) (Demo, error) {
	var names []string
	for _, d := range demos {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return Demo{}, fmt.Errorf("no experiment %q; there are %s", name, strings.Join(names, ", "))
}

// width is where tables and sentences are broken, in columns.
const width = 80

// Draw writes the picture, or returns an error if there is none.
func (r *Result) Draw(w io.Writer) error {
	if r.Picture == nil {
		return fmt.Errorf("%s has no drawing; its tables show everything", r.Demo)
	}
	_, err := w.Write(r.Picture.SVG())
	return err
}

// Print writes the tables, then the sentences. An error of w is w's.
func (r *Result) Print(w io.Writer) {
	for i, t := range r.Tables {
		if i > 0 {
			fmt.Fprintln(w)
		}
		t.print(w)
	}
	for _, sentence := range r.Sentences {
		fmt.Fprintln(w)
		for _, line := range report.Wrap(sentence, width) {
			fmt.Fprintln(w, line)
		}
	}
}

func (t Table) print(w io.Writer) {
	fmt.Fprintln(w, strings.Join(report.Wrap(t.Title, width), "\n"))
	fmt.Fprintln(w)
	table := report.Table{Head: t.Head, Rows: t.Rows, ByCell: true, Indent: "  ", Width: width}
	table.Print(w)
}
