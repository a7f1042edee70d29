package report

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// Printable returns text in a form that is safe to print within a line: printable
// characters stay, in any script; every other character and byte becomes its escape in
// Go, such as \n or \x1b. Whatever comes from outside (paths, commands, names, what a
// program wrote) goes through it on its way to a terminal, whose control sequences
// begin with such characters. Text that is printable stays as it is, backslashes too.
func Printable(text string) string {
	var safe strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if part := text[:size]; strconv.IsPrint(r) && (r != utf8.RuneError || size > 1) {
			safe.WriteString(part)
		} else {
			safe.WriteString(strings.Trim(strconv.Quote(part), `"`))
		}
		text = text[size:]
	}
	return safe.String()
}

// PrintableLines returns text of several lines, each of them Printable.
func PrintableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = Printable(line)
	}
	return strings.Join(lines, "\n")
}
