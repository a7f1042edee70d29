package report

import (
	"fmt"
	"slices"
)

// until returns the end of the time shown, and 0 if there is nothing to show.
func (t Timeline) until() float64 {
	if apart(0, t.Until) && usable(t.Until) {
		return t.Until
	}
	last := 0.0
	t.each(func(_ Group, _ Lane, s Span) {
		if usable(s.From) && usable(s.To) {
			last = max(last, s.To)
		}
	})
	if !apart(0, last) {
		return 0
	}
	return last
}

func (t Timeline) each(visit func(Group, Lane, Span)) {
	for _, group := range t.Groups {
		for _, lane := range group.Lanes {
			for _, span := range lane.Spans {
				visit(group, lane, span)
			}
		}
	}
}

// shows reports whether the span lies, at least in part, in the time shown.
func (s Span) shows(until float64) bool {
	return usable(s.From) && usable(s.To) && s.From <= s.To && s.To >= 0 && s.From <= until
}

// kinds returns the kinds given, and those that a span names besides.
func (t Timeline) kinds() []Kind {
	all := slices.Clone(t.Kinds)
	t.each(func(_ Group, _ Lane, s Span) {
		if !slices.ContainsFunc(all, func(k Kind) bool { return k.Name == s.Kind }) {
			all = append(all, Kind{Name: s.Kind, Pattern: Pattern(len(all) % 4)})
		}
	})
	return all
}

func (k Kind) legend() string {
	if k.Legend != "" {
		return k.Legend
	}
	return k.Name
}

// SVG draws the timeline.
func (t Timeline) SVG() []byte { return t.draw("timeline") }

func (t Timeline) titles() (title, caption string) { return t.Title, t.Caption }

func (t Timeline) draw(id string) []byte {
	p := newPicture(id, t.Title)
	until, names, lanes := t.until(), 0.0, 0.0 // the widest name; the height of all lanes
	for _, group := range t.Groups {
		for _, lane := range group.Lanes {
			names = max(names, min(130, small.measure(Printable(lane.Name))))
			lanes += group.height(lane)
		}
	}
	if lanes == 0 || until == 0 {
		p.nothing()
		return p.done(t.Title, sentences(t.Caption, "No data", omission(t.omitted())))
	}
	kinds := t.kinds()
	var keys []key
	for i, k := range kinds {
		keys = append(keys, key{k.legend(), i, k.Pattern})
	}
	p.legend(keys)

	x := scale{from: 0, to: until, a: margin + names + 10, b: width - margin - 8}
	bottom := p.y + lanes + (header+between)*float64(len(t.Groups))
	unit, format := clock(until)
	p.across(x, format, p.y, bottom)
	for _, group := range t.Groups {
		t.group(p, x, kinds, group)
	}
	p.line("axis", x.a, bottom, x.b, bottom)
	p.text(x.a, bottom+32, quiet, "", unit, 200)
	p.y = bottom + 36
	return p.done(t.Title, sentences(t.Caption, t.describe(until), omission(t.omitted())))
}

// header is the height of a group's name, between what follows its lanes.
const header, between = 24.0, 10.0

// group draws the name of a group and its lanes.
func (t Timeline) group(p *picture, x scale, kinds []Kind, group Group) {
	// The paper behind the header interrupts the grid, which would cross the words.
	p.put(`<rect class="paper" x="%s" y="%s" width="%s" height="%s"/>`,
		margin, p.y, width-2*margin, header)
	name := Printable(group.Name)
	p.text(margin, p.y+16, strong, "", name, 300)
	note := margin + strong.measure(strong.clip(name, 300)) + 10
	p.text(note, p.y+16, quiet, "", prose(group.Note), width-margin-note)
	p.y += header

	named := 0.0 // down to where names stand
	for i, lane := range group.Lanes {
		row := group.height(lane)
		next := group.height(group.Lanes[min(i+1, len(group.Lanes)-1)])
		// Thin lanes have room for every second name, and none beside a tall one.
		if middle := p.y + row/2; middle-small.size/2 >= named && next <= row {
			p.text(x.a-8, middle+4, small, "end", Printable(lane.Name), x.a-8-margin)
			named = middle + small.size/2
		}
		if row == tall {
			p.line("grid", x.a, p.y+row, x.b, p.y+row)
		}
		for _, span := range lane.Spans {
			if span.shows(x.to) {
				t.span(p, x, kinds, group, lane, span)
			}
		}
		p.y += row
	}
	p.y += between
}

// tall and thin are how high a lane can be.
const tall, thin = 16.0, 6.0

// height of the lane, one of the group.
func (g Group) height(lane Lane) float64 {
	if len(g.Lanes) > 24 && !lane.Tall {
		return thin
	}
	return tall
}

// clock returns the unit for the axis of a time of that length, and how to write it.
func clock(until float64) (name string, format func(float64) string) {
	size := 1.0
	name = "seconds"
	switch {
	case until < 2e-3:
		name, size = "microseconds", 1e-6
	case until < 2:
		name, size = "milliseconds", 1e-3
	}
	return name, func(v float64) string { return significant(v/size, 4) }
}

// span draws one span; the shortest is still seen.
func (t Timeline) span(p *picture, x scale, kinds []Kind, group Group, lane Lane, s Span) {
	const shortest = 1.5
	row := group.height(lane)
	above, thick := row/8, row*3/4 // with half of the rest above, half below
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == s.Kind })
	kind := kinds[i]
	from := min(x.at(s.From), x.b-shortest)
	long := max(shortest, x.at(s.To)-from)
	title := fmt.Sprintf("%s, %s: %s, %s to %s", Printable(group.Name), Printable(lane.Name),
		Printable(kind.legend()), Seconds(s.From), Seconds(s.To))
	if s.Label != "" {
		title += ": " + prose(s.Label)
	}
	p.begin(title)
	p.box(from, p.y+above, long, thick, i, kind.Pattern)
	p.end()
	if label := prose(s.Label); label != "" && row == tall && small.measure(label)+8 <= long {
		class := "s on"
		if kind.Pattern != Solid { // a word cannot be read across a hatch
			p.put(`<rect class="paper on" x="%s" y="%s" width="%s" height="%s"/>`,
				from+1, p.y+above+1, small.measure(label)+6, thick-2)
			class = "s over"
		}
		p.textAs(class, from+4, p.y+12, small, "", label, long)
	}
}

// describe returns the picture in words.
func (t Timeline) describe(until float64) string {
	out := fmt.Sprintf("Timeline of %s", Seconds(until))
	for _, group := range t.Groups {
		out += "; " + group.Name
		if group.Note != "" {
			out += " (" + group.Note + ")"
		}
	}
	return out
}

// omitted counts the spans that the picture does not show.
func (t Timeline) omitted() int {
	n, until := 0, t.until()
	t.each(func(_ Group, _ Lane, s Span) {
		if !s.shows(until) {
			n++
		}
	})
	return n
}

// Table returns the numbers: a row for each span.
func (t Timeline) Table() *Table {
	table := &Table{Left: 3, Head: []string{"group", "lane", "what", "from (s)", "to (s)", "label"}}
	kinds := t.kinds()
	t.each(func(group Group, lane Lane, s Span) {
		if !usable(s.From) || !usable(s.To) {
			return
		}
		i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Name == s.Kind })
		table.Rows = append(table.Rows, []string{group.Name, lane.Name, kinds[i].legend(),
			exact(s.From), exact(s.To), s.Label})
	})
	return table.withoutEmpty()
}
