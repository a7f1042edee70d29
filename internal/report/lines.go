package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// scales returns the two axes over the data, without a place yet.
func (l Lines) scales() (x, y scale) {
	var xs, ys []float64
	for _, s := range l.Series {
		for _, point := range s.Points {
			if !(scale{log: l.X.Log}).takes(point.X) || !(scale{log: l.Y.Log}).takes(point.Y) {
				continue
			}
			xs, ys = append(xs, point.X), append(ys, point.Y)
			if spread(point.Low, point.High) {
				ys = append(ys, point.Low, point.High)
			}
		}
	}
	return newScale(l.X, xs, false), newScale(l.Y, ys, true)
}

// SVG draws the lines.
func (l Lines) SVG() []byte { return l.draw("lines") }

func (l Lines) titles() (title, caption string) { return l.Title, l.Caption }

func (l Lines) draw(id string) []byte {
	p := newPicture(id, l.Title)
	x, y := l.scales()
	ends := l.ends(x, y)
	if len(ends) == 0 {
		p.nothing()
		return p.done(l.Title, sentences(l.Caption, "No data", omission(l.omitted())))
	}
	if l.Y.Label != "" {
		p.text(margin, p.y+13, quiet, "", prose(l.Y.Label), width-2*margin)
		p.y += 18
	}
	names := 0.0
	for _, e := range ends {
		names = max(names, min(quiet.measure(Printable(l.Series[e.series].Name)), 200))
	}
	y.b = p.y + 10
	y.a = y.b + max(330, lineHeight*float64(len(ends)))
	x.b = width - margin - names - swatch
	l.axes(p, &x, y)
	for i := range l.Series {
		l.spreads(p, x, y, i)
	}
	for i := range l.Series {
		l.join(p, x, y, i)
	}
	for i := range l.Series {
		l.marks(p, x, y, i)
	}
	l.names(p, x, y, l.ends(x, y), names)
	if l.projected() {
		p.text(x.a, p.y+14, quiet, "", "hollow: projected, not measured", width-margin-x.a)
		p.y += 20
	}
	return p.done(l.Title, sentences(l.Caption, l.describe(), omission(l.omitted())))
}

// lineHeight is that of the names beside the lines, swatch the room for the
// piece of line before each.
const lineHeight, swatch = 18.0, 40.0

// axes draws both, and lets x begin where there is room for the labels of y.
func (l Lines) axes(p *picture, x *scale, y scale) {
	spaced := func(a, b tick) bool { return a.at-b.at >= 26 }
	ticks, labels := y.ticks(l.Y.Format, spaced), 0.0
	for _, t := range ticks {
		labels = max(labels, small.measure(small.clip(t.label, longest)))
	}
	x.a = margin + labels + 8
	for _, t := range ticks {
		p.line("grid", x.a, t.at, x.b, t.at)
		p.text(x.a-8, t.at+4, small, "end", t.label, longest)
	}
	p.across(*x, l.X.Format, y.b, y.a)
	p.line("axis", x.a, y.a, x.b, y.a)
	p.y = y.a + 20
	if l.X.Label != "" {
		label := prose(l.X.Label)
		long := quiet.measure(quiet.clip(label, width-2*margin))
		p.text(centred((x.a+x.b)/2, long), p.y+14, quiet, "middle", label, width-2*margin)
		p.y += 20
	}
}

// An end is the last point of a series, beside which its name is written.
type end struct {
	series int
	x, y   float64 // of its last point
	label  float64 // of its name
}

// ends returns an end for each series that has a point to draw.
func (l Lines) ends(x, y scale) []end {
	var ends []end
	for i, s := range l.Series {
		for n := len(s.Points) - 1; n >= 0; n-- {
			if last := s.Points[n]; x.holds(last.X) && y.holds(last.Y) {
				ends = append(ends, end{i, x.at(last.X), y.at(last.Y), y.at(last.Y)})
				break
			}
		}
	}
	return ends
}

// colour of the series: its own, or that of the one it fits.
func (l Lines) colour(series int) int {
	if of := l.Series[series].Of; of != "" {
		at := slices.IndexFunc(l.Series, func(s Series) bool { return s.Name == of })
		if at >= 0 {
			return at % colours
		}
	}
	return series % colours
}

// dashes tell apart what has no markers.
var dashes = []string{"6 4", "2 3", "9 3 2 3", "12 4"}

// stroke draws the path d as the series is drawn.
func (l Lines) stroke(p *picture, series int, d string, dashed bool) {
	extra := ""
	if dashed {
		extra = ` stroke-dasharray="` + dashes[series%len(dashes)] + `"`
	}
	p.put(`<path class="l%s" fill="none" stroke-width="2" stroke-linejoin="round"`+extra+
		` d="%s"/>`, strconv.Itoa(l.colour(series)), d)
}

// join draws the line of a series: in pieces, since a point that is left out
// breaks it, and one that is projected has a dashed line before it.
func (l Lines) join(p *picture, x, y scale, series int) {
	s := l.Series[series]
	var d strings.Builder
	var last string // the place of the point before, "" for none
	dashed := false
	flush := func() {
		if strings.Contains(d.String(), "L") {
			l.stroke(p, series, d.String(), dashed)
		}
		d.Reset()
	}
	for _, point := range s.Points {
		if !x.holds(point.X) || !y.holds(point.Y) {
			flush()
			last = ""
			continue
		}
		if now := s.Dashed || point.Projected; now != dashed {
			flush()
			dashed = now
		}
		here := number(x.at(point.X)) + " " + number(y.at(point.Y))
		switch {
		case d.Len() > 0:
			d.WriteString("L" + here)
		case last != "":
			d.WriteString("M" + last + "L" + here)
		default:
			d.WriteString("M" + here)
		}
		last = here
	}
	flush()
}

// spreads draws a thin upright through each point that has a spread.
func (l Lines) spreads(p *picture, x, y scale, series int) {
	for _, point := range l.Series[series].Points {
		if !x.holds(point.X) || !y.holds(point.Y) || !spread(point.Low, point.High) {
			continue
		}
		at, low, high := x.at(point.X), y.at(point.Low), y.at(point.High)
		p.path(fmt.Sprintf("l%d", l.colour(series)),
			at, low, at, high, at-3, low, at+3, low, at-3, high, at+3, high)
	}
}

// marks draws the markers of a series.
func (l Lines) marks(p *picture, x, y scale, series int) {
	s := l.Series[series]
	lastX, lastY := -width, -width
	for _, point := range s.Points {
		if !x.holds(point.X) || !y.holds(point.Y) {
			continue
		}
		atX, atY := x.at(point.X), y.at(point.Y)
		if math.Hypot(atX-lastX, atY-lastY) < 10 {
			continue // it would hide the one before
		}
		lastX, lastY = atX, atY
		p.begin(fmt.Sprintf("%s: %s, %s", Printable(s.Name), l.X.format(point.X),
			l.Y.format(point.Y)))
		p.mark(series, l.colour(series), atX, atY, point.Projected)
		p.end()
	}
}

// format writes a number of the axis.
func (a Axis) format(v float64) string { return prose(orShort(a.Format)(v)) }

// shapes of the markers, as corners. The first is a circle.
var shapes = [colours][]float64{
	nil,
	{-1, -1, 1, -1, 1, 1, -1, 1},
	{0, -1.25, 1.2, 0.9, -1.2, 0.9},
	{0, -1.4, 1.4, 0, 0, 1.4, -1.4, 0},
	{0, 1.25, 1.2, -0.9, -1.2, -0.9},
	{-0.4, -1.3, 0.4, -1.3, 0.4, -0.4, 1.3, -0.4, 1.3, 0.4, 0.4, 0.4,
		0.4, 1.3, -0.4, 1.3, -0.4, 0.4, -1.3, 0.4, -1.3, -0.4, -0.4, -0.4},
	{-1.2, -1.2, 1.2, 1.2, 1.2, -1.2, -1.2, 1.2},
	{-1.2, -1.2, 1.2, -1.2, -1.2, 1.2, 1.2, 1.2},
}

// mark draws the marker of a series: its shape is the series, whatever the colour.
func (p *picture) mark(series, colour int, x, y float64, hollow bool) {
	const size = 4.0
	class := fmt.Sprintf(`class="f%d halo mark"`, colour)
	if hollow {
		class = fmt.Sprintf(`class="paper l%d"`, colour)
	}
	corners := shapes[(series+series/colours)%colours] // a second round pairs them otherwise
	if corners == nil {
		p.put(`<circle `+class+` cx="%s" cy="%s" r="%s"/>`, x, y, size)
		return
	}
	placed := slices.Clone(corners)
	for i := 0; i < len(placed); i += 2 {
		placed[i], placed[i+1] = x+size*placed[i], y+size*placed[i+1]
	}
	p.put(`<path `+class+` d="%s"/>`, "M"+points(placed)+"Z")
}

// names writes the name of each series beside its end, apart from each other.
func (l Lines) names(p *picture, x, y scale, ends []end, room float64) {
	slices.SortStableFunc(ends, func(a, b end) int { return cmp.Compare(a.y, b.y) })
	for i := 1; i < len(ends); i++ {
		ends[i].label = max(ends[i].label, ends[i-1].label+lineHeight)
	}
	lowest := y.a
	for i := len(ends) - 1; i >= 0; i-- {
		ends[i].label = min(ends[i].label, lowest)
		lowest = ends[i].label - lineHeight
	}
	for _, e := range ends {
		s, from := l.Series[e.series], x.b+10
		if e.x > x.b-1 && e.label != e.y {
			p.line("grid", x.b+5, e.y, from, e.label)
		}
		d := fmt.Sprintf("M%s %sL%s %s", number(from), number(e.label),
			number(from+22), number(e.label))
		l.stroke(p, e.series, d, s.Dashed)
		p.mark(e.series, l.colour(e.series), from+11, e.label, false)
		p.textAs(fmt.Sprintf("q f%d", l.colour(e.series)), from+28, e.label+4, quiet, "",
			Printable(s.Name), room)
	}
}

// projected reports whether any point is projected.
func (l Lines) projected() bool {
	return slices.ContainsFunc(l.Series, func(s Series) bool {
		return slices.ContainsFunc(s.Points, func(p Point) bool { return p.Projected })
	})
}

// describe returns the picture in words.
func (l Lines) describe() string {
	var names []string
	for _, s := range l.Series {
		names = append(names, s.Name)
	}
	axis := func(a Axis) string {
		if a.Log {
			return a.Label + " (logarithmic)"
		}
		return a.Label
	}
	return fmt.Sprintf("Lines: %s. Across: %s. Up: %s",
		strings.Join(names, ", "), axis(l.X), axis(l.Y))
}

// omitted counts the points and spreads that the picture does not show.
func (l Lines) omitted() int {
	x, y := l.scales()
	n := 0
	for _, s := range l.Series {
		for _, point := range s.Points {
			if !x.holds(point.X) || !y.holds(point.Y) {
				n++
			} else {
				n += lost(point.Low, point.High)
			}
		}
	}
	return n
}

// Table returns the numbers: a row for each point that is a pair of numbers.
func (l Lines) Table() *Table {
	t := &Table{Left: 1, Head: []string{
		"series", cmp.Or(l.X.Label, "x"), cmp.Or(l.Y.Label, "y"), "low", "high", "note"}}
	for _, s := range l.Series {
		for _, point := range s.Points {
			if !usable(point.X) || !usable(point.Y) {
				continue
			}
			row := []string{s.Name, exact(point.X), exact(point.Y), "", "", ""}
			if spread(point.Low, point.High) {
				row[3], row[4] = exact(point.Low), exact(point.High)
			}
			if point.Projected {
				row[5] = "projected"
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t.withoutEmpty()
}
