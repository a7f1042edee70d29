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
	"unicode/utf8"

	"lesson/internal/report"
)

// A Demo is one experiment.
type Demo struct {
	Name    string // as on the command line
	Title   string // one line
	Chapter string // its file in the repository: "docs/09-socket-options.md"
	Root    string // what needs root, and why; "" when nothing does

	// Run makes the experiment, in less than 20 seconds. When ctx ends early, it
	// returns what it has seen so far with the error of ctx; the Result is nil
	// when that is nothing. Any other error says why it cannot run here.
	Run func(ctx context.Context, o Options) (*Result, error)
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
	completions,
}

// All is every demo, in the order of the chapters.
func All() []Demo { return slices.Clone(demos) }

// Find is the demo of that name.
func Find(name string) (Demo, error) {
	var names []string
	for _, d := range demos {
		if d.Name == name {
			return d, nil
		}
		names = append(names, d.Name)
	}
	return Demo{}, fmt.Errorf("no demo %q; there are %s", name, strings.Join(names, ", "))
}

// width is where sentences are broken, in columns.
const width = 80

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

// print writes words to the left of their column and numbers to the right.
func (t Table) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", t.Title)
	widths := make([]int, len(t.Head))
	numeric := make([]bool, len(t.Head))
	for i := range t.Head {
		numeric[i] = len(t.Rows) > 0
		for _, row := range append([][]string{t.Head}, t.Rows...) {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		for _, row := range t.Rows {
			numeric[i] = numeric[i] && isNumber(row[i])
		}
	}
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		line := ""
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if numeric[i] {
				cell, padding = padding+cell, ""
			}
			line += "  " + cell + padding
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// isNumber says whether a cell is a number, with or without a unit, or stands for
// one that is not there.
func isNumber(cell string) bool {
	return cell == "" || cell == "–" || cell[0] >= '0' && cell[0] <= '9'
}
