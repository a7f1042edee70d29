//go:build linux

package explore

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"lesson/internal/kernel/simulated"
	"lesson/internal/report"
)

// Print writes the report: the story of a failure, or what was tried. width is the
// columns of the terminal, 0 for none.
func (r *Report) Print(w io.Writer, width int) {
	if width == 0 {
		width = 100
	}
	if r.Failure == nil && r.Story == nil {
		r.printCovered(w)
		return
	}
	if s, err := FindScenario(r.Scenario); err == nil {
		fmt.Fprintf(w, "%s  %s\n", s.Name, s.Asks)
	}
	fmt.Fprintln(w)
	r.Story.print(w, width)
	fmt.Fprintln(w)
	if r.Failure == nil {
		fmt.Fprintln(w, nothingWrong)
		return
	}
	writeLines(w, "FAILS: "+r.Failure.Text+".", width)
	if r.Story.faulty() {
		fmt.Fprintln(w)
		writeLines(w, aboutFaults, width)
	}
	fmt.Fprintf(w, "\n%s tried, %.1f s. Again: %s\n",
		report.Plural(r.Executions, "order", "orders"), r.Took.Seconds(), r.again())
	if r.Varies {
		writeLines(w, aboutVarying, width)
	}
}

func writeLines(w io.Writer, text string, width int) {
	for _, line := range report.Wrap(text, width) {
		fmt.Fprintln(w, line)
	}
}

// aboutVarying explains Report.Varies.
const aboutVarying = "Played again, this order has also ended in another way. Does the server range over a map, " +
	"use random numbers, or have several goroutines that can run in either order?"

// aboutFaults explains faultMark.
const aboutFaults = "(fault): explore let this call fail or fall short. --faults none leaves that out."

// faulty reports whether a call of the story went wrong by choice.
func (s *Story) faulty() bool {
	return slices.ContainsFunc(s.Steps, func(step Step) bool {
		return strings.Contains(step.Text, faultMark)
	})
}

const nothingWrong = "Nothing is wrong in this order."

// again returns the command that plays the same order.
func (r *Report) again() string {
	command := fmt.Sprintf("lesson explore %s --replay %s", r.Target, r.Replay)
	if len(r.Arguments) > 0 {
		command += " -- " + strings.Join(r.Arguments, " ")
	}
	return command
}

// print writes the steps: what happened and, of a system call, where it is made; below
// it the causes of events; beside it what the kernel holds after it.
func (s *Story) print(w io.Writer, width int) {
	happened, places := 0, 0
	for _, step := range s.Steps {
		happened = max(happened, report.Columns(step.Text))
		places = max(places, report.Columns(step.place()))
	}
	happened = min(happened, 52)
	state := width - 4 - happened - places - 4
	beside := !slices.ContainsFunc(s.Steps, func(step Step) bool {
		return report.Columns(lists(step.State)) > state // it would be cut in pieces
	})
	var before simulated.State
	for _, step := range s.Steps {
		text := report.Fit(step.Text, happened)
		line := fmt.Sprintf("%3d %s  %s", step.Number, report.Pad(text, happened), report.Pad(step.place(), places))
		switch {
		case same(step.State, before):
			fmt.Fprintln(w, strings.TrimRight(line, " "))
		case beside:
			fmt.Fprintf(w, "%s  %s\n", line, lists(step.State))
		default:
			fmt.Fprintf(w, "%s\n      %s\n", strings.TrimRight(line, " "), lists(step.State))
		}
		before = step.State
		if step.Times > 1 {
			fmt.Fprintf(w, "      %d times, up to step %d\n", step.Times, step.Number+step.Times-1)
		}
		for _, why := range step.Why {
			fmt.Fprintf(w, "      because %s\n", why)
		}
	}
}

// place returns the source line of a system call.
func (s Step) place() string {
	if s.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", s.File, s.Line)
}

func same(a, b simulated.State) bool { return lists(a) == lists(b) }

// lists writes the accept queue, the interest list, the ready list, and the bytes that
// lie in buffers.
func lists(s simulated.State) string {
	var interest, buffers []string
	for _, e := range s.Interest {
		interest = append(interest, fmt.Sprintf("%d:%s", e.FD, e.Events))
	}
	for _, c := range s.Conns {
		if c.Unread > 0 {
			buffers = append(buffers, fmt.Sprintf("%d has %s unread", c.FD, report.Plural(c.Unread, "byte", "bytes")))
		}
		if c.Unsent > 0 {
			buffers = append(buffers, fmt.Sprintf("%d has %s unsent", c.FD, report.Plural(c.Unsent, "byte", "bytes")))
		}
	}
	parts := []string{"queue " + orNone(s.Queue), "interest " + orNone(interest), "ready " + orNone(numbers(s.Ready))}
	return strings.Join(append(parts, buffers...), " | ")
}

func numbers(ns []int) []string {
	var texts []string
	for _, n := range ns {
		texts = append(texts, fmt.Sprint(n))
	}
	return texts
}

func orNone(words []string) string {
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, " ")
}

// printCovered says what was tried, and does not claim more.
func (r *Report) printCovered(w io.Writer) {
	fmt.Fprintf(w, "%s: nothing wrong in %s orders with %s distinct states, faults: %v, in %.1f s\n\n",
		r.Target, report.Thousands(r.Executions), r.states(), r.Faults, r.Took.Seconds())
	table := report.Table{Head: []string{"scenario", "every order with deviations", "at random"}, Left: 1}
	for _, c := range r.Covered {
		depth := "-"
		if c.Depth >= 0 {
			depth = fmt.Sprintf("up to %d", c.Depth)
		}
		table.Rows = append(table.Rows, []string{c.Scenario, depth, report.Thousands(c.Random)})
	}
	table.Print(w)
	fmt.Fprint(w, `
A deviation is a choice that is not the plain one: another client acts first, a request
is cut, a call falls short or fails. A state is what the kernel holds, what the clients
have done, and what the server's calls have returned. This is no proof: other orders,
other clients and other kernels may still find a bug.
`)
	switch r.Whole {
	case concurrent:
		fmt.Fprintf(w, "\nNo order ended early in a state seen before: %s.\n", r.Whole)
	case unsteady:
		fmt.Fprintf(w, "\nOrders may be missing: %s.\nDoes it range over a map, or use random numbers?\n", r.Whole)
	}
}

func (r *Report) states() string {
	if r.States >= maxStates {
		return "more than " + report.Thousands(maxStates)
	}
	return report.Thousands(r.States)
}

// Listing returns the scenarios as a table.
func Listing(all []Scenario) *report.Table {
	table := &report.Table{Left: 2}
	for _, s := range all {
		table.Rows = append(table.Rows, []string{s.Name, s.Asks})
	}
	return table
}
