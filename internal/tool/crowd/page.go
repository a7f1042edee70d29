//go:build linux

package crowd

import (
	"fmt"
	"strings"

	"lesson/internal/report"
)

// Page is the report as a page, with charts.
func (r *Report) Page() *report.Page {
	p := &report.Page{
		Title: "What an idle connection costs",
		Lead: "Clients connect and say nothing. For each of them a server keeps something: here is" +
			" how much, server by server.",
		Foot: []string{r.Machine.String(), rounds(r.Rounds) + ", made by: lesson crowd --html FILE"},
	}
	what := r.sentences()
	p.Sections = append(p.Sections,
		report.Section{Title: "What was measured", Text: what[:1], Table: r.crowds(false)},
		report.Section{Title: "What it means", Text: what[1 : len(what)-1]}, // the last is the machine
	)
	memory := report.Section{Title: "Memory", Charts: []report.Chart{
		r.UserChart(), r.KernelChart(), r.PartsChart(),
	}}
	if lines := r.lines(); len(lines.Rows) > 0 {
		memory.Table = lines
		memory.Charts = append(memory.Charts, r.ProjectionChart())
	}
	p.Sections = append(p.Sections, memory, report.Section{
		Title: "Threads", Charts: []report.Chart{r.ThreadsChart()},
	})
	return p
}

// conns is the axis of the crowd's size.
var conns = report.Axis{Label: "connections", Log: true}

// UserChart is bytes of the server's process for each connection.
func (r *Report) UserChart() report.Lines {
	return report.Lines{
		Title: "Memory of the server's process for each connection",
		Caption: "A thread has two stacks, one in the process and one in the kernel; a goroutine has" +
			" one of its own; in an event loop a connection is an entry of a table.",
		X: conns, Y: report.Axis{Label: "bytes for each connection", Log: true, Format: report.Bytes},
		Series: r.series(func(s Server, size Size) Range { return size.User }),
	}
}

// KernelChart is bytes of the kernel for each connection, the server's end.
func (r *Report) KernelChart() report.Lines {
	return report.Lines{
		Title:   "Memory of the kernel for the server's end of each connection",
		Caption: "An estimate, from the memory of the whole machine.",
		X:       conns, Y: report.Axis{Label: "bytes for each connection", Log: true, Format: report.Bytes},
		Series: r.series(func(s Server, size Size) Range { return size.End }),
	}
}

// ThreadsChart is threads against connections.
func (r *Report) ThreadsChart() report.Lines {
	return report.Lines{
		Title: "Threads", Caption: "With a thread for each, threaded ends where threads do.",
		X: conns, Y: report.Axis{Label: "threads", Log: true},
		Series: r.series(func(s Server, size Size) Range { return Range{Median: float64(size.Threads)} }),
	}
}

// series is a line for each server, of a number for each size.
func (r *Report) series(of func(Server, Size) Range) []report.Series {
	var all []report.Series
	for _, s := range r.Servers {
		one := report.Series{Name: s.Name}
		for _, size := range s.Size {
			v := of(s, size)
			if v == (Range{}) || s.Queues && v.Median < 1 { // not measured; or nothing, and no place for it
				continue
			}
			point := report.Point{X: float64(size.Connected), Y: v.Median}
			if v.Min > 0 && v.Max > v.Min {
				point.Low, point.High = v.Min, v.Max
			}
			one.Points = append(one.Points, point)
		}
		if len(one.Points) > 0 {
			all = append(all, one)
		}
	}
	return all
}

// PartsChart is what the kernel's memory consists of, with the largest crowd of each
// server.
func (r *Report) PartsChart() report.Bars {
	bars := report.Bars{
		Title: "What the kernel needs it for, both ends",
		Caption: "With the largest crowd of each server. Objects are sockets, their files and inodes," +
			" threads, entries of epoll. Buffers are empty, because no client has sent anything.",
		Unit: "bytes for each connection", Format: report.Bytes,
	}
	for _, s := range r.Servers {
		for i := len(s.Size) - 1; i >= 0; i-- {
			size := s.Size[i]
			if size.Both == (Range{}) {
				continue
			}
			bars.Bars = append(bars.Bars, report.Bar{
				Name: s.Name, Note: fmt.Sprintf("%d connections", size.Connected),
				Parts: []report.Part{
					{Name: "objects (slab)", Value: max(0, size.Parts.Slab)},
					{Name: "kernel stacks", Value: max(0, size.Parts.Stacks)},
					{Name: "page tables", Value: max(0, size.Parts.Tables)},
					{Name: "buffers", Value: max(0, size.Parts.Buffers)},
				},
			})
			break
		}
	}
	return bars
}

// ProjectionChart is user and kernel together, measured and projected.
func (r *Report) ProjectionChart() report.Lines {
	l := report.Lines{
		Title: "All of a crowd, measured and projected",
		Caption: "Memory of the process and of the kernel, the server's end. Hollow points are" +
			" computed from the fitted lines, and not measured." + r.impossible(),
		X: conns, Y: report.Axis{Label: "bytes", Log: true, Format: report.Bytes},
	}
	for _, s := range r.Servers {
		if len(s.Projections) == 0 {
			continue
		}
		one := report.Series{Name: s.Name}
		for _, size := range s.Size {
			if size.Both != (Range{}) {
				n := float64(size.Weighed())
				one.Points = append(one.Points, report.Point{X: n, Y: n * (size.User.Median + size.End.Median)})
			}
		}
		for _, p := range s.Projections {
			one.Points = append(one.Points, report.Point{
				X: float64(p.Conns), Y: p.User + p.Kernel, Projected: true,
			})
		}
		l.Series = append(l.Series, one)
	}
	return l
}

// impossible names the servers that cannot have the crowds projected for them.
func (r *Report) impossible() string {
	var names []string
	for _, s := range r.Servers {
		if n := len(s.Projections); n > 0 && s.Projections[n-1].Not != "" {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " These cannot be had: of " + strings.Join(names, ", ") + "."
}
