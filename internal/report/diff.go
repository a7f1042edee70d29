package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
)

// A Text is one side: its lines, and what to call it.
type Text struct{ Name, Body string }

// Unified returns what `diff -u` prints; nothing if the texts are equal.
func Unified(a, b Text, colour bool) string {
	var out strings.Builder
	colours := map[byte]string{'-': Red, '+': Green, '@': Cyan}
	for _, line := range differences(a, b) {
		text := strings.TrimSuffix(line, "\n")
		out.WriteString(Paint(colour && colours[line[0]] != "", colours[line[0]], text) + "\n")
	}
	return out.String()
}

// differences returns the lines of a unified diff: two that name the texts, and then
// the hunks, each with a line "@@ -N,n +M,m @@" before it.
func differences(a, b Text) []string {
	text := string(diff.Diff(a.Name, []byte(a.Body), b.Name, []byte(b.Body)))
	if text == "" {
		return nil
	}
	_, text, _ = strings.Cut(text, "\n") // "diff A B"
	return slices.Collect(strings.Lines(text))
}

// SideBySide shows a on the left and b on the right, width columns in all.
// Between them stands what a line is: "<" only in a, ">" only in b, "|"
// changed, blank the same. A line too long for its column ends in "…".
func SideBySide(a, b Text, width int, colour bool) string {
	page := twoColumns{column: (width - 3) / 2, colour: colour}
	page.row(a.Name, b.Name, ' ')
	page.row(strings.Repeat("-", len(a.Name)), strings.Repeat("-", len(b.Name)), ' ')

	all := slices.Collect(strings.Lines(a.Body))
	same := all // what of a has not been shown yet
	var gone, come []string
	for i, line := range differences(a, b) {
		if i < 2 {
			continue // the names
		}
		switch body := line[1:]; line[0] {
		case '@': // the hunk begins at this line of a; up to there, both are the same
			var first, count int
			if _, err := fmt.Sscanf(line, "@@ -%d,%d", &first, &count); err == nil && count > 0 {
				first-- // a hunk counts lines from 1, but one without lines of a from 0
			}
			page.change(gone, come)
			gone, come = nil, nil
			before := first - (len(all) - len(same))
			page.same(same[:before])
			same = same[before:]
		case '-':
			gone, same = append(gone, body), same[1:]
		case '+':
			come = append(come, body)
		case '\\': // "\ No newline at end of file": about the line before
		default:
			page.change(gone, come)
			gone, come = nil, nil
			page.same(same[:1])
			same = same[1:]
		}
	}
	page.change(gone, come)
	page.same(same)
	return page.text.String()
}

// twoColumns is two texts side by side while they are written.
type twoColumns struct {
	text   strings.Builder
	column int
	colour bool
}

// same shows lines that both have.
func (p *twoColumns) same(lines []string) {
	for _, line := range lines {
		p.row(line, line, ' ')
	}
}

// change shows lines that went and came, in pairs as far as they go.
func (p *twoColumns) change(gone, come []string) {
	for i := range max(len(gone), len(come)) {
		switch {
		case i >= len(come):
			p.row(gone[i], "", '<')
		case i >= len(gone):
			p.row("", come[i], '>')
		default:
			p.row(gone[i], come[i], '|')
		}
	}
}

func (p *twoColumns) row(left, right string, mark rune) {
	left, right = p.cut(left), p.cut(right)
	colour := p.colour && mark != ' '
	line := Paint(colour, Red, Pad(left, p.column)) + " " + string(mark) + " " + Paint(colour, Green, right)
	p.text.WriteString(strings.TrimRight(line, " ") + "\n")
}

// cut fits a line into a column; a tab is two spaces here.
func (p *twoColumns) cut(line string) string {
	return Fit(strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "  "), p.column)
}
