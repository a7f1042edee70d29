// Package compare shows two texts against each other, as a unified diff or in
// two columns.
package compare

import (
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// A Text is one side: its lines, and what to call it.
type Text struct{ Name, Body string }

const (
	red, green, cyan, plain = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"
	context                 = 3 // lines shown around a change in a unified diff
)

// Unified is what `diff -u` prints; empty when the texts are equal.
func Unified(a, b Text, colour bool) (string, error) {
	diff, err := udiff.ToUnified(a.Name, b.Name, a.Body, udiff.Lines(a.Body, b.Body), context)
	if err != nil || !colour {
		return diff, err
	}
	var out strings.Builder
	for line := range strings.Lines(diff) {
		text := strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "-"):
			text = red + text + plain
		case strings.HasPrefix(line, "+"):
			text = green + text + plain
		case strings.HasPrefix(line, "@@"):
			text = cyan + text + plain
		}
		out.WriteString(text + "\n")
	}
	return out.String(), nil
}

// SideBySide shows a on the left and b on the right, width columns in all.
// Between them stands what a line is: "<" only in a, ">" only in b, "|"
// changed, blank the same. A line too long for its column ends in "…".
func SideBySide(a, b Text, width int, colour bool) (string, error) {
	whole := strings.Count(a.Body, "\n") + strings.Count(b.Body, "\n") + 1
	diff, err := udiff.ToUnifiedDiff(a.Name, b.Name, a.Body, udiff.Lines(a.Body, b.Body), whole)
	if err != nil {
		return "", err
	}
	page := page{column: (width - 3) / 2, colour: colour}
	page.row(a.Name, b.Name, ' ')
	page.row(strings.Repeat("-", len(a.Name)), strings.Repeat("-", len(b.Name)), ' ')
	if len(diff.Hunks) == 0 {
		for line := range strings.Lines(a.Body) {
			page.row(line, line, ' ')
		}
	}
	for _, hunk := range diff.Hunks {
		var gone, come []string
		for _, line := range hunk.Lines {
			switch line.Kind {
			case udiff.Delete:
				gone = append(gone, line.Content)
			case udiff.Insert:
				come = append(come, line.Content)
			default:
				page.change(gone, come)
				gone, come = nil, nil
				page.row(line.Content, line.Content, ' ')
			}
		}
		page.change(gone, come)
	}
	return page.text.String(), nil
}

type page struct {
	text   strings.Builder
	column int
	colour bool
}

// change shows lines that went and came, in pairs as far as they go.
func (p *page) change(gone, come []string) {
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

func (p *page) row(left, right string, mark rune) {
	left, right = p.cut(left), p.cut(right)
	line := fmt.Sprintf("%-*s %c %s", p.column, left, mark, right)
	if p.colour && mark != ' ' {
		line = fmt.Sprintf("%s%-*s%s %c %s%s%s", red, p.column, left, plain, mark, green, right, plain)
	}
	p.text.WriteString(strings.TrimRight(line, " ") + "\n")
}

// cut fits a line into a column; a tab is two spaces here.
func (p *page) cut(line string) string {
	line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "  ")
	runes := []rune(line)
	if len(runes) <= p.column {
		return line
	}
	return string(runes[:max(p.column-1, 0)]) + "…"
}
