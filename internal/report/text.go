package report

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/rivo/uniseg"
)

// Columns returns how many columns of a terminal s takes: a Chinese character takes two.
func Columns(s string) int { return uniseg.StringWidth(s) }

// Blanks returns as many blanks as s has columns.
func Blanks(s string) string { return Pad("", Columns(s)) }

// Pad returns s with blanks behind it, up to width columns.
func Pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-Columns(s)))
}

// Fit returns s if it fits into width columns, or as much of its beginning as does,
// and "…".
func Fit(s string, width int) string {
	if Columns(s) <= width {
		return s
	}
	var fits strings.Builder
	left := width - 1
	for each := uniseg.NewGraphemes(s); each.Next() && each.Width() <= left; left -= each.Width() {
		fits.WriteString(each.Str())
	}
	return fits.String() + "…"
}

// Wrap breaks a text into lines of at most width columns, where its words allow it: at
// blanks, and between Chinese characters. Line ends in the text stay.
func Wrap(text string, width int) []string {
	var lines []string
	for paragraph := range strings.Lines(text) {
		line, length := "", 0
		for _, word := range strings.Fields(paragraph) {
			blank := min(length, 1) // before the first part of the word
			for _, part := range parts(word) {
				n := Columns(part)
				if length > 0 && length+blank+n > width {
					lines = append(lines, line)
					line, length, blank = "", 0, 0
				}
				line, length = line+Pad("", blank)+part, length+blank+n
				blank = 0
			}
		}
		lines = append(lines, line)
	}
	return lines
}

// parts returns what a line can end between in a word. In a word without Chinese
// characters there is one.
func parts(word string) []string {
	if !strings.ContainsFunc(word, func(r rune) bool { return unicode.Is(unicode.Han, r) }) {
		return []string{word}
	}
	var all []string
	state := -1
	for word != "" {
		var part string
		part, word, _, state = uniseg.FirstLineSegmentInString(word, state)
		all = append(all, part)
	}
	return all
}

// Hang does what Wrap does, with a lead before each line, within the width: first before the
// first, and rest, which is as wide, before the others.
func Hang(first, rest, text string, width int) []string {
	lines := Wrap(text, width-Columns(rest))
	for i, line := range lines {
		lines[i] = first + line
		first = rest
	}
	return lines
}

// Plural returns a number of things: "1 connection", "2 connections".
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// List returns names as in a sentence: "a, b and c".
func List(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// CommandLine returns a command as it can be typed into a shell.
func CommandLine(words ...string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		if word == "" || strings.ContainsAny(word, " \t\n{}$&;|<>*?()[]~#!'\"\\`") {
			word = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
		quoted[i] = word
	}
	return strings.Join(quoted, " ")
}

// prose returns printable text in which any white space is one space: the line breaks of
// a paragraph in the source of a program are not part of it.
func prose(s string) string { return Printable(strings.Join(strings.Fields(s), " ")) }

// sentences joins those that are not empty, and ends each with a full stop.
func sentences(each ...string) string {
	var out []string
	for _, s := range each {
		if s = prose(s); s == "" {
			continue
		}
		if !strings.ContainsAny(s[len(s)-1:], ".!?:") {
			s += "."
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}
