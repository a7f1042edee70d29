//go:build linux

package crowd

import (
	"fmt"

	"lesson/internal/report"
)

// Figures is what pages quote of a report: Markdown, and charts.
func (r *Report) Figures() (texts map[string]string, charts map[string]report.Chart) {
	texts = map[string]string{
		"conditions": fmt.Sprintf("%s; medians of %s.\n", r.Machine, rounds(r.Rounds)),
		"sizes":      r.crowds(true).Markdown(),
		"lines":      r.lines().Markdown(),
		"idle":       r.idle().Markdown(),
		"stops":      r.stops(),
	}
	charts = map[string]report.Chart{
		"user": r.UserChart(), "kernel": r.KernelChart(), "threads": r.ThreadsChart(),
		"parts": r.PartsChart(), "projection": r.ProjectionChart(),
	}
	return texts, charts
}

// idle is what one connection costs each server, in its largest crowd.
func (r *Report) idle() *report.Table {
	t := &report.Table{Left: 1, Head: []string{
		"an idle connection costs", "bytes of the process", "bytes of the kernel", "threads",
		"measured with",
	}}
	for _, s := range r.Servers {
		if s.Queues || len(s.Size) == 0 || s.Name == acceptOnly {
			continue
		}
		last := s.Size[len(s.Size)-1]
		threads := 0.0
		if s.Threads != nil {
			threads = max(0, s.Threads.Slope)
		}
		t.Rows = append(t.Rows, []string{
			s.Name, bytes(last.User.Median), bytes(last.End.Median),
			fmt.Sprintf("%.0f", threads), report.Thousands(last.Weighed()),
		})
	}
	return t
}

// stops is why there is no larger crowd of some.
func (r *Report) stops() string {
	text := ""
	for _, s := range r.Servers {
		for _, stop := range s.Stops {
			text += fmt.Sprintf("- %s: %s\n", s.Name, stop)
		}
	}
	return text
}
