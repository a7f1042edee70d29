package report

import (
	"fmt"
	"math"
)

// A Chart is a picture and the numbers behind it: Lines, Bars or a Timeline.
type Chart interface {
	SVG() []byte
	Table() *Table

	// draw is SVG with an id of the page's choice: an id may occur on a page only once.
	draw(id string) []byte
	titles() (title, caption string)
	omitted() int // the values that the picture does not show
}

// Lines shows how one number depends on another.
type Lines struct {
	Title, Caption string
	X, Y           Axis
	Series         []Series
}

// An Axis describes one direction of a chart. On a Log axis only numbers above 0 have a
// place; others are left out of the picture, which mentions how many.
type Axis struct {
	Label    string // with the unit
	Log      bool
	From, To float64                // both 0: from the data; a point outside is left out
	Format   func(v float64) string // nil: Short
}

// A Series is points joined in their order. A point that is left out breaks
// the line.
type Series struct {
	Name   string
	Points []Point
	Dashed bool   // another view of a series: not what was measured first
	Of     string // the name of that series, whose colour to share
}

// A Point is one measurement.
type Point struct {
	X, Y      float64
	Low, High float64 // the spread of Y; both 0: none
	Projected bool    // computed, not measured: drawn hollow, on a dashed line
}

// Bars compares one number of several things. The axis begins at 0, so a bar is
// as long as its number is large; one below 0 has no length, only its number.
type Bars struct {
	Title, Caption, Unit string
	Bars                 []Bar
	Format               func(v float64) string // nil: Short
}

// A Bar is one row.
type Bar struct {
	Name      string
	Value     float64 // 0: the sum of Parts
	Low, High float64 // the spread of Value; both 0: none
	Parts     []Part  // stacked, from the left
	Note      string  // behind the number
}

// A Part is one of several that a bar consists of.
type Part struct {
	Name  string
	Value float64
}

// Timeline shows what happened when, in seconds from 0: a row per lane.
type Timeline struct {
	Title, Caption string
	Until          float64 // 0: when the last span ends
	Kinds          []Kind  // in the order of the legend; one a span names is added
	Groups         []Group
}

// A Kind names a kind of span.
type Kind struct {
	Name    string
	Legend  string // "": Name
	Pattern Pattern
}

// A Pattern fills a span or a part of a bar.
type Pattern int

// The patterns.
const (
	Solid Pattern = iota
	Hatched
	Dotted
	Outline
)

// A Group is lanes that belong together: one server.
type Group struct {
	Name, Note string
	Lanes      []Lane
}

// A Lane is one row: a client, or the server itself.
type Lane struct {
	Name  string
	Spans []Span
	Tall  bool // of full height also in a group of more than 24, whose lanes are thin
}

// A Span is a time, in seconds, in which one thing went on. What lies before 0
// or after Until is cut off.
type Span struct {
	From, To float64
	Kind     string
	Label    string // drawn where it fits; a pointer shows it everywhere
}

// usable reports whether v can be drawn at all. The bound keeps sums and
// differences of such numbers finite.
func usable(v float64) bool { return math.Abs(v) < 1e100 } // not NaN, not Inf

// spread reports whether low and high are a spread.
func spread(low, high float64) bool {
	return (low != 0 || high != 0) && usable(low) && usable(high) && low <= high
}

// lost counts a spread that was given and is none.
func lost(low, high float64) int {
	if (low != 0 || high != 0) && !spread(low, high) {
		return 1
	}
	return 0
}

// omission returns the sentence that names what a picture does not show.
func omission(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "1 value is not drawn: it has no place on the axes."
	}
	return fmt.Sprintf("%d values are not drawn: they have no place on the axes.", n)
}
