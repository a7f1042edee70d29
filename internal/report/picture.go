package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// width of every picture, in CSS pixels at full size.
const width = 760.0

// margin is what stays free along each side.
const margin = 16.0

// A font is a class of the style sheet and what it says.
type font struct {
	class string
	size  float64
}

var (
	heading = font{"h", 16}
	normal  = font{"", 13}
	strong  = font{"b", 13}
	quiet   = font{"q", 12}
	small   = font{"s", 11}
)

// measure returns how wide s is at the most, in the widest of the usual fonts.
func (f font) measure(s string) float64 {
	sum := 0.0
	for _, r := range s {
		switch {
		case r >= 0x1100 && r != unicode.ReplacementChar:
			sum += 1.1
		case strings.ContainsRune("mwMW@%—…\ufffd", r):
			sum += 1
		case strings.ContainsRune(" .,:;'|!()[]/ijltfrI-", r):
			sum += 0.43
		case unicode.IsUpper(r):
			sum += 0.76
		default:
			sum += 0.64
		}
	}
	if f == heading || f == strong {
		sum *= 1.1
	}
	return sum * f.size
}

// clip returns s, or as much of its beginning as fits, and "…".
func (f font) clip(s string, room float64) string {
	if f.measure(s) <= room {
		return s
	}
	runes := []rune(s)
	for n := len(runes) - 1; n > 0; n-- {
		if short := strings.TrimRight(string(runes[:n]), " ") + "…"; f.measure(short) <= room {
			return short
		}
	}
	return "…"
}

// wrap returns s in lines of at most the room; a last one that has to take more
// than fits is clipped when it is drawn.
func (f font) wrap(s string, room float64, most int) []string {
	var lines []string
	for _, word := range strings.Fields(s) {
		n := len(lines) - 1
		if n >= 0 && (n == most-1 || f.measure(lines[n]+" "+word) <= room) {
			lines[n] += " " + word
			continue
		}
		lines = append(lines, word)
	}
	return lines
}

// A picture is an SVG while it is drawn. Coordinates are CSS pixels.
type picture struct {
	id   string
	y    float64 // down to where it is drawn
	defs []string
	body strings.Builder
}

// number writes a coordinate. At most two decimals: they are a hundredth of a
// pixel.
func number(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100+0, 'f', -1, 64) // -0 + 0 is 0
}

// newPicture begins with the title.
func newPicture(id, title string) *picture {
	p := &picture{id: id, y: margin}
	for _, line := range heading.wrap(Printable(title), width-2*margin, 3) {
		p.text(margin, p.y+heading.size*0.85, heading, "", line, width-2*margin)
		p.y += 21
	}
	return p
}

// put writes an element. Each value is a coordinate or an attribute's value.
func (p *picture) put(format string, values ...any) {
	for i, v := range values {
		switch v := v.(type) {
		case float64:
			values[i] = number(v)
		case string:
			values[i] = html.EscapeString(v)
		}
	}
	fmt.Fprintf(&p.body, format+"\n", values...)
}

// text writes s with its baseline at y. The anchor is "", "middle" or "end".
func (p *picture) text(x, y float64, f font, anchor, s string, room float64) {
	p.textAs(f.class, x, y, f, anchor, s, room)
}

// textAs does what text does, with classes of its own.
func (p *picture) textAs(class string, x, y float64, f font, anchor, s string, room float64) {
	shown, whole := f.clip(s, room), ""
	if shown != s {
		whole = "<title>" + html.EscapeString(s) + "</title>"
	}
	if anchor != "" {
		class += " " + anchor
	}
	p.put(`<text class="%s" x="%s" y="%s">`+strings.ReplaceAll(whole, "%", "%%")+`%s</text>`,
		strings.TrimSpace(class), x, y, shown)
}

// begin opens a group that a pointer resting on it explains.
func (p *picture) begin(title string) { p.put("<g><title>%s</title>", title) }
func (p *picture) end()               { p.put("</g>") }

func (p *picture) line(class string, x1, y1, x2, y2 float64) {
	p.put(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, x1, y1, x2, y2)
}

// path draws lines, each given by its four coordinates.
func (p *picture) path(class string, coordinates ...float64) {
	d := ""
	for i := 0; i < len(coordinates); i += 4 {
		d += "M" + points(coordinates[i:i+4])
	}
	p.put(`<path class="%s" fill="none" d="%s"/>`, class, d)
}

// points joins corners, two coordinates each, by lines.
func points(coordinates []float64) string {
	var corners []string
	for i := 0; i < len(coordinates); i += 2 {
		corners = append(corners, number(coordinates[i])+" "+number(coordinates[i+1]))
	}
	return strings.Join(corners, "L")
}

// box draws a rectangle in one of the colours, filled with a pattern.
func (p *picture) box(x, y, w, h float64, colour int, pattern Pattern) {
	colour %= colours
	if pattern == Solid {
		p.put(`<rect class="f%s" x="%s" y="%s" width="%s" height="%s"/>`,
			strconv.Itoa(colour), x, y, w, h)
		return
	}
	// The stroke lies inside, so that neighbours do not cover it.
	in := min(0.5, w/2, h/2)
	x, y, w, h = x+in, y+in, max(0, w-2*in), max(0, h-2*in)
	p.put(`<rect class="l%s" fill="%s" x="%s" y="%s" width="%s" height="%s"/>`,
		strconv.Itoa(colour), p.fill(colour, pattern), x, y, w, h)
}

// fill defines a pattern, once, and is what refers to it.
func (p *picture) fill(colour int, pattern Pattern) string {
	id := fmt.Sprintf("%s-p%d-%d", p.id, pattern, colour)
	draw := `<rect class="paper" width="6" height="6"/>`
	switch pattern {
	case Hatched:
		draw += fmt.Sprintf(`<path class="l%d" stroke-width="2" stroke-opacity="0.7"`+
			` d="M0 0L0 6"/>`, colour)
	case Dotted:
		draw += fmt.Sprintf(`<circle class="f%d" cx="3" cy="3" r="1.3"/>`, colour)
	}
	def := fmt.Sprintf(`<pattern id="%s" width="6" height="6" patternUnits="userSpaceOnUse"`+
		` patternTransform="rotate(45)">%s</pattern>`, html.EscapeString(id), draw)
	if !slices.Contains(p.defs, def) {
		p.defs = append(p.defs, def)
	}
	return "url(#" + id + ")"
}

// A key is one entry of a legend.
type key struct {
	name    string
	colour  int
	pattern Pattern
}

// legend writes the keys, in as many rows as they need.
func (p *picture) legend(keys []key) {
	const swatch, gap, row = 16.0, 20.0, 20.0
	x := margin
	for i, k := range keys {
		name := quiet.clip(Printable(k.name), width-2*margin-swatch-6)
		if w := swatch + 6 + quiet.measure(name); i > 0 && x+w > width-margin {
			x = margin
			p.y += row
		}
		p.box(x, p.y+4, swatch, 11, k.colour, k.pattern)
		p.text(x+swatch+6, p.y+14, quiet, "", Printable(k.name), width-2*margin-swatch-6)
		x += swatch + 6 + quiet.measure(name) + gap
	}
	if len(keys) > 0 {
		p.y += row + 6
	}
}

// centred returns where the middle of a label must be for it to stay in the picture.
func centred(x, w float64) float64 { return min(max(x, 4+w/2), width-4-w/2) }

// longest a label of an axis may be.
const longest = 90.0

// across writes the ticks of a horizontal axis at y, with lines up to top.
func (p *picture) across(s scale, format func(float64) string, top, y float64) {
	size := func(t tick) float64 { return small.measure(small.clip(t.label, longest)) }
	apart := func(a, b tick) bool {
		left := centred(a.at, size(a)) + size(a)/2
		return centred(b.at, size(b))-size(b)/2-left >= 12
	}
	for _, t := range s.ticks(format, apart) {
		p.line("grid", t.at, top, t.at, y)
		p.text(centred(t.at, size(t)), y+15, small, "middle", t.label, longest)
	}
}

// nothing draws the picture when there is no data.
func (p *picture) nothing() {
	p.text(width/2, p.y+40, quiet, "middle", "no data", width)
	p.y += 70
}

// done returns the whole SVG.
func (p *picture) done(title, desc string) []byte {
	var out strings.Builder
	id, height := html.EscapeString(p.id), number(p.y+margin)
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img"`+
		` aria-labelledby="%s-title %s-desc" width="%s" height="%s" viewBox="0 0 %s %s">`+"\n",
		id, id, number(width), height, number(width), height)
	if title = Printable(title); title == "" {
		title = "Chart"
	}
	fmt.Fprintf(&out, "<title id=\"%s-title\">%s</title>\n<desc id=\"%s-desc\">%s</desc>\n",
		id, html.EscapeString(title), id, html.EscapeString(desc))
	fmt.Fprintf(&out, "<style>\n%s</style>\n", style)
	if len(p.defs) > 0 {
		fmt.Fprintf(&out, "<defs>\n%s\n</defs>\n", strings.Join(p.defs, "\n"))
	}
	fmt.Fprintf(&out, `<rect class="paper" width="%s" height="%s"/>`+"\n", number(width), height)
	out.WriteString(p.body.String())
	out.WriteString("</svg>\n")
	return []byte(out.String())
}
