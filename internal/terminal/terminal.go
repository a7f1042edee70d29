// Package terminal answers the questions a program has about where its output
// goes: is it a terminal, how wide, may it be coloured.
package terminal

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Width is the number of columns of the terminal that w writes to; 0 when w is
// no terminal.
func Width(w io.Writer) int {
	file, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// Colour says whether to colour what is written to w: it is a terminal, and
// the user has not asked for plain text (NO_COLOR, https://no-color.org).
func Colour(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) &&
		os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
