package report

import (
	"io"
	"strings"
	"unicode/utf8"
)

// A Table is rows under a head. The first Left columns hold words and are
// aligned left, the others numbers.
type Table struct {
	Head []string
	Rows [][]string
	Left int
	Note string // a sentence below
}

// grid is head and rows, all as long as the longest, each cell through edit;
// and how many runes each column is wide.
func (t *Table) grid(edit func(string) string) (lines [][]string, widths []int) {
	lines = append(lines, t.Head)
	lines = append(lines, t.Rows...)
	columns := 0
	for _, line := range lines {
		columns = max(columns, len(line))
	}
	widths = make([]int, columns)
	for i, line := range lines {
		lines[i] = make([]string, columns)
		for c, cell := range line {
			lines[i][c] = edit(cell)
			widths[c] = max(widths[c], utf8.RuneCountInString(lines[i][c]))
		}
	}
	return lines, widths
}

// pad is a cell in a column so wide.
func (t *Table) pad(cell string, column, width int) string {
	room := strings.Repeat(" ", width-utf8.RuneCountInString(cell))
	if column < t.Left {
		return cell + room
	}
	return room + cell
}

// Print writes the table for a terminal: columns, and no colour. No cell can
// give the terminal a command. Whoever needs to know of a failure of w gives
// one that remembers it.
func (t *Table) Print(w io.Writer) {
	var out strings.Builder
	lines, widths := t.grid(clean)
	for _, line := range lines {
		var cells []string
		for c, cell := range line {
			cells = append(cells, t.pad(cell, c, widths[c]))
		}
		out.WriteString(strings.TrimRight(strings.Join(cells, "  "), " ") + "\n")
	}
	if t.Note != "" {
		out.WriteString("\n" + prose(t.Note) + "\n")
	}
	_, _ = io.WriteString(w, out.String()) // as said above
}

// markup is what would be more than a character in a cell of a GitHub table.
var markup = strings.NewReplacer(`\`, `\\`, `|`, `\|`, `<`, `\<`, `>`, `\>`, `&`, `\&`,
	`*`, `\*`, `_`, `\_`, "`", "\\`", `[`, `\[`, `]`, `\]`, `~`, `\~`)

// Markdown is the table as GitHub reads it. Every cell is text.
func (t *Table) Markdown() string {
	var out strings.Builder
	lines, widths := t.grid(func(cell string) string { return markup.Replace(prose(cell)) })
	if len(widths) == 0 {
		return ""
	}
	for i, line := range lines {
		for c, cell := range line {
			out.WriteString("| " + t.pad(cell, c, max(3, widths[c])) + " ")
		}
		out.WriteString("|\n")
		for c := 0; i == 0 && c < len(widths); c++ {
			rule := strings.Repeat("-", max(3, widths[c]))
			if c >= t.Left {
				rule = rule[1:] + ":"
			}
			out.WriteString("| " + rule + " ")
		}
		if i == 0 {
			out.WriteString("|\n")
		}
	}
	if t.Note != "" {
		out.WriteString("\n" + markup.Replace(prose(t.Note)) + "\n")
	}
	return out.String()
}
