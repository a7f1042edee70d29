//go:build linux

package bench

import (
	"fmt"
	"slices"
	"strings"

	"lesson/internal/report"
)

// Figures is what pages quote of a report, by name: Markdown, and charts.
func (r *Report) Figures() (texts map[string]string, charts map[string]report.Chart) {
	usual := r.usual()
	texts = map[string]string{
		"conditions": strings.Join(r.conditions(), "; ") + ".\n",
		"cost":       r.costTable(usual).Markdown(),
		"speed":      r.speedTable(usual, true).Markdown(),
		"calls":      r.callsTable(r.conns()[0]).Markdown(),
		"memory":     r.memoryTable().Markdown(),
		"cpu": r.bySize("CPU µs of a request", func(_ *Server, s *Size) string {
			return decimal(s.CPU.Median, 1)
		}).Markdown(),
		"ratio": r.bySize("CPU time of a request, "+r.Servers[0].Name+" = 1", func(server *Server, s *Size) string {
			return r.ratio(server, s.CPURatio)
		}).Markdown(),
		"rate": r.bySize("requests per second", func(_ *Server, s *Size) string {
			return s.perSecond() + ", client " + percent(s.Busy)
		}).Markdown(),
		"steadiness": r.steadiness().Markdown(),
		"notes":      paragraphs(r.Notes()),
	}
	if r.Rate > 0 {
		texts["since"] = r.sinceTable(usual).Markdown()
		return texts, map[string]report.Chart{"latency": r.latencyChart(usual)}
	}
	charts = map[string]report.Chart{"cpu": r.costChart(usual)}
	if len(r.conns()) > 1 {
		charts["cpu-by-size"], charts["rate-by-size"] = r.cpuLines(), r.speedLines()
	}
	return texts, charts
}

// usual is the size that a page quotes when it quotes one.
func (r *Report) usual() int {
	const usual = 64
	all := r.conns()
	if slices.Contains(all, usual) {
		return usual
	}
	return all[len(all)-1]
}

// bySize is a table with a column for each size.
func (r *Report) bySize(head string, figure func(*Server, *Size) string) *report.Table {
	t := &report.Table{Left: 1, Head: []string{head}}
	for _, conns := range r.conns() {
		t.Head = append(t.Head, fmt.Sprintf("%d at a time", conns))
	}
	for i := range r.Servers {
		row := []string{r.Servers[i].Name}
		for _, conns := range r.conns() {
			s := r.Servers[i].at(conns)
			if s == nil || s.served() == 0 {
				row = append(row, nothing)
				continue
			}
			row = append(row, figure(&r.Servers[i], s))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// steadiness is how far the rounds lie apart: the distance of the quartiles in
// hundredths of the median, over all sizes the middle one.
func (r *Report) steadiness() *report.Table {
	t := &report.Table{Left: 1, Head: []string{"quartile distance ÷ median",
		"requests/s", "CPU time", "CPU time " + r.by()}}
	for i := range r.Servers {
		var rates, cpus, ratios []float64
		apart := func(s Spread) float64 { return (s.High - s.Low) / s.Median }
		for j := range r.Servers[i].Sizes {
			s := &r.Servers[i].Sizes[j]
			if s.served() == 0 {
				continue
			}
			rates, cpus = append(rates, apart(s.PerSecond)), append(cpus, apart(s.CPU))
			if s.CPURatio != nil {
				ratios = append(ratios, apart(*s.CPURatio))
			}
		}
		row := []string{r.Servers[i].Name, percent(spread(rates).Median), percent(spread(cpus).Median), nothing}
		if len(ratios) > 0 {
			row[3] = percent(spread(ratios).Median)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

func paragraphs(notes []string) string {
	var out strings.Builder
	for _, note := range notes {
		out.WriteString("- " + note + "\n")
	}
	return out.String()
}
