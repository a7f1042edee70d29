//go:build linux

package bench

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"lesson/internal/report"
)

// PrintOptions say how a report looks.
type PrintOptions struct {
	Width int // columns; 0 is as many as it takes
}

// roomy is the width from which on a table has all its columns.
const roomy = 104

// Print writes the report for people.
func (r *Report) Print(w io.Writer, o PrintOptions) {
	p := printer{w, o.Width}
	for _, line := range r.conditions() {
		p.text("", line)
	}
	for _, conns := range r.conns() {
		p.text("", "\n"+connections(conns)+" at a time")
		p.table(r.costTable(conns))
		p.table(r.speedTable(conns, o.Width == 0 || o.Width >= roomy))
		if r.Rate > 0 {
			p.table(r.sinceTable(conns))
		}
	}
	p.table(r.memoryTable())
	p.calls(r)
	for _, note := range r.Notes() {
		p.text("", "\n"+note)
	}
}

// A printer writes lines. An error of the terminal is the terminal's.
type printer struct {
	w     io.Writer
	width int
}

func (p printer) table(t *report.Table) {
	t.Width = p.width
	fmt.Fprintln(p.w)
	t.Print(p.w)
}

// text writes a paragraph, behind a label.
func (p printer) text(label, text string) {
	width := p.width
	if width == 0 || width > roomy {
		width = roomy
	}
	for _, line := range report.Hang(label, report.Blanks(label), text, width) {
		fmt.Fprintln(p.w, line)
	}
}

// calls writes the system calls of the first size, where the server never does for
// two requests what it could do for each.
func (p printer) calls(r *Report) {
	conns := r.conns()[0]
	widest := 0
	for _, s := range r.Servers {
		widest = max(widest, report.Columns(s.Name))
	}
	p.text("", "\nSystem calls of a request, "+connections(conns)+" at a time:\n\n")
	for _, s := range r.Servers {
		size := s.at(conns)
		if size == nil {
			continue
		}
		text := "not counted: " + cmp.Or(size.NotCalls, "the run ended before that")
		if len(size.Calls) > 0 {
			text = fmt.Sprintf("%.1f: %s", size.Calls.All(), size.Calls)
		}
		p.text(report.Pad(s.Name, widest)+"  ", text)
	}
}

// String lists the calls, the most frequent first, and then those that come with
// time. Those that come once in a hundred requests or less are left out.
func (c Calls) String() string {
	var lists [2][]string
	for _, name := range slices.SortedFunc(maps.Keys(c), func(a, b string) int {
		return cmp.Or(cmp.Compare(c[b], c[a]), strings.Compare(a, b))
	}) {
		list := &lists[0]
		if withTime(name) {
			list = &lists[1]
		}
		if c[name] > seldom {
			*list = append(*list, name+" "+strconv.FormatFloat(math.Round(c[name]*100)/100, 'f', -1, 64))
		}
	}
	text := strings.Join(lists[0], ", ")
	if len(lists[1]) > 0 {
		text += "; not per request: " + strings.Join(lists[1], ", ")
	}
	return text
}

// seldom is calls for each request that are not worth a word.
const seldom = 0.01

// conditions is under what was measured.
func (r *Report) conditions() []string {
	where := "servers and client share one processor"
	if r.ServerCPU != anyProcessor {
		where = fmt.Sprintf("servers on processor %d, the client on processor %d; other programs used %s of both",
			r.ServerCPU, r.ClientCPU, percent(r.Others))
	}
	how := fmt.Sprintf("closed loop: a client sends its next request when it is answered; rounds of %v, %d for each size",
		r.During, r.Rounds)
	if r.Rate > 0 {
		how = fmt.Sprintf("open loop: %s requests are due each second; rounds of %v, %d for each size",
			report.Thousands(r.Rate), r.During, r.Rounds)
	}
	return []string{r.Machine.String(), where, how,
		"one request for each connection; CPU and latency are per request; ratios are taken within a round," +
			" and shown as median [quartiles]"}
}

// conns is the sizes that the first server has, which is measured first.
func (r *Report) conns() []int {
	var conns []int
	for _, s := range r.Servers[0].Sizes {
		conns = append(conns, s.Conns)
	}
	return conns
}

// at is what was measured with so many connections; nil if nothing was.
func (s *Server) at(conns int) *Size {
	for i := range s.Sizes {
		if s.Sizes[i].Conns == conns {
			return &s.Sizes[i]
		}
	}
	return nil
}

// each calls do for every server that was measured at this size.
func (r *Report) each(conns int, do func(server *Server, size *Size)) {
	for i := range r.Servers {
		if size := r.Servers[i].at(conns); size != nil {
			do(&r.Servers[i], size)
		}
	}
}

const nothing = "–"

// by heads a column of ratios.
func (r *Report) by() string { return "÷ " + r.Servers[0].Name }

// costTable is what a request costs the server.
func (r *Report) costTable(conns int) *report.Table {
	t := &report.Table{Left: 1, Head: []string{
		"server", "CPU µs", "user", "system", r.by(), "calls", "sleeps", "preempted"}}
	r.each(conns, func(server *Server, s *Size) {
		row := []string{server.Name, nothing, nothing, nothing, nothing, nothing, nothing, nothing}
		if s.served() > 0 {
			row = []string{server.Name, decimal(s.CPU.Median, 1), decimal(s.User, 1), decimal(s.System, 1),
				r.ratio(server, s.CPURatio), nothing, decimal(s.Sleeps, 2), decimal(s.Preempted, 2)}
		}
		if len(s.Calls) > 0 {
			row[5] = decimal(s.Calls.All(), 1)
		}
		t.Rows = append(t.Rows, row)
	})
	return t
}

// speedTable is how fast requests were answered, and how many were not.
func (r *Report) speedTable(conns int, all bool) *report.Table {
	t := &report.Table{Left: 1, Head: []string{"server", "requests/s", r.by(), "p50"}}
	if all {
		t.Head = append(t.Head, "p90")
	}
	t.Head = append(t.Head, "p99", "p99.9", "max", "client")
	failed := false
	r.each(conns, func(_ *Server, s *Size) { failed = failed || s.failure() != "" })
	if failed {
		t.Head = append(t.Head, "failed")
	}
	r.each(conns, func(server *Server, s *Size) {
		row := []string{server.Name, s.perSecond(), r.ratio(server, s.PerSecondRatio)}
		if !all && s.PerSecondRatio != nil {
			row[2] = decimal(s.PerSecondRatio.Median, 2)
		}
		latencies := []float64{s.Latency.P50, s.Latency.P90, s.Latency.P99, s.Latency.P999, s.Latency.Max}
		for i, v := range latencies {
			if i != 1 || all {
				row = append(row, microseconds(v))
			}
		}
		row = append(row, percent(s.Busy))
		if failed {
			row = append(row, cmp.Or(s.failure(), nothing))
		}
		t.Rows = append(t.Rows, row)
	})
	return t
}

// sinceTable is the latencies of an open loop, seen in both ways.
func (r *Report) sinceTable(conns int) *report.Table {
	t := &report.Table{Left: 2, Head: []string{"server", "latency since", "p50", "p90", "p99", "p99.9", "max"}}
	r.each(conns, func(server *Server, s *Size) {
		if s.SinceSent == nil {
			return
		}
		for _, row := range []struct {
			since string
			Latency
		}{{"it was due", s.Latency}, {"it was sent", *s.SinceSent}} {
			t.Rows = append(t.Rows, []string{server.Name, row.since, microseconds(row.P50), microseconds(row.P90),
				microseconds(row.P99), microseconds(row.P999), microseconds(row.Max)})
		}
	})
	return t
}

// memoryTable is threads and memory, which only grow from size to size.
func (r *Report) memoryTable() *report.Table {
	t := &report.Table{Left: 1, Head: []string{"threads, peak memory"}}
	for _, conns := range r.conns() {
		t.Head = append(t.Head, fmt.Sprintf("%d at a time", conns))
	}
	for i := range r.Servers {
		row := []string{r.Servers[i].Name}
		for _, conns := range r.conns() {
			cell := nothing
			if s := r.Servers[i].at(conns); s != nil && s.Threads > 0 {
				cell = fmt.Sprintf("%d, %s", s.Threads, report.Bytes(float64(s.Peak)))
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// callsTable is the system calls of a request, a row for each call.
func (r *Report) callsTable(conns int) *report.Table {
	t := &report.Table{Left: 1, Head: []string{"system call"}}
	all := map[string]bool{}
	r.each(conns, func(server *Server, s *Size) {
		t.Head = append(t.Head, server.Name)
		for name, n := range s.Calls {
			if n > seldom {
				all[name] = true
			}
		}
	})
	row := func(head string, figure func(c Calls) float64) {
		cells := []string{head}
		r.each(conns, func(_ *Server, s *Size) {
			cell := nothing
			if n := figure(s.Calls); n > 0 {
				cell = decimal(n, 2)
			}
			cells = append(cells, cell)
		})
		t.Rows = append(t.Rows, cells)
	}
	names := slices.Sorted(maps.Keys(all))
	for _, name := range names {
		if !withTime(name) {
			row(name, func(c Calls) float64 { return c[name] })
		}
	}
	row("all of these", Calls.All)
	for _, name := range names {
		if withTime(name) {
			row("not per request: "+name, func(c Calls) float64 { return c[name] })
		}
	}
	return t
}

func (s *Size) served() int64 {
	var n int64
	for _, r := range s.Rounds {
		n += r.Served
	}
	return n
}

// perSecond is marked where it is the client's and not the server's.
func (s *Size) perSecond() string {
	switch {
	case s.served() == 0:
		return nothing
	case s.Saturated:
		return "≥ " + report.Thousands(s.PerSecond.Median)
	}
	return report.Thousands(s.PerSecond.Median)
}

// ratio is a ratio to the first server, which is 1 by itself.
func (r *Report) ratio(server *Server, s *Spread) string {
	switch {
	case server.Name == r.Servers[0].Name:
		return "1"
	case s == nil:
		return nothing
	}
	return fmt.Sprintf("%.2f [%.2f–%.2f]", s.Median, s.Low, s.High)
}

// failure says in a few words what was not answered as it should be.
func (s *Size) failure() string {
	var parts []string
	for _, count := range []struct {
		n    int64
		what string
	}{
		{s.Errors.Refused, "refused"}, {s.Errors.Reset, "reset"}, {s.Errors.Short, "cut short"},
		{s.Errors.Wrong, "wrong"}, {s.Errors.Timeout, "timed out"}, {s.Unsent, "never sent"},
	} {
		if count.n > 0 {
			parts = append(parts, report.Thousands(count.n)+" "+count.what)
		}
	}
	return strings.Join(parts, ", ")
}

func connections(n int) string { return report.Plural(n, "connection", "connections") }

func decimal(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }

func percent(part float64) string { return report.Percent(part, 0) }

func microseconds(v float64) string {
	if v == 0 {
		return nothing
	}
	return report.Seconds(v * time.Microsecond.Seconds())
}
