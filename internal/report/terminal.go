package report

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// descriptor returns the descriptor behind w, if it has one and that is a terminal.
func descriptor(w io.Writer) (fd int, terminal bool) {
	file, ok := w.(interface{ Fd() uintptr })
	if !ok {
		return -1, false
	}
	fd = int(file.Fd())
	return fd, term.IsTerminal(fd)
}

// Width returns the number of columns of the terminal that w writes to; 0 if w does
// not write to a terminal.
func Width(w io.Writer) int {
	fd, terminal := descriptor(w)
	if !terminal {
		return 0
	}
	width, _, err := term.GetSize(fd)
	if err != nil {
		return 0
	}
	return width
}

// Colour reports whether to colour what is written to w: it is a terminal, and the
// user has not asked for plain text (NO_COLOR, https://no-color.org).
func Colour(w io.Writer) bool {
	_, terminal := descriptor(w)
	return terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Colours of text on a terminal: the codes of ECMA-48, "Select Graphic Rendition".
const (
	Bold    = "1"
	Dim     = "2"
	Red     = "31"
	Green   = "32"
	Yellow  = "33"
	Blue    = "34"
	Magenta = "35"
	Cyan    = "36"
	BoldRed = "1;31"
	HighRed = "91"
)

// Paint returns the text in a colour, or as it is if there are no colours.
func Paint(colours bool, colour, text string) string {
	if !colours {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// A Status is one line of a terminal that shows how far a command has come. It is
// written with carriage returns and blanks, which every terminal understands.
type Status struct {
	w     io.Writer
	width int // 0: there is nothing to write to
	shown int // columns that the line takes now
}

// NewStatus returns a Status on w. It shows nothing if w is not a terminal.
func NewStatus(w io.Writer) *Status {
	s := &Status{w: w, width: Width(w)}
	if os.Getenv("TERM") == "dumb" {
		s.width = 0
	}
	return s
}

// Show replaces the line. It is cut where the terminal ends. An error of the terminal
// is not reported: the line is not a result.
func (s *Status) Show(format string, args ...any) {
	if s.width == 0 {
		return
	}
	line := Fit(fmt.Sprintf(format, args...), s.width-1)
	_, _ = fmt.Fprint(s.w, "\r"+Pad(line, s.shown))
	s.shown = Columns(line)
}

// Wipe removes the line.
func (s *Status) Wipe() {
	if s.shown > 0 {
		s.Show("")
		_, _ = fmt.Fprint(s.w, "\r") // as in Show
	}
}
