//go:build linux

package race

import (
	"fmt"
	"io"
	"time"

	"lesson/internal/observe/trace"
	"lesson/internal/report"
)

// mostPageRows is the number of clients that a picture shows before it folds.
const mostPageRows = 40

// kinds is the phases as a picture has them.
var kinds = []report.Kind{
	{Name: string(Own), Pattern: report.Outline},
	{Name: string(Connecting), Pattern: report.Dotted},
	{Name: string(Queued), Legend: "waiting in the accept queue", Pattern: report.Hatched},
	{Name: string(Waiting), Legend: "accepted, waiting", Pattern: report.Dotted},
	{Name: string(Unserved), Pattern: report.Hatched},
	{Name: string(Served), Pattern: report.Solid},
	{Name: "accept4", Legend: "the server is blocked in accept4", Pattern: report.Outline},
	{Name: "epoll_wait", Legend: "in epoll_wait", Pattern: report.Outline},
	{Name: "read", Legend: "in read", Pattern: report.Hatched},
	{Name: string(Stopped), Pattern: report.Outline},
	{Name: atWork, Legend: "the server runs", Pattern: report.Solid},
}

// atWork stands for calls that return at once, and the time between them.
const atWork = "at work"

// WritePage writes the report as one page of HTML. The error is that of w.
func (r *Report) WritePage(w io.Writer) error {
	page := report.Page{
		Title: fmt.Sprintf("lesson race: %s", r.Scenario.Title),
		Lead:  r.Scenario.Question + " " + r.Scenario.Text,
		Foot: []string{
			"lesson race --scenario " + r.Scenario.Name,
			r.Machine.String(),
		},
	}
	table := &report.Table{
		Head: []string{"server", "what happened", "longest wait"}, Left: 2,
	}
	for _, s := range r.Servers {
		longest := time.Duration(0)
		for _, row := range s.Rows {
			longest = max(longest, row.Waited)
		}
		table.Rows = append(table.Rows, []string{s.Name, s.Sentence, length(longest)})
	}
	page.Sections = append(page.Sections, report.Section{Title: "In words", Table: table})
	for i := range r.Servers {
		page.Sections = append(page.Sections, r.section(&r.Servers[i]))
	}
	return page.Write(w)
}

func (r *Report) section(s *Server) report.Section {
	section := report.Section{
		Title: fmt.Sprintf("%s: %s", s.Name, s.Title),
	}
	shown, folded := fold(s.Rows, mostPageRows)
	if len(folded) > 0 {
		section.Text = append(section.Text,
			fmt.Sprintf("The picture shows %d of %d clients, the slowest and the fastest. %s",
				len(shown), len(s.Rows), distribution(folded)))
	}
	if s.Untraced {
		section.Text = append(section.Text,
			"The picture has no row for the server: package net makes its system calls, and the trace"+
				" cannot show them.")
	}
	group := report.Group{Name: s.Name, Note: s.Command}
	for _, row := range shown {
		lane := report.Lane{Name: row.Name}
		for _, span := range row.Spans {
			lane.Spans = append(lane.Spans, drawn(span, string(span.What), ""))
		}
		group.Lanes = append(group.Lanes, lane)
	}
	for _, lane := range s.Lanes {
		group.Lanes = append(group.Lanes, r.lane(lane))
	}
	section.Charts = []report.Chart{report.Timeline{
		Title:   fmt.Sprintf("%s, %s", r.Scenario.Name, s.Name),
		Caption: s.Sentence,
		Until:   r.Lasted.Seconds(),
		Kinds:   r.kindsUsed(),
		Groups:  []report.Group{group},
	}}
	return section
}

// kindsUsed returns the kinds that occur anywhere in the report, so that each means
// the same in all pictures.
func (r *Report) kindsUsed() []report.Kind {
	used := map[string]bool{}
	for _, s := range r.Servers {
		for _, row := range s.Rows {
			for _, span := range row.Spans {
				used[string(span.What)] = true
			}
		}
		for _, lane := range s.Lanes {
			for _, span := range r.lane(lane).Spans {
				used[span.Kind] = true
			}
		}
	}
	var all []report.Kind
	for _, k := range kinds {
		if used[k.Name] {
			all = append(all, k)
		}
	}
	return all
}

// parts is the number of parts of time in a server's row of a picture. A shorter wait
// is drawn as work, so that a crowd does not become thousands of boxes.
const parts = 400

// lane returns a server's row in a picture: the calls in which it was blocked, and work
// in between.
func (r *Report) lane(l Lane) report.Lane {
	out := report.Lane{Name: l.Name, Tall: true}
	var work *report.Span
	for _, s := range l.Spans {
		long := s.To-s.From >= r.Lasted/parts
		stands := s.Many > 0 || long && (trace.Waits(string(s.What)) || s.What == Stopped)
		switch {
		case stands:
			label := s.At
			if s.For != "" {
				label += ", for " + s.For
			}
			if s.Many > 0 {
				label = fmt.Sprintf("%d, %s", s.Many, s.At)
			}
			out.Spans = append(out.Spans, drawn(s, string(s.What), label))
			work = nil
		case work != nil:
			work.To = s.To.Seconds()
		default:
			out.Spans = append(out.Spans, drawn(s, atWork, ""))
			work = &out.Spans[len(out.Spans)-1]
		}
	}
	return out
}

func drawn(s Span, kind, label string) report.Span {
	return report.Span{From: s.From.Seconds(), To: s.To.Seconds(), Kind: kind, Label: label}
}
