package report

import (
	"io"
	"slices"
	"strings"
)

// A Table is rows under a head. The first Left columns hold words and are aligned
// left, the others numbers, aligned right.
type Table struct {
	Head []string // none: the table has no head
	Rows [][]string
	Left int
	// ByCell says that words and numbers come in any order: a column is aligned right
	// if every cell below its head begins with a digit, or stands for no number.
	ByCell bool

	Indent string // before each line
	// Width is the columns of the terminal; 0 is as many as it takes. Where the table
	// has more, heads and words are broken at blanks.
	Width int
}

// columns returns the number of columns: that of the longest row.
func (t *Table) columns() int {
	n := len(t.Head)
	for _, row := range t.Rows {
		n = max(n, len(row))
	}
	return n
}

// grid returns head and rows, all as long as the longest, each cell through edit; and
// how many columns of text each column takes.
func (t *Table) grid(edit func(string) string) (lines [][]string, widths []int) {
	widths = make([]int, t.columns())
	for _, row := range slices.Concat([][]string{t.Head}, t.Rows) {
		line := make([]string, len(widths))
		for c, cell := range row {
			line[c] = edit(cell)
			widths[c] = max(widths[c], Columns(line[c]))
		}
		lines = append(lines, line)
	}
	return lines, widths
}

// words reports whether a column holds words, and is aligned left.
func (t *Table) words(column int) bool {
	if !t.ByCell {
		return column < t.Left
	}
	return len(t.Rows) == 0 || slices.ContainsFunc(t.Rows, func(row []string) bool {
		cell := row[column]
		return cell != "" && cell != "–" && (cell[0] < '0' || cell[0] > '9')
	})
}

// pad returns a cell in a column of that width.
func (t *Table) pad(cell string, column, width int) string {
	if t.words(column) {
		return Pad(cell, width)
	}
	return strings.Repeat(" ", max(0, width-Columns(cell))) + cell
}

// gap is between two columns.
const gap = "  "

// narrow makes the columns narrower until the table has its Width: first those that
// only their head makes wide, then words, the widest first.
func (t *Table) narrow(lines [][]string, widths []int) {
	if t.Width == 0 {
		return
	}
	body, least := make([]int, len(widths)), make([]int, len(widths))
	for i, line := range lines {
		for c, cell := range line {
			if i > 0 {
				body[c] = max(body[c], Columns(cell))
			}
			if i > 0 && !t.words(c) {
				least[c] = max(least[c], Columns(cell)) // a number stays whole
			}
			for _, word := range strings.Fields(cell) {
				least[c] = max(least[c], Columns(word))
			}
		}
	}
	over := Columns(t.Indent) + Columns(gap)*(len(widths)-1) - t.Width
	for _, w := range widths {
		over += w
	}
	for ; over > 0; over-- {
		widest, most := -1, 0
		for c, w := range widths {
			if w > max(body[c], least[c]) && w-body[c] > most {
				widest, most = c, w-body[c]
			}
		}
		for c, w := range widths {
			if most == 0 && w > least[c] && (widest < 0 || w > widths[widest]) {
				widest = c
			}
		}
		if widest < 0 {
			return // no blank is left to break at
		}
		widths[widest]--
	}
}

// Print writes the table as text, without colour. No cell can give the terminal a
// command. The error of w is for the caller to know: see Output.
func (t *Table) Print(w io.Writer) {
	var out strings.Builder
	lines, widths := t.grid(Printable)
	t.narrow(lines, widths)
	lines = broken(lines, widths)
	if len(t.Head) == 0 {
		lines = lines[1:]
	}
	for _, line := range lines {
		for c, cell := range line {
			line[c] = t.pad(cell, c, widths[c])
		}
		out.WriteString(strings.TrimRight(t.Indent+strings.Join(line, gap), " ") + "\n")
	}
	_, _ = io.WriteString(w, out.String())
}

// broken splits a line into several where a cell is wider than its column. widths
// becomes what the columns then take.
func broken(lines [][]string, widths []int) [][]string {
	var all [][]string
	taken := make([]int, len(widths))
	for _, line := range lines {
		first := len(all)
		all = append(all, make([]string, len(widths)))
		for c, cell := range line {
			parts := []string{cell}
			if Columns(cell) > widths[c] {
				parts = Wrap(cell, widths[c])
			}
			for i, part := range parts {
				if first+i == len(all) {
					all = append(all, make([]string, len(widths)))
				}
				all[first+i][c] = part
				taken[c] = max(taken[c], Columns(part))
			}
		}
	}
	copy(widths, taken)
	return all
}

// markup is what would be more than a character in a cell of a GitHub table.
var markup = strings.NewReplacer(`\`, `\\`, `|`, `\|`, `<`, `\<`, `>`, `\>`, `&`, `\&`,
	`*`, `\*`, `_`, `\_`, "`", "\\`", `[`, `\[`, `]`, `\]`, `~`, `\~`)

// Markdown returns the table as GitHub reads it. Every cell is text.
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
		if i > 0 {
			continue
		}
		for c := range widths {
			rule := strings.Repeat("-", max(3, widths[c]))
			if !t.words(c) {
				rule = rule[1:] + ":"
			}
			out.WriteString("| " + rule + " ")
		}
		out.WriteString("|\n")
	}
	return out.String()
}

// withoutEmpty leaves out the columns in which no row has anything.
func (t *Table) withoutEmpty() *Table {
	kept := &Table{Left: t.Left, Rows: make([][]string, len(t.Rows))}
	for c, title := range t.Head {
		if !slices.ContainsFunc(t.Rows, func(row []string) bool { return row[c] != "" }) {
			continue
		}
		kept.Head = append(kept.Head, title)
		for i, row := range t.Rows {
			kept.Rows[i] = append(kept.Rows[i], row[c])
		}
	}
	return kept
}
