package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const hostile = "</text><script>alert('1')</script>&amp;\"\x00\x1b[31m\n\u202e\xff\uffff %s ]]>" +
	" and so long that it fits nowhere at all, not even across the whole of a picture, at any size"

var (
	nan = math.NaN()
	inf = math.Inf(1)
)

// samples is a chart for each thing that could go wrong.
func samples() map[string]Chart {
	many := Lines{Title: "many series", X: Axis{Label: "n"}, Y: Axis{Label: "m"}}
	for i := range 30 {
		many.Series = append(many.Series, Series{Name: fmt.Sprint("series ", i),
			Points: []Point{{X: 1, Y: 5}, {X: 2, Y: 5 + float64(i%2)/1000}}})
	}
	rows := Bars{Title: "bars", Unit: "requests per second"}
	stacked := Bars{Title: "stacked", Unit: "µs"}
	lanes := Timeline{Title: "race", Caption: "nine clients", Until: 2.4, Kinds: []Kind{
		{"connect", "connecting", Outline}, {"wait", "waiting", Hatched},
		{"served", "", Solid}, {"call", "in a call", Dotted}}}
	for i := range 6 {
		name, v := fmt.Sprint("server ", i), float64(i*i*9999)
		rows.Bars = append(rows.Bars, Bar{Name: name, Value: v, Low: v * 0.9, High: v * 1.2})
		stacked.Bars = append(stacked.Bars, Bar{Name: name, Low: 5, High: 30, Note: "of five runs",
			Parts: []Part{{"user", 10}, {"system", float64(5 + i)}, {"other", 0.001}}})
		group := Group{Name: name, Note: "8 clients waited for one"}
		for c := range 10 {
			at := float64(c) * 0.2
			group.Lanes = append(group.Lanes, Lane{Name: fmt.Sprint("client ", c), Spans: []Span{
				{at, at + 0.001, "connect", ""}, {at + 0.001, at + 0.4, "wait", "half a request"},
				{at + 0.4, at + 0.8, "served", "answered"}, {2.4, 2.4, "call", "at the very end"},
			}})
		}
		lanes.Groups = append(lanes.Groups, group)
	}
	crowd := Timeline{Title: "crowd"}
	for range 2 {
		var group Group
		for c := range 100 {
			group.Lanes = append(group.Lanes, Lane{Name: fmt.Sprint("client ", c), Tall: c%33 == 0,
				Spans: []Span{{float64(c), float64(c) + 9, "served", "one of many"}}})
		}
		crowd.Groups = append(crowd.Groups, group)
	}
	long := func(v float64) string { return fmt.Sprintf("%.30f requests of some kind", v) }
	return map[string]Chart{
		"lines": Lines{Title: "latency", X: Axis{Label: "clients", Log: true},
			Y: Axis{Label: "latency", Log: true, Format: Seconds}, Series: []Series{
				{Name: "epoll", Points: []Point{{X: 1, Y: 2e-5}, {X: 100, Y: 3e-4, Low: 1e-4, High: 9e-4},
					{X: 9000, Y: 0.2, Projected: true}}},
				{Name: "fit", Of: "epoll", Dashed: true,
					Points: []Point{{X: 1, Y: 2e-5}, {X: 10000, Y: 0.3}}}}},
		"hostile lines": Lines{Title: hostile, Caption: hostile,
			X: Axis{Label: hostile, Format: long}, Y: Axis{Label: hostile, Format: long},
			Series: []Series{{Name: hostile, Points: []Point{{X: 1, Y: 1}, {X: 2, Y: 3}}}}},
		"many series": many,
		"no numbers": Lines{Series: []Series{{Points: []Point{{X: nan, Y: 1}, {X: 1, Y: inf},
			{X: -inf, Y: 1}}}}},
		"some numbers": Lines{Series: []Series{{Points: []Point{{X: 1, Y: 1, Low: nan, High: 2},
			{X: 2, Y: nan}, {X: 3, Y: 2, Low: 1, High: inf}, {X: 4, Y: 4}, {X: 5, Y: 1e300}}}}},
		"one point": Lines{Series: []Series{{Points: []Point{{X: 7, Y: 7}}}}},
		"zero":      Lines{Series: []Series{{Points: []Point{{}}}}},
		"zero on log": Lines{X: Axis{Log: true}, Y: Axis{Log: true}, Series: []Series{{Points: []Point{
			{X: 0, Y: 5}, {X: 3, Y: 0}, {X: 3, Y: -1}, {X: 3, Y: 4, Low: 0, High: 5}, {X: 40, Y: 5}}}}},
		"all zero on log": Lines{Y: Axis{Log: true}, Series: []Series{{Points: []Point{{X: 1, Y: 0}}}}},
		"fixed axes": Lines{X: Axis{From: 0, To: 10}, Y: Axis{From: 1, To: 2, Log: true},
			Series: []Series{{Points: []Point{{X: 1, Y: 1.5}, {X: 2, Y: 9}, {X: 20, Y: 1.2},
				{X: 3, Y: 1.7, Low: 0.1, High: 90}}}}},
		"below zero":    Lines{Series: []Series{{Points: []Point{{X: -5, Y: -3}, {X: 5, Y: 4}}}}},
		"close numbers": Lines{Series: []Series{{Points: []Point{{X: 1e16, Y: 1}, {X: 1e16 + 2, Y: 2}}}}},
		"bars":          rows,
		"stacked":       stacked,
		"hostile bars": Bars{Title: hostile, Unit: hostile, Format: long, Bars: []Bar{
			{Name: hostile, Value: 5, Note: hostile, Parts: []Part{{hostile, 5}, {hostile + "2", 1}}},
			{Name: "x", Value: 99, Low: 98, High: 120, Note: hostile}}},
		"odd bars": Bars{Bars: []Bar{{Name: "nan", Value: nan}, {Name: "below", Value: -5},
			{Name: "zero"}, {Name: "part", Parts: []Part{{"a", inf}, {"b", 3}, {"c", -1}}},
			{Name: "spread", Value: 2, Low: 3, High: 1}}},
		"timeline": lanes, "crowd": crowd,
		"hostile timeline": Timeline{Title: hostile, Kinds: []Kind{{hostile, hostile, Hatched}},
			Groups: []Group{{hostile, hostile, []Lane{{Name: hostile, Spans: []Span{
				{0, 1, hostile, hostile}, {0, 1, "another", hostile}}}}}}},
		"odd spans": Timeline{Until: 1, Groups: []Group{{"g", "", []Lane{{Name: "l", Spans: []Span{
			{-1, 0.5, "a", "begins before"}, {0.9, 7, "b", ""}, {2, 3, "a", ""}, {0.5, 0.4, "a", ""},
			{nan, 1, "a", ""}, {0, inf, "a", ""}, {1, 1, "c", ""}}}}}}},
		"no lines": Lines{}, "no bars": Bars{Title: "nothing"}, "no time": Timeline{Until: 3},
	}
}

// An element of a picture, and the group that it is in.
type element struct {
	name  string
	attrs map[string]string
	text  string // its own, not that of elements in it
}

// elements parses an SVG, strictly.
func elements(svg []byte) ([]element, error) {
	decoder := xml.NewDecoder(bytes.NewReader(svg))
	var all []element
	var open []int
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := element{token.Name.Local, map[string]string{}, ""}
			for _, a := range token.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			open = append(open, len(all))
			all = append(all, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				all[open[len(open)-1]].text += string(token)
			}
		}
	}
}

type rectangle struct{ left, top, right, bottom float64 }

func (r rectangle) overlaps(s rectangle) bool {
	return r.left < s.right && s.left < r.right && r.top < s.bottom && s.top < r.bottom
}

// fontOf is the font that the classes of a text choose.
func fontOf(e element) font {
	classes := strings.Fields(e.attrs["class"])
	for _, f := range []font{heading, strong, quiet, small} {
		if slices.Contains(classes, f.class) {
			return f
		}
	}
	return normal
}

var pair = regexp.MustCompile(`[ML](\S+) ([^MLZ]+)`)

// extent is the room that an element takes; false for one that takes none.
func extent(e element) (rectangle, bool, error) {
	var failed error
	number := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			failed = fmt.Errorf("%s: %w", e.name, err)
		}
		return v
	}
	at := func(name string) float64 { return number(e.attrs[name]) }
	var r rectangle
	switch e.name {
	case "rect":
		r = rectangle{at("x"), at("y"), at("x") + at("width"), at("y") + at("height")}
		if at("width") < 0 || at("height") < 0 {
			failed = fmt.Errorf("a rectangle of %v", e.attrs)
		}
	case "circle":
		r = rectangle{at("cx") - at("r"), at("cy") - at("r"), at("cx") + at("r"), at("cy") + at("r")}
	case "line":
		r = rectangle{min(at("x1"), at("x2")), min(at("y1"), at("y2")),
			max(at("x1"), at("x2")), max(at("y1"), at("y2"))}
	case "path":
		r = rectangle{inf, inf, -inf, -inf}
		points := pair.FindAllStringSubmatch(e.attrs["d"], -1)
		for _, p := range points {
			x, y := number(p[1]), number(p[2])
			r = rectangle{min(r.left, x), min(r.top, y), max(r.right, x), max(r.bottom, y)}
		}
		if len(points) < 2 {
			failed = fmt.Errorf("a path of %q", e.attrs["d"])
		}
	case "text":
		f := fontOf(e)
		w, x, y := f.measure(e.text), at("x"), at("y")
		switch {
		case strings.Contains(e.attrs["class"], "middle"):
			x -= w / 2
		case strings.Contains(e.attrs["class"], "end"):
			x -= w
		}
		r = rectangle{x, y - 0.75*f.size, x + w, y + 0.2*f.size}
	default:
		return r, false, nil
	}
	return r, true, failed
}

var (
	decimals = regexp.MustCompile(`\.\d{3}`)
	drawn    = []string{"svg", "title", "desc", "style", "rect", "circle", "line", "path", "text", "g",
		"defs", "pattern"}
)

// faults is all that is wrong with a picture.
func faults(svg []byte) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf(format, args...))
	}
	all, err := elements(svg)
	if err != nil {
		return []string{err.Error()}
	}
	var height float64
	if _, err := fmt.Sscanf(all[0].attrs["viewBox"], "0 0 760 %f", &height); err != nil {
		fault("viewBox %q: %v", all[0].attrs["viewBox"], err)
	}
	if all[0].attrs["role"] != "img" || all[1].name != "title" || all[1].text == "" ||
		all[2].name != "desc" || all[2].text == "" {
		fault("no role, title and description")
	}
	var texts []rectangle
	var words []string
	defs := regexp.MustCompile(`(?s)<defs>.*</defs>|<style>.*?</style>|viewBox="[^"]*"`)
	body, err := elements(defs.ReplaceAll(svg, nil))
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range all {
		if !slices.Contains(drawn, e.name) {
			fault("an element <%s>", e.name)
		}
		if strings.ContainsFunc(strings.ReplaceAll(e.text, "\n", ""), unicode.IsControl) {
			fault("a control character in %q", e.text)
		}
	}
	for _, e := range body[1:] {
		for name, value := range e.attrs {
			if strings.HasPrefix(name, "on") || strings.Contains(name, "href") ||
				strings.Contains(value, "NaN") || strings.Contains(value, "Inf") ||
				decimals.MatchString(value) {
				fault("%s=%q", name, value)
			}
		}
		if e.name == "rect" && e.attrs["x"] == "" {
			continue // the paper
		}
		r, ok, err := extent(e)
		if err != nil {
			fault("%v", err)
		}
		if ok && (r.left < 0 || r.top < 0 || r.right > width || r.bottom > height) {
			fault("<%s> %v %q takes %v of %v x %v", e.name, e.attrs, e.text, r, width, height)
		}
		if e.name != "text" {
			continue
		}
		for i, other := range texts {
			if r.overlaps(other) {
				fault("%q lies over %q", e.text, words[i])
			}
		}
		texts, words = append(texts, r), append(words, e.text)
	}
	return faults
}

func TestPicturesAreSound(t *testing.T) {
	for name, c := range samples() {
		svg := c.SVG()
		for _, fault := range faults(svg) {
			t.Errorf("%s: %s", name, fault)
		}
		if again := c.SVG(); !bytes.Equal(svg, again) {
			t.Errorf("%s: drawn twice, it differs", name)
		}
		table := c.Table()
		head, rows := table.Head, table.Rows
		for _, row := range rows {
			if len(row) != len(head) {
				t.Errorf("%s: a row of %d cells under a head of %d", name, len(row), len(head))
			}
			if all := strings.Join(row, " "); strings.Contains(all, "NaN") || strings.Contains(all, "Inf") {
				t.Errorf("%s: the table has a row %q", name, row)
			}
		}
	}
}

// Whatever the numbers are, the picture holds together.
func TestPicturesOfAnyNumbersAreSound(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	special := []float64{0, nan, inf, -inf, 1e300, -1e99, 9e99, 5e-324, 1e-99, 1, 10, 100, -1}
	some := func() float64 {
		if random.IntN(3) == 0 {
			return special[random.IntN(len(special))]
		}
		return (random.Float64() - 0.3) * math.Pow(10, float64(random.IntN(24)-12))
	}
	for n := range 100 {
		coin := func() bool { return random.IntN(2) == 0 }
		l := Lines{X: Axis{Log: coin()}, Y: Axis{Log: coin()}}
		if random.IntN(3) == 0 {
			l.X.From, l.X.To, l.Y.From, l.Y.To = some(), some(), some(), some()
		}
		var b Bars
		g := Group{Name: "g"}
		for s := range random.IntN(4) {
			series, lane := Series{Name: fmt.Sprint(s), Dashed: coin()}, Lane{Name: fmt.Sprint(s)}
			for range random.IntN(6) {
				series.Points = append(series.Points,
					Point{X: some(), Y: some(), Low: some(), High: some(), Projected: coin()})
				lane.Spans = append(lane.Spans, Span{some(), some(), "k", "label"})
			}
			l.Series, g.Lanes = append(l.Series, series), append(g.Lanes, lane)
			b.Bars = append(b.Bars, Bar{Name: "b", Value: some(), Low: some(), High: some(),
				Parts: []Part{{"p", some()}, {"q", some()}}})
		}
		for _, c := range []Chart{l, b, Timeline{Until: some(), Groups: []Group{g}}} {
			for _, fault := range faults(c.SVG()) {
				if !strings.Contains(fault, "lies over \"label\"") { // spans that overlap
					t.Fatalf("%d: %s\n%+v", n, fault, c)
				}
			}
		}
	}
}

func TestWhatIsLeftOutIsCounted(t *testing.T) {
	want := map[string]int{"lines": 0, "no numbers": 3, "some numbers": 4, "zero on log": 3,
		"all zero on log": 1, "fixed axes": 2, "odd bars": 4, "odd spans": 4, "timeline": 0,
		"no lines": 0, "one point": 0}
	for name, n := range want {
		if got := samples()[name].omitted(); got != n {
			t.Errorf("%s: %d values left out, want %d", name, got, n)
		}
		said := strings.Contains(string(samples()[name].SVG()), omission(n))
		if n > 0 && !said {
			t.Errorf("%s: the description does not say %q", name, omission(n))
		}
	}
	rows := samples()["zero on log"].Table().Rows
	if len(rows) != 5 {
		t.Errorf("the numbers that have no place on the axes: %q, want all 5 in the table", rows)
	}
}

func TestEmptyPicturesSaySo(t *testing.T) {
	for _, name := range []string{"no lines", "no bars", "no time", "no numbers", "all zero on log"} {
		if svg := samples()[name].SVG(); !bytes.Contains(svg, []byte(">no data</text>")) {
			t.Errorf("%s:\n%s", name, svg)
		}
	}
}

// The whole of a name that is clipped is in a title.
func TestClippedNamesAreWhole(t *testing.T) {
	all, err := elements(samples()["hostile lines"].SVG())
	if err != nil {
		t.Fatal(err)
	}
	whole, clipped := Printable(hostile), false
	for i, e := range all[:len(all)-1] {
		if e.name == "text" && strings.HasSuffix(e.text, "…") && all[i+1].text == whole {
			clipped = true
		}
	}
	if !clipped {
		t.Errorf("no text is clipped and has %q as its title", whole)
	}
}

func TestSeriesDifferWithoutColour(t *testing.T) {
	seen := map[string]int{}
	for i := range colours {
		p := &picture{}
		p.mark(i, 0, 50, 50, false)
		if other, ok := seen[p.body.String()]; ok {
			t.Errorf("series %d has the marker of series %d", i, other)
		}
		seen[p.body.String()] = i
	}
	for _, e := range []struct {
		chart Chart
		want  []string
	}{
		{samples()["stacked"], []string{"-p1-1", "-p2-2"}},
		{samples()["timeline"], []string{"-p3-0", "-p1-1", "-p2-3"}},
	} {
		for _, want := range e.want {
			if !bytes.Contains(e.chart.SVG(), []byte(want+")")) {
				t.Errorf("pattern %s is not used", want)
			}
		}
	}
}

func TestTicks(t *testing.T) {
	tests := []struct {
		axis  Axis
		data  []float64
		round bool
		want  string
	}{
		{Axis{}, []float64{0, 10}, false, "0 1 2 3 4 5 6 7 8 9 10"},
		{Axis{}, []float64{3, 480}, true, "0 50 100 150 200 250 300 350 400 450 500"},
		{Axis{}, []float64{-3, 4}, true, "-3 -2 -1 0 1 2 3 4"},
		{Axis{}, []float64{0, 0.003}, false, "0 0.0005 0.001 0.0015 0.002 0.0025 0.003"},
		{Axis{}, []float64{7}, false, "0 1 2 3 4 5 6 7"},
		{Axis{}, nil, false, "1 2 3 4 5 6 7 8 9 10"},
		{Axis{From: 10, To: 30}, []float64{7}, false, "10 12 14 16 18 20 22 24 26 28 30"},
		{Axis{Log: true}, []float64{1, 1000}, false, "1 2 5 10 20 50 100 200 500 1k"},
		{Axis{Log: true}, []float64{0, 3, 4e6}, true, "10 100 1k 10k 100k 1M"},
		{Axis{Log: true}, []float64{30, 60}, true, "20 30 40 50 60 70 80 90 100"},
		{Axis{Log: true, Format: Seconds}, []float64{2e-5, 0.9}, true, "100 µs 1 ms 10 ms 100 ms 1 s"},
		{Axis{Log: true}, []float64{1e-30, 1e30}, false,
			"1e-30 1e-24 1e-18 1e-12 0.000001 1 1M 1T 1e+18 1e+24 1e+30"},
	}
	for _, test := range tests {
		s := newScale(test.axis, test.data, test.round)
		s.a, s.b = 0, 800
		var got []string
		for _, tick := range s.ticks(test.axis.Format, func(a, b tick) bool { return b.at-a.at > 20 }) {
			got = append(got, tick.label)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%+v, %v: %q, want %q", test.axis, test.data, got, test.want)
		}
	}
}

// luminance is that of WCAG 2.2, "relative luminance".
func luminance(t *testing.T, colour string) float64 {
	var rgb [3]uint8
	if _, err := fmt.Sscanf(colour, "#%02x%02x%02x", &rgb[0], &rgb[1], &rgb[2]); err != nil {
		t.Fatalf("%q: %v", colour, err)
	}
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(rgb[i]) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func TestContrast(t *testing.T) {
	for name, p := range map[string]palette{"light": light, "dark": dark} {
		paper := luminance(t, p.paper)
		for _, colour := range append([]string{p.ink, p.quiet}, p.data[:]...) {
			c := luminance(t, colour)
			if ratio := (max(c, paper) + 0.05) / (min(c, paper) + 0.05); ratio < 4.5 {
				t.Errorf("%s: %s on %s is %.2f to 1", name, colour, p.paper, ratio)
			}
		}
	}
}

// with is the elements of a picture whose class has the word.
func with(t *testing.T, c Chart, name, class string) (found []element) {
	all, err := elements(c.SVG())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		words := strings.Fields(e.attrs["class"])
		if e.name == name && e.attrs["x"]+e.attrs["d"] != "" && slices.Contains(words, class) {
			found = append(found, e)
		}
	}
	return found
}

func TestLinesBreakAndAreDashed(t *testing.T) {
	measured := []Point{{X: 0, Y: 1}, {X: 1, Y: 1}, {X: 2, Y: 1}}
	gap := []Point{{X: 0, Y: 1}, {X: 1, Y: 1}, {X: 2, Y: nan}, {X: 3, Y: 1}, {X: 4, Y: 1}}
	projected := append(slices.Clone(measured), Point{X: 3, Y: 1, Projected: true})
	tests := []struct {
		name           string
		series         Series
		pieces, dashed int
	}{
		{"one piece", Series{Points: measured}, 1, 0},
		{"a gap where a point is left out", Series{Points: gap}, 2, 0},
		{"dashed to what is projected", Series{Points: projected}, 2, 1},
		{"dashed", Series{Points: measured, Dashed: true}, 1, 1},
	}
	for _, test := range tests {
		pieces, dashed := 0, 0
		for _, e := range with(t, Lines{Series: []Series{test.series}}, "path", "l0") {
			if e.attrs["stroke-linejoin"] == "" {
				continue // a hollow marker
			}
			pieces++
			if e.attrs["stroke-dasharray"] != "" {
				dashed++
			}
		}
		pieces-- // the one beside the name
		if test.series.Dashed {
			dashed--
		}
		if pieces != test.pieces || dashed != test.dashed {
			t.Errorf("%s: %d pieces, %d of them dashed, want %d and %d",
				test.name, pieces, dashed, test.pieces, test.dashed)
		}
	}
}

func TestLengthsAreProportional(t *testing.T) {
	tests := []struct {
		name  string
		chart Chart
		skip  int     // the legend's
		from  float64 // of the second, in lengths of the first, after where that begins
		long  float64
	}{
		{"bars", Bars{Bars: []Bar{{Name: "a", Value: 10}, {Name: "b", Value: 25}}}, 0, 0, 2.5},
		{"spans", Timeline{Until: 10, Groups: []Group{{Lanes: []Lane{{Spans: []Span{
			{0, 4, "k", ""}, {5, 7, "k", ""}}}}}}}, 1, 1.25, 0.5},
		{"spans cut off", Timeline{Until: 10, Groups: []Group{{Lanes: []Lane{{Spans: []Span{
			{-1, 4, "k", ""}, {8, 99, "k", ""}}}}}}}, 1, 2, 0.5},
	}
	for _, test := range tests {
		var x, w []float64
		for _, e := range with(t, test.chart, "rect", "f0")[test.skip:] {
			r, _, err := extent(e)
			if err != nil {
				t.Fatal(err)
			}
			x, w = append(x, r.left), append(w, r.right-r.left)
		}
		if len(x) != 2 || math.Abs((x[1]-x[0])/w[0]-test.from) > 0.01 ||
			math.Abs(w[1]/w[0]-test.long) > 0.01 {
			t.Errorf("%s: at %v, %v long", test.name, x, w)
		}
	}
}
