//go:build linux

package race

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"lesson/internal/play"
	"lesson/internal/report"
)

// PrintOptions describe how a report looks on a terminal.
type PrintOptions struct {
	Colour bool
	Width  int // columns; 0 is 80
}

const (
	narrowest = 60
	widest    = 200
	noteWidth = 16 // the column behind a row of time
	indent    = "  "
)

// A glyph is how a phase looks: a character that is clear without its colour.
type glyph struct {
	phase  Phase
	symbol rune
	colour string // one of report's
	legend string
}

// The client's phases, the one that wins where several share a cell first.
var clientGlyphs = []glyph{
	{Served, '█', report.Green, "reading the answer"},
	{Waiting, '▒', report.Yellow, "accepted, waiting"},
	{Unserved, '▓', report.Yellow, "waiting"},
	{Queued, '░', report.Yellow, "waiting in the accept queue"},
	{Connecting, '-', report.Dim, "connecting"},
	{Own, '·', report.Dim, "has not sent its request, or does not read yet"},
}

// The server's: the call in which it was blocked for the whole of a cell.
var serverGlyphs = []glyph{
	{"accept4", 'a', report.Cyan, "blocked in accept4"},
	{"read", 'r', report.Red, "in read"},
	{"send", 's', report.Red, "in send"},
	{"epoll_wait", 'e', report.Cyan, "in epoll_wait"},
	{"nanosleep", 'n', report.Cyan, "in nanosleep"},
	{Stopped, 'z', report.Dim, "stopped by SIGSTOP"},
	{Running, '▪', report.Green, "several calls"},
}

func glyphOf(glyphs []glyph, p Phase) glyph {
	for _, g := range glyphs {
		if g.phase == p {
			return g
		}
	}
	return glyphs[len(glyphs)-1]
}

// A printer writes a report. An error of the terminal is the terminal's.
type printer struct {
	w     io.Writer
	o     PrintOptions
	until time.Duration // the end of the axis
	names int           // the width of the names
	cells int           // the width of the rows of time
}

// Print writes the report for a terminal.
func (r *Report) Print(w io.Writer, o PrintOptions) {
	if o.Width == 0 {
		o.Width = 80
	}
	o.Width = min(max(o.Width, narrowest), widest)
	p := printer{w: w, o: o, until: max(r.Lasted, 1), names: len("threads")}
	for _, s := range r.Servers {
		shown, folded := fold(s.Rows, mostRows)
		for _, row := range shown {
			p.names = max(p.names, report.Columns(row.Name))
		}
		p.names = max(p.names, len(more(folded)))
	}
	p.cells = o.Width - len(indent) - p.names - 1 - 2 - noteWidth

	title := report.Wrap(r.Scenario.Name+": "+r.Scenario.Title, o.Width)
	title[0] = p.bold(r.Scenario.Name) + strings.TrimPrefix(title[0], r.Scenario.Name)
	fmt.Fprintln(w, strings.Join(title, "\n"))
	p.text("", r.Scenario.Text)
	p.text("", r.Scenario.Question)
	fmt.Fprintln(w)
	p.legend(r)
	for i := range r.Servers {
		fmt.Fprintln(w)
		p.server(&r.Servers[i])
	}
}

func (p printer) coloured(colour, text string) string {
	return report.Paint(p.o.Colour, colour, text)
}

func (p printer) bold(text string) string { return p.coloured(report.Bold, text) }

// text writes a text of any length, wrapped.
func (p printer) text(lead, text string) {
	for _, line := range report.Wrap(text, p.o.Width-len(lead)) {
		if report.Columns(lead+line) > p.o.Width {
			lead = indent
		}
		fmt.Fprintln(p.w, lead+line)
	}
}

// legend explains the symbols that occur.
func (p printer) legend(r *Report) {
	used := map[Phase]bool{}
	threads, folds := false, false
	for _, s := range r.Servers {
		for _, row := range s.Rows {
			for _, span := range row.Spans {
				used[span.What] = true
			}
		}
		for _, lane := range s.Lanes {
			for _, span := range lane.Spans {
				used[span.What] = true
				threads = threads || span.Many > 0
			}
		}
		_, folded := fold(s.Rows, mostRows)
		folds = folds || len(folded) > 0
	}
	used["send"] = false // no answer of these servers has ever filled a send buffer
	p.glyphs("clients  ", clientGlyphs, used)
	p.glyphs("server   ", serverGlyphs, used)
	if threads {
		p.text("         ", "1 to 9, +  number of threads blocked in read")
	}
	if folds {
		p.text("         ", "▁ to █  in a row of many clients: the share that waits")
	}
}

func (p printer) glyphs(lead string, glyphs []glyph, used map[Phase]bool) {
	line, length := lead, report.Columns(lead)
	for _, g := range glyphs {
		if !used[g.phase] {
			continue
		}
		item := 4 + report.Columns(g.legend)
		if length+item-2 > p.o.Width && length > len(lead) {
			fmt.Fprintln(p.w, strings.TrimRight(line, " "))
			line, length = strings.Repeat(" ", len(lead)), len(lead)
		}
		line += p.coloured(g.colour, string(g.symbol)) + " " + g.legend + "  "
		length += item
	}
	if length > len(lead) {
		fmt.Fprintln(p.w, strings.TrimRight(line, " "))
	}
}

// server writes one server's rows, and what they mean.
func (p printer) server(s *Server) {
	room := p.o.Width - noteWidth
	title := report.Pad(report.Fit(s.Name+"  "+s.Title, room), room)
	title = p.bold(s.Name) + strings.TrimPrefix(title, s.Name)
	fmt.Fprintln(p.w, title+"waited")
	shown, folded := fold(s.Rows, mostRows)
	for _, row := range shown {
		p.row(row.Name, p.client(row.Spans), note(row))
	}
	if len(folded) > 0 {
		p.row(more(folded), p.share(folded, s.Lasted), "")
	}
	for _, lane := range s.Lanes {
		p.row(lane.Name, p.lane(lane, s.Lasted), "")
	}
	p.axis()
	if len(folded) > 0 {
		p.text(indent, distribution(folded))
	}
	if !s.Untraced {
		p.places(s)
	}
	p.text(indent, s.Sentence)
}

func (p printer) row(name, cells, note string) {
	fmt.Fprintln(p.w, strings.TrimRight(indent+report.Pad(name, p.names)+" "+cells+"  "+note, " "))
}

// cell is the part of the time that one cell stands for.
func (p printer) cell(i int) (from, to time.Duration) {
	n := time.Duration(p.cells)
	return p.until * time.Duration(i) / n, p.until * time.Duration(i+1) / n
}

// within reports whether a part of the span lies in the cell; one that is too short
// to have a length lies in the cell in which it begins.
func (s Span) within(from, to time.Duration) bool {
	return s.From < to && s.To > from || s.From == s.To && from <= s.From && s.From < to
}

// client returns a client's row: for each cell, the latest phase in it.
func (p printer) client(spans []Span) string {
	var out strings.Builder
	for i := range p.cells {
		from, to := p.cell(i)
		best := len(clientGlyphs)
		for _, s := range spans {
			if s.within(from, to) {
				best = min(best, slices.IndexFunc(clientGlyphs,
					func(g glyph) bool { return g.phase == s.What }))
			}
		}
		p.put(&out, clientGlyphs, best)
	}
	return out.String()
}

func (p printer) put(out *strings.Builder, glyphs []glyph, i int) {
	if i < 0 || i >= len(glyphs) {
		out.WriteByte(' ')
		return
	}
	out.WriteString(p.coloured(glyphs[i].colour, string(glyphs[i].symbol)))
}

// lane returns a server's row: for each cell, the call in which the server was blocked
// for the whole of it, or the symbol for several calls.
func (p printer) lane(l Lane, lasted time.Duration) string {
	var out strings.Builder
	for i := range p.cells {
		from, to := p.cell(i)
		to = min(to, lasted)
		if from >= to {
			out.WriteByte(' ')
			continue
		}
		symbol, colour := ' ', ""
		threads := 0
		for _, s := range l.Spans {
			if !s.within(from, to) {
				continue
			}
			threads = max(threads, s.Many)
			g := glyphOf(serverGlyphs, Running)
			if s.From <= from && s.To >= to {
				g = glyphOf(serverGlyphs, s.What)
			}
			symbol, colour = g.symbol, g.colour
		}
		if threads > 0 {
			symbol, colour = digit(threads), report.Red
		}
		if symbol == ' ' {
			out.WriteByte(' ')
			continue
		}
		out.WriteString(p.coloured(colour, string(symbol)))
	}
	return out.String()
}

func digit(n int) rune {
	if n > 9 {
		return '+'
	}
	return rune('0' + n)
}

// share returns the row of many clients: the share of them that waits, in eighths.
func (p printer) share(rows []Row, lasted time.Duration) string {
	bars := []rune("▁▂▃▄▅▆▇█")
	var out strings.Builder
	for i := range p.cells {
		from, to := p.cell(i)
		waiting, there := 0, 0
		for _, r := range rows {
			waits, here := false, false
			for _, s := range r.Spans {
				if s.within(from, to) {
					here = true
					waits = waits || s.What == Queued || s.What == Waiting || s.What == Unserved
				}
			}
			if waits {
				waiting++
			}
			if here {
				there++
			}
		}
		switch {
		case waiting > 0:
			eighths := (8*waiting + len(rows) - 1) / len(rows)
			out.WriteString(p.coloured(report.Yellow, string(bars[eighths-1])))
		case there > 0 && from < lasted:
			out.WriteString(p.coloured(report.Dim, "·"))
		default:
			out.WriteByte(' ')
		}
	}
	return out.String()
}

// axis writes the time below the rows.
func (p printer) axis() {
	line := []rune(strings.Repeat(" ", p.cells))
	end := 0 // of the last label
	for _, at := range ticks(p.until) {
		label := []rune(tick(at, p.until))
		i := min(int(at*time.Duration(p.cells)/p.until), len(line)-len(label))
		if i >= end {
			copy(line[i:], label)
			end = i + len(label) + 1
		}
	}
	p.row("", p.coloured(report.Dim, strings.TrimRight(string(line), " ")), "")
}

// ticks is at most seven round times.
func ticks(until time.Duration) []time.Duration {
	step := time.Microsecond
	for until/step > 6 {
		step *= 10
	}
	switch {
	case until/(step/5) <= 6:
		step /= 5
	case until/(step/2) <= 6:
		step /= 2
	}
	var all []time.Duration
	for at := time.Duration(0); at <= until; at += step {
		all = append(all, at)
	}
	return all
}

// tick is a time on an axis that ends there, always in the same unit.
func tick(at, until time.Duration) string {
	switch {
	case until >= 2*time.Second:
		return fmt.Sprintf("%g s", at.Seconds())
	case until >= 2*time.Millisecond:
		return fmt.Sprintf("%g ms", float64(at)/1e6)
	}
	return fmt.Sprintf("%g µs", float64(at)/1e3)
}

// mostPlaces is the number of lines of source that are listed.
const mostPlaces = 3

// places lists the lines of source in which the server was blocked longest.
func (p printer) places(s *Server) {
	for i, place := range s.Stood {
		lead := indent + strings.Repeat(" ", p.names+1)
		if i == mostPlaces || place.Stood*100 < s.Lasted {
			break
		}
		calls := report.Plural(place.Calls, "call", "calls")
		line := fmt.Sprintf("%s in %s, %s", length(place.Stood), place.Call, place.At)
		if len(s.Lanes) > 1 && place.Call != "accept4" {
			calls += " of all threads"
		}
		for _, more := range []string{forWhom(place), ", " + calls} {
			if report.Columns(line+more) <= p.o.Width-len(lead) {
				line += more
			}
		}
		if report.Columns(lead+line) > p.o.Width {
			lead = indent
		}
		fmt.Fprintln(p.w, lead+line)
	}
}

func forWhom(place Place) string {
	if len(place.For) == 0 {
		return ""
	}
	const most = 2
	if len(place.For) > most {
		return fmt.Sprintf(", for %s and %d others", place.For[0], len(place.For)-1)
	}
	return ", for " + list(place.For, most)
}

// mostRows is the number of clients that a terminal shows before it folds.
const mostRows = 12

// fold chooses the clients to show, in their order: a few of those that are not quick,
// and the slowest and the fastest of the quick ones.
func fold(rows []Row, most int) (shown, folded []Row) {
	if len(rows) <= most {
		return rows, nil
	}
	var quick, others []Row
	for _, r := range rows {
		if r.Role == play.Quick {
			quick = append(quick, r)
		} else {
			others = append(others, r)
		}
	}
	keep := map[string]bool{}
	for _, r := range others[:min(len(others), most/4)] {
		keep[r.Name] = true
	}
	slices.SortStableFunc(quick, func(a, b Row) int { return int(b.Waited - a.Waited) })
	room := most/2 - 1
	for i, r := range quick {
		if i < room || i == len(quick)-1 {
			keep[r.Name] = true
		}
	}
	for _, r := range rows {
		if keep[r.Name] {
			shown = append(shown, r)
		} else {
			folded = append(folded, r)
		}
	}
	return shown, folded
}

func more(folded []Row) string {
	if len(folded) == 0 {
		return ""
	}
	return fmt.Sprintf("%d more", len(folded))
}

// distribution describes how long the clients waited that are not shown.
func distribution(folded []Row) string {
	var waits []time.Duration
	for _, r := range folded {
		if r.Waited > 0 {
			waits = append(waits, r.Waited)
		}
	}
	if len(waits) == 0 {
		return more(folded) + ": none of them sent a request."
	}
	slices.Sort(waits)
	last := len(waits) - 1
	return fmt.Sprintf("%s: waited %s; half of them at most %s, 90 %% at most %s.",
		more(folded), span(waits[0], waits[last]), length(waits[last/2]), length(waits[last*9/10]))
}

// note returns the text behind a client's row.
func note(r Row) string {
	switch r.How {
	case play.Answered:
		return length(r.Waited)
	case play.GaveUp, play.WasReset, play.Closed, play.Left:
		if r.Waited > 0 {
			return length(r.Waited) + ", " + string(r.How)
		}
		return string(r.How)
	case play.TooLarge:
		return "refused (431)"
	case play.Open:
		return "unfinished"
	}
	return string(r.How)
}
