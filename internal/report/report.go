// Package report shows results: as text for a terminal, as tables, as charts, and as
// a page of HTML with both.
//
// Text (text.go), numbers (number.go) and tables (table.go) look the same in every
// tool, because this package makes all of them: what a thousand looks like, when a word is
// plural, how many columns a text takes. Files and the standard output, and whether
// that is a terminal, are in output.go and terminal.go.
//
// Charts are lines, bars and timelines, as SVG. A chart or a page needs nothing but
// itself: no script, no font, no network. It follows the reader's choice of light or
// dark, and shows nothing by colour alone: a marker, a dash, a hatch or a label shows
// it too. The same input gives the same bytes. Names may come from strangers: whatever
// they hold, they stay text (see Printable).
package report
