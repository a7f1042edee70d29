//go:build linux

package bench

import (
	"fmt"
	"io"
	"strings"

	"lesson/internal/report"
)

// Page writes the report as one page of HTML. The command is the one that measured
// it, for the reader who wants to measure again.
func (r *Report) Page(w io.Writer, command string) error {
	page := report.Page{
		Title: "What a request costs",
		Lead: "The same request, each on a connection of its own, for one server after the other, round by round." +
			" The CPU time of a request is the figure to trust; requests per second are valid only where the client" +
			" was not saturated.",
		Foot: append(r.conditions(), command),
	}
	page.Sections = append(page.Sections, report.Section{
		Title: "All sizes", Text: r.Notes(), Charts: r.overview(), Table: r.memoryTable(),
	})
	for _, conns := range r.conns() {
		section := report.Section{Title: connections(conns) + " at a time", Table: r.costTable(conns)}
		section.Charts = append(section.Charts, r.costChart(conns))
		page.Sections = append(page.Sections, section,
			report.Section{Title: fmt.Sprintf("Speed, %s at a time", connections(conns)),
				Table: r.speedTable(conns, true), Charts: []report.Chart{r.latencyChart(conns)}})
		if r.Rate > 0 {
			page.Sections = append(page.Sections, report.Section{
				Title: fmt.Sprintf("Due and sent, %s at a time", connections(conns)), Table: r.sinceTable(conns)})
		}
		if len(r.callsTable(conns).Rows) > 1 {
			page.Sections = append(page.Sections, report.Section{
				Title: fmt.Sprintf("System calls of a request, %s at a time", connections(conns)),
				Table: r.callsTable(conns)})
		}
	}
	return page.Write(w)
}

// overview is what depends on the number of connections.
func (r *Report) overview() []report.Chart {
	if len(r.conns()) < 2 {
		return nil
	}
	return []report.Chart{r.cpuLines(), r.speedLines()}
}

// lines is a figure of every server over the number of connections.
func (r *Report) lines(figure func(s *Size) Spread) []report.Series {
	var all []report.Series
	for i := range r.Servers {
		series := report.Series{Name: r.Servers[i].Name}
		for j := range r.Servers[i].Sizes {
			s := &r.Servers[i].Sizes[j]
			if s.served() == 0 {
				continue
			}
			v := figure(s)
			series.Points = append(series.Points, report.Point{
				X: float64(s.Conns), Y: v.Median, Low: v.Low, High: v.High})
		}
		all = append(all, series)
	}
	return all
}

var connsAxis = report.Axis{Label: "connections at a time", Log: true}

func (r *Report) cpuLines() report.Chart {
	return report.Lines{
		Title:   "CPU time of a request",
		Caption: "CPU time of the server, by the kernel's clock of its process. Medians of the rounds, with quartiles.",
		X:       connsAxis, Y: report.Axis{Label: "µs of CPU time for a request"},
		Series: r.lines(func(s *Size) Spread { return s.CPU }),
	}
}

func (r *Report) speedLines() report.Chart {
	caption := "Medians of the rounds, with quartiles."
	if len(r.saturation()) > 0 {
		caption += " Where the client was saturated (see the tables), this is the client's figure."
	}
	return report.Lines{
		Title: "Requests per second", Caption: caption,
		X: connsAxis, Y: report.Axis{Label: "requests per second"},
		Series: r.lines(func(s *Size) Spread { return s.PerSecond }),
	}
}

// costChart is CPU time, parted.
func (r *Report) costChart(conns int) report.Chart {
	bars := report.Bars{
		Title: fmt.Sprintf("CPU time of a request, %s at a time", connections(conns)),
		Unit:  "µs",
		Caption: "User is the program itself, system the kernel on its behalf. Medians of the rounds," +
			" with quartiles; the number behind is the ratio to " + r.Servers[0].Name + ".",
	}
	r.each(conns, func(server *Server, s *Size) {
		if s.served() == 0 {
			return
		}
		bar := report.Bar{Name: server.Name, Value: s.CPU.Median, Low: s.CPU.Low, High: s.CPU.High,
			Parts: []report.Part{{Name: "user", Value: s.User}, {Name: "system", Value: s.System}}}
		if s.CPURatio != nil {
			bar.Note = "× " + decimal(s.CPURatio.Median, 2)
		}
		bars.Bars = append(bars.Bars, bar)
	})
	return bars
}

// latencyChart is how many requests took how long: the tail that a mean hides.
func (r *Report) latencyChart(conns int) report.Chart {
	lines := report.Lines{
		Title:   fmt.Sprintf("Latency, %s at a time", connections(conns)),
		Caption: "The share of requests that took no longer than this. Each step to the right is a tenth of the rest.",
		X: report.Axis{Label: "requests", Log: true, From: 1, To: 1000, Format: func(v float64) string {
			return strings.TrimSuffix(fmt.Sprintf("%.4g", 100-100/v), ".0") + " %"
		}},
		Y: report.Axis{Label: "latency", Log: true, Format: func(v float64) string { return report.Seconds(v * 1e-6) }},
	}
	r.each(conns, func(server *Server, s *Size) {
		if s.served() == 0 {
			return
		}
		series := func(name string, l Latency) report.Series {
			return report.Series{Name: name, Points: []report.Point{
				{X: 2, Y: l.P50}, {X: 10, Y: l.P90}, {X: 100, Y: l.P99}, {X: 1000, Y: l.P999}}}
		}
		lines.Series = append(lines.Series, series(server.Name, s.Latency))
		if s.SinceSent != nil {
			sent := series(server.Name+", since sent", *s.SinceSent)
			sent.Dashed, sent.Of = true, server.Name
			lines.Series = append(lines.Series, sent)
		}
	})
	return lines
}
