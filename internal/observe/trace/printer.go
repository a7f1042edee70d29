//go:build linux

package trace

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"lesson/internal/report"
)

// A printer prints one line for each call: the call when it is entered, and behind it,
// when it returns, its result. A call that blocks is a line without an end.
type printer struct {
	w          io.Writer
	colour     bool
	began      bool
	from       time.Duration // when the first call was entered
	unfinished int64         // the call whose line has no end yet; 0 for none
	place      int           // columns for the file and line: the longest so far
}

// Print returns a function that prints Events to w, in colour or plain. It writes at
// once: a reader must see the call that is blocking now. Times count from the first
// call. A call that returns after others have been printed gets a second line.
func Print(w io.Writer, colour bool) func(Event) {
	p := &printer{w: w, colour: colour}
	return func(e Event) { _, _ = io.WriteString(w, p.text(e)) }
}

// preview bounds how many of the bytes that were read or written are shown.
const preview = 20

// text returns what is printed of an Event.
func (p *printer) text(e Event) string {
	if !p.began {
		p.began, p.from = true, e.At
	}
	text := ""
	if p.unfinished != e.Call {
		if p.unfinished != 0 {
			text = "...\n" // another thread's call is still open
		}
		text += p.head(e)
	}
	if !e.Left {
		p.unfinished = e.Call
		return text
	}
	p.unfinished = 0
	return text + p.paint(e, " = "+outcome(e)) + "\n"
}

// head returns a line up to the result: when, where, what.
func (p *printer) head(e Event) string {
	at := e.At - e.Took - p.from
	place := fmt.Sprintf("%s:%-3d", report.Printable(e.File), e.Line)
	if e.File == "" {
		place = "-" // of another program, and not known
	}
	p.place = max(p.place, report.Columns(place))
	text := fmt.Sprintf("%9.6f  %s  %s", at.Seconds(),
		report.Pad(place, p.place), report.Pad(e.Name+"("+e.Args+")", 36))
	return p.paint(e, text)
}

// outcome returns what the call returned, and how long it waited.
func outcome(e Event) string {
	text := fmt.Sprint(e.Result)
	switch {
	case e.Err != "":
		text = "-1 " + e.Err
	case len(e.Ready) > 0:
		text += readyList(e.Ready)
	case e.Data != "":
		text += "  " + e.Data
	}
	if e.Blocked {
		text += fmt.Sprintf("  (blocked %.3f s)", e.Took.Seconds())
	}
	return text
}

// readyList returns "  [5 EPOLLIN, 6 EPOLLIN|EPOLLHUP]".
func readyList(ready []Ready) string {
	var parts []string
	for _, r := range ready {
		parts = append(parts, fmt.Sprintf("%d %s", r.FD, r.Events))
	}
	return "  [" + strings.Join(parts, ", ") + "]"
}

// excerpt returns the first bytes of p, quoted: "\r" and "\n", which end a request, look
// different, and no control character reaches the terminal.
func excerpt(p []byte) string {
	if len(p) > preview {
		return strconv.QuoteToASCII(string(p[:preview])) + "…"
	}
	return strconv.QuoteToASCII(string(p))
}

// palette colours connections: descriptor n has colour n modulo its length.
var palette = []string{report.Green, report.Yellow, report.Blue, report.Magenta, report.Cyan,
	report.HighRed}

// paint colours text by the connection it is about. A line about no single
// connection stays plain.
func (p *printer) paint(e Event, text string) string {
	fd := e.FD
	if accepts(e.Name) {
		fd = e.Result // 0 while it is still unknown
	}
	return report.Paint(p.colour && fd > 0, palette[max(0, fd)%len(palette)], text)
}
