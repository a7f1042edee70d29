package report

import (
	"cmp"
	"fmt"
	"slices"
)

// sum returns the number of the bar, and false if it has none.
func (b Bar) sum() (float64, bool) {
	sum := b.Value
	if sum == 0 {
		for _, part := range b.Parts {
			if usable(part.Value) {
				sum += part.Value
			}
		}
	}
	return sum, usable(sum)
}

// parts returns the names of all parts, in the order in which they first come.
func (b Bars) parts() []string {
	var names []string
	for _, bar := range b.Bars {
		for _, part := range bar.Parts {
			if !slices.Contains(names, part.Name) {
				names = append(names, part.Name)
			}
		}
	}
	return names
}

// SVG draws the bars.
func (b Bars) SVG() []byte { return b.draw("bars") }

func (b Bars) titles() (title, caption string) { return b.Title, b.Caption }

func (b Bars) draw(id string) []byte {
	p := newPicture(id, b.Title)
	format := orShort(b.Format)
	values := []float64{0}
	names, numbers := 0.0, 0.0 // the widest of each
	for _, bar := range b.Bars {
		v, ok := bar.sum()
		if !ok {
			continue
		}
		values = append(values, max(0, v), partsEnd(bar))
		if spread(bar.Low, bar.High) {
			values = append(values, max(0, bar.High))
		}
		names = max(names, normal.measure(Printable(bar.Name)))
		numbers = max(numbers, normal.measure(Printable(format(v)))+noteRoom(bar.Note))
	}
	if len(values) == 1 {
		p.nothing()
		return p.done(b.Title, sentences(b.Caption, "No data", omission(b.omitted())))
	}
	p.legend(b.keys())

	names = min(names, 230)
	x := newScale(Axis{}, values, false) // from 0, which is one of them
	x.a, x.b = margin+names+10, width-margin-min(numbers, 260)-14
	const row = 30.0
	top := p.y + 2
	bottom := top + row*float64(b.shown())
	p.across(x, format, top, bottom)
	p.line("axis", x.a, top, x.a, bottom)
	for _, bar := range b.Bars {
		if v, ok := bar.sum(); ok {
			b.row(p, x, bar, v, format, top, names)
			top += row
		}
	}
	p.y = bottom + 20
	if b.Unit != "" {
		p.text(x.a, p.y+12, quiet, "", prose(b.Unit), width-margin-x.a)
		p.y += 18
	}
	return p.done(b.Title, sentences(b.Caption, b.describe(format), omission(b.omitted())))
}

// partsEnd returns how far the parts reach.
func partsEnd(bar Bar) float64 {
	sum := 0.0
	for _, part := range bar.Parts {
		if usable(part.Value) {
			sum += max(0, part.Value)
		}
	}
	return sum
}

// noteRoom returns the room that a note takes behind a number, within reason.
func noteRoom(note string) float64 {
	if note == "" {
		return 0
	}
	return min(160, 8+small.measure(prose(note)))
}

func (b Bars) keys() []key {
	var keys []key
	for i, name := range b.parts() {
		keys = append(keys, key{name, i, Pattern(i % 4)})
	}
	return keys
}

// row draws one bar: its name, its parts, its spread, its number, its note.
func (b Bars) row(p *picture, x scale, bar Bar, v float64, format func(float64) string,
	top, names float64) {
	const above, thick = 6.0, 18.0
	middle := top + above + thick/2
	p.text(x.a-10, middle+4.5, normal, "end", Printable(bar.Name), names)
	number := prose(format(v))
	p.begin(Printable(bar.Name) + ": " + number)
	end := x.at(max(0, v))
	if len(bar.Parts) == 0 {
		p.box(x.a, top+above, end-x.a, thick, 0, Solid)
	} else {
		end = max(end, b.stack(p, x, bar, format, top+above, thick))
	}
	if spread(bar.Low, bar.High) {
		low, high := x.at(bar.Low), x.at(bar.High)
		for _, class := range []string{"halo", "spread"} { // the halo parts it from the bar
			p.path(class, low, middle, high, middle,
				low, middle-5, low, middle+5, high, middle-5, high, middle+5)
		}
		end = max(end, high)
	}
	p.end()
	p.text(end+8, middle+4.5, normal, "", number, width-margin-end-8)
	after := end + 16 + normal.measure(normal.clip(number, width-margin-end-8))
	if bar.Note != "" && after < width-margin-20 {
		p.text(after, middle+4.5, small, "", prose(bar.Note), width-margin-after)
	}
}

// stack draws the parts of a bar and returns where the last one ends.
func (b Bars) stack(p *picture, x scale, bar Bar, format func(float64) string,
	top, thick float64) float64 {
	names, sum, at := b.parts(), 0.0, x.a
	for _, part := range bar.Parts {
		if !usable(part.Value) || part.Value <= 0 {
			continue
		}
		sum += part.Value
		i := slices.Index(names, part.Name)
		p.begin(fmt.Sprintf("%s, %s: %s", Printable(bar.Name), Printable(part.Name),
			prose(format(part.Value))))
		p.box(at, top, x.at(sum)-at, thick, i, Pattern(i%4))
		p.end()
		at = x.at(sum)
	}
	return at
}

// shown counts the bars that have a number.
func (b Bars) shown() int {
	n := 0
	for _, bar := range b.Bars {
		if _, ok := bar.sum(); ok {
			n++
		}
	}
	return n
}

// describe returns the picture in words.
func (b Bars) describe(format func(float64) string) string {
	var out string
	for _, bar := range b.Bars {
		if v, ok := bar.sum(); ok {
			if out != "" {
				out += ", "
			}
			out += bar.Name + " " + format(v)
		}
	}
	if b.Unit != "" {
		return b.Unit + ": " + out
	}
	return out
}

// omitted counts the numbers that the picture does not show.
func (b Bars) omitted() int {
	n := 0
	for _, bar := range b.Bars {
		if _, ok := bar.sum(); !ok {
			n++
		}
		for _, part := range bar.Parts {
			if !usable(part.Value) || part.Value < 0 {
				n++
			}
		}
		n += lost(bar.Low, bar.High)
	}
	return n
}

// Table returns the numbers: a row for each bar.
func (b Bars) Table() *Table {
	names := b.parts()
	t := &Table{Left: 1, Head: slices.Concat(
		[]string{"name", cmp.Or(b.Unit, "value")}, names, []string{"low", "high", "note"})}
	for _, bar := range b.Bars {
		v, ok := bar.sum()
		if !ok {
			continue
		}
		row := make([]string, len(t.Head))
		row[0], row[1], row[len(row)-1] = bar.Name, exact(v), bar.Note
		for _, part := range bar.Parts {
			row[2+slices.Index(names, part.Name)] = exact(part.Value)
		}
		if spread(bar.Low, bar.High) {
			row[len(row)-3], row[len(row)-2] = exact(bar.Low), exact(bar.High)
		}
		t.Rows = append(t.Rows, row)
	}
	return t.withoutEmpty()
}
