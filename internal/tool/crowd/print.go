//go:build linux

package crowd

import (
	"fmt"
	"io"
	"strings"
	"time"

	"lesson/internal/report"
)

// wide is the terminal from which on the spread has a place in the table.
const wide = 110

// Print prints the report for a terminal so wide; 0 is for no terminal.
func (r *Report) Print(w io.Writer, width int) {
	crowds := r.crowds(width >= wide)
	crowds.Width = width
	crowds.Print(w)
	fmt.Fprintln(w)
	if lines := r.lines(); len(lines.Rows) > 0 {
		lines.Width = width
		lines.Print(w)
		fmt.Fprintln(w)
	}
	if width == 0 {
		width = 80
	}
	for _, text := range r.sentences() {
		fmt.Fprintln(w, strings.Join(report.Hang("", "  ", text, min(width, 100)), "\n"))
	}
}

// crowds is the table of all that was measured: a row for each size.
func (r *Report) crowds(spread bool) *report.Table {
	t := &report.Table{Left: 1, Head: []string{
		"server", "conns", "user", "kernel", "threads", "accept", "probe", "slowest", "idle",
	}}
	if spread {
		t.Head = []string{
			"server", "conns", "user", "(spread)", "kernel", "(spread)", "threads", "accept",
			"probe", "slowest", "answered", "idle",
		}
	}
	for _, s := range r.Servers {
		for _, size := range s.Size {
			probe, slowest := probeCells(size.Probe)
			kernel, kernelSpread := "–", "–"
			if size.Both != (Range{}) {
				kernel, kernelSpread = bytes(size.End.Median), size.End.spread()
			}
			row := []string{s.Name, s.conns(size), bytes(size.User.Median)}
			if spread {
				row = append(row, size.User.spread())
			}
			row = append(row, kernel)
			if spread {
				row = append(row, kernelSpread)
			}
			accept := "–"
			if size.Accepted == size.Connected {
				accept = short(size.Accept)
			}
			row = append(row, fmt.Sprint(size.Threads), accept, probe, slowest)
			if spread {
				row = append(row, fmt.Sprintf("%d/%d", size.Probe.Answered, size.Probe.Asked))
			}
			t.Rows = append(t.Rows, append(row, report.Percent(size.Idle.Median, 1)))
		}
	}
	return t
}

// conns is the size as it was reached.
func (s Server) conns(size Size) string {
	if size.Accepted < size.Connected {
		return fmt.Sprintf("%d+%d", size.Accepted, size.Connected-size.Accepted)
	}
	return fmt.Sprint(size.Connected)
}

func probeCells(p Probe) (median, slowest string) {
	switch {
	case p.Asked == 0:
		return "–", "–"
	case p.Answered < p.Asked:
		return "none", "none"
	}
	return short(p.Median), short(p.Max)
}

// lines is the table of the fitted lines, and of what they say for more.
func (r *Report) lines() *report.Table {
	t := &report.Table{Left: 1, Head: []string{"a line through", "user", "R²", "kernel", "R²", "threads"}}
	for _, n := range Projected {
		t.Head = append(t.Head, "→ "+report.Thousands(n))
	}
	for _, s := range r.Servers {
		if s.User == nil || s.Kernel == nil || s.Threads == nil {
			continue
		}
		row := []string{s.Name, bytes(s.User.Slope), s.User.r2(),
			bytes(s.Kernel.Slope), s.Kernel.r2(),
			fmt.Sprintf("%.2f", s.Threads.Slope)}
		for i := range Projected {
			cell := "–"
			if i < len(s.Projections) {
				p := s.Projections[i]
				cell = report.Bytes(max(0, p.User) + max(0, p.Kernel))
				if p.Not != "" {
					cell = "(" + cell + ")"
				}
			}
			row = append(row, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// r2 is how well the line fits; nothing where all values are one.
func (f Fit) r2() string {
	if f.R2 == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f", f.R2)
}

// sentences returns what the tables do not show.
func (r *Report) sentences() []string {
	all := []string{"Bytes are for each connection, medians of " + rounds(r.Rounds) + ". user: memory of" +
		" the server's process. kernel: an estimate, taken from the whole machine, where both" +
		" ends of a connection are; the clients' end is taken off: " + bytes(r.ClientEnd) +
		", half of what a connection costs that is only accepted."}
	all = append(all, "After → is a projection: user and kernel for a crowd that was not measured,"+
		" in parentheses if the server cannot hold it.")
	if widest := r.widest(); widest != "" {
		all = append(all, widest)
	}
	for _, s := range r.Servers {
		for _, stop := range s.Stops {
			all = append(all, s.Name+": "+stop)
		}
		if s.keepsThreads() {
			all = append(all, fmt.Sprintf("%s: when the crowd had gone it still had %d threads, and"+
				" %s more memory than before.", s.Name, s.Left.Threads, report.Bytes(s.Left.User)))
		}
	}
	all = append(all, r.Notes...)
	return append(all, r.Machine.String())
}

// keepsThreads says whether the threads of the crowd have stayed.
func (s Server) keepsThreads() bool {
	return s.Left != nil && s.Threads != nil && s.Threads.Slope > 0.5 &&
		len(s.Size) > 0 && s.Left.Threads > s.Size[len(s.Size)-1].Threads/2
}

// dubious is the spread, in parts of the median, from which on it is said.
const dubious = 0.25

// widest says where the rounds differ most, if they differ much.
func (r *Report) widest() string {
	worst, text := dubious, ""
	for _, s := range r.Servers {
		for _, size := range s.Size {
			for _, one := range []struct {
				what string
				r    Range
			}{{"user", size.User}, {"kernel", size.End}} {
				// Some bytes more or less are no spread but a page.
				if width := one.r.Max - one.r.Min; width > 200 && width/one.r.Median > worst {
					worst = width / one.r.Median
					text = fmt.Sprintf("The rounds differ: %s, %d connections, %s from %s to %s bytes."+
						" Something else was running; try again, or more --rounds.",
						s.Name, size.Connected, one.what, bytes(one.r.Min), bytes(one.r.Max))
				}
			}
		}
	}
	return text
}

func (r Range) spread() string { return bytes(r.Min) + "–" + bytes(r.Max) }

// bytes is a number of bytes for one connection. Less than 0 is noise, and shown.
func bytes(v float64) string { return report.Thousands(v) }

func short(d time.Duration) string {
	return strings.ReplaceAll(report.Seconds(d.Seconds()), " ", "")
}

func rounds(n int) string { return report.Plural(n, "round", "rounds") }
