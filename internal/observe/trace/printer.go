//go:build linux

package trace

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Printer is a Observer that prints. It is safe for concurrent use.
type Printer struct {
	mu     sync.Mutex
	w      io.Writer
	colour bool
	from   time.Duration
	began  bool
	open   *Call // the call whose line is not finished
	place  int   // columns for the file and line: the longest so far
}

// New prints to w, in colour or plain.
func New(w io.Writer, colour bool) *Printer { return &Printer{w: w, colour: colour} }

// blocked is how long a call must take to be said to have blocked, and not
// merely to have run.
const blocked = time.Millisecond

// preview is how many bytes of what was read or written are shown.
const preview = 20

// Enter prints the call and leaves the line open. Times count from the first
// call.
func (p *Printer) Enter(c *Call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.began {
		p.began, p.from = true, c.Entered
	}
	if p.open != nil {
		p.print("...\n") // another thread's call is still going on
	}
	p.print(p.head(c))
	p.open = c
}

// Leave finishes the line with what the call returned, on a line of its own
// when others have been printed since.
func (p *Printer) Leave(c *Call) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open != c {
		if p.open != nil {
			p.print("...\n")
		}
		p.print(p.head(c))
	}
	p.open = nil
	p.print(p.paint(c, " = "+outcome(c)) + "\n")
}

// head is a line up to the result: when, where, what.
func (p *Printer) head(c *Call) string {
	at := c.Entered - p.from
	place := fmt.Sprintf("%s:%-3d", c.File, c.Line)
	if c.File == "" {
		place = "-" // of another program, and not known
	}
	p.place = max(p.place, len(place))
	text := fmt.Sprintf("%9.6f  %-*s  %-36s", at.Seconds(), p.place, place, c.Name+"("+c.Args+")")
	return p.paint(c, text)
}

// outcome is what the call returned and how long that took, if it was long.
func outcome(c *Call) string {
	text := fmt.Sprint(c.Result)
	switch {
	case c.Err != nil:
		text = fmt.Sprintf("-1 %s", unix.ErrnoName(errno(c.Err)))
	case c.Name == "epoll_wait":
		text += eventList(c.Events)
	case len(c.Data) > 0:
		text += "  " + excerpt(c.Data)
	}
	if c.Took >= blocked {
		text += fmt.Sprintf("  (blocked %.3f s)", c.Took.Seconds())
	}
	return text
}

func errno(err error) unix.Errno {
	e, _ := err.(unix.Errno)
	return e
}

// eventList is " [5 EPOLLIN, 6 EPOLLIN|EPOLLHUP]".
func eventList(events []unix.EpollEvent) string {
	var parts []string
	for _, e := range events {
		parts = append(parts, fmt.Sprintf("%d %s", e.Fd, EventNames(e.Events)))
	}
	if len(parts) == 0 {
		return ""
	}
	return "  [" + strings.Join(parts, ", ") + "]"
}

// excerpt is the beginning of p, quoted: it shows "\r" and "\n" apart, since a
// request ends with them, and nothing in it reaches the terminal as it is.
func excerpt(p []byte) string {
	if len(p) > preview {
		return strconv.QuoteToASCII(string(p[:preview])) + "…"
	}
	return strconv.QuoteToASCII(string(p))
}

// palette colours connections: descriptor n has colour n modulo its length.
var palette = []string{"\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[35m", "\x1b[36m", "\x1b[91m"}

// paint colours text by the connection it is about. A line about no single
// connection stays plain.
func (p *Printer) paint(c *Call, text string) string {
	fd := c.FD
	if c.Name == "accept4" {
		fd = c.Result // 0 while it is still unknown
	}
	if !p.colour || fd <= 0 {
		return text
	}
	return palette[fd%len(palette)] + text + "\x1b[0m"
}

// print writes at once: a viewer must see the call that is blocking now.
func (p *Printer) print(text string) { _, _ = io.WriteString(p.w, text) }
