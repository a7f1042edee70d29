//go:build linux

package exercise

import (
	"fmt"
	"slices"
	"strings"

	"lesson/internal/tool/check"
)

// Page is docs/exercises/README.md: the exercises, and which of the cases fails
// with which of them.
func (g *Gallery) Page(cases []check.Case) string {
	var page strings.Builder
	page.WriteString(`<!-- go generate ./docs makes this page of the folders beside it. -->

# Exercises

Every folder here is a small, complete server with one bug that a real project has shipped. Each page begins
with what the server's users see. Find the bug, fix it, and let the checker verify the fix:

` + "```console" + `
$ go run ./cmd/lesson exercise list
$ go run ./cmd/lesson exercise start 1         # your copy, in a folder of its own
$ go run ./cmd/lesson exercise check 1         # is it fixed?
$ go run ./cmd/lesson exercise hint 1          # the next of three hints
$ go run ./cmd/lesson exercise solution 1      # the change, and why it works
` + "```" + `

The name of each exercise is a hint; the symptom is only what users see. The name is followed by the kind of
server and the chapter about it.
`)
	for _, e := range g.Exercises {
		chapter, _, _ := strings.Cut(e.Kind.Chapter, "-")
		fmt.Fprintf(&page, "\n**%d. [%s](%s/)** · %s · [chapter %s](../%s)\n\n", e.Number, e.Title,
			e.Name, e.Kind.Name, strings.TrimLeft(chapter, "0"), e.Kind.Chapter)
		// The same block as in the exercise's own page, which is translated once for both.
		for line := range strings.Lines(e.readme.quote) {
			fmt.Fprintf(&page, "> %s\n", strings.TrimSpace(line))
		}
	}
	page.WriteString(`
## Which case finds which bug

The rows are the cases of ` + "`lesson check`" + `, and the columns are the exercises. ● is the case that an exercise is
about, ○ is another case that fails because of the same bug, and ◌ is one that fails only in some runs, depending on
the order of events. A case with – does not apply to the server. The fixed servers fail none. A test runs every
server against every case, and compares the results with these tables.
`)
	for _, group := range groups(cases) {
		g.matrix(&page, group)
	}
	g.reasons(&page, cases)
	return page.String()
}

// A group is the cases whose addresses begin with its name.
type group struct {
	name  string
	cases []check.Case
}

// groups keeps the order of the cases.
func groups(cases []check.Case) []group {
	var found []group
	for _, c := range cases {
		name, _, _ := strings.Cut(c.Address, "/")
		i := slices.IndexFunc(found, func(g group) bool { return g.name == name })
		if i < 0 {
			found, i = append(found, group{name: name}), len(found)
		}
		found[i].cases = append(found[i].cases, c)
	}
	return found
}

// matrix is the table of one group. It has only the columns and rows that have
// something in them: all exercises side by side would not fit on a page. It has no words,
// and stands between markers, so that a translation copies it.
func (g *Gallery) matrix(page *strings.Builder, of group) {
	var columns []Exercise
	for _, e := range g.Exercises {
		if slices.ContainsFunc(of.cases, func(c check.Case) bool { return e.mark(c) != "" }) {
			columns = append(columns, e)
		}
	}
	if len(columns) == 0 {
		return
	}
	fmt.Fprintf(page, "\n### %s\n\n<!-- figures cases:%s -->\n\n| |", of.name, of.name)
	for _, e := range columns {
		fmt.Fprintf(page, " [%d](%s/) |", e.Number, e.Name)
	}
	page.WriteString("\n|---|" + strings.Repeat(":-:|", len(columns)) + "\n")
	for _, c := range of.cases {
		row := ""
		for _, e := range columns {
			row += strings.TrimRight(" "+e.mark(c), " ") + " |"
		}
		if strings.Trim(row, " |") != "" {
			_, name, _ := strings.Cut(c.Address, "/")
			fmt.Fprintf(page, "| %s |%s\n", name, row)
		}
	}
	page.WriteString("\n<!-- /figures -->\n")
}

// mark returns the entry of the matrix for the exercise and a case.
func (e Exercise) mark(c check.Case) string {
	switch {
	case c.Address == e.Cases[0]:
		return "●"
	case slices.Contains(e.Sometimes, c.Address):
		return "◌"
	case slices.Contains(e.Cases, c.Address):
		return "○"
	case slices.Contains(e.Unasked, c.Address):
		return "–"
	}
	return ""
}

// caught reports whether an exercise fails that case in every run.
func (g *Gallery) caught(c check.Case) bool {
	return slices.ContainsFunc(g.Exercises, func(e Exercise) bool {
		return slices.Contains(e.Cases, c.Address) && !slices.Contains(e.Sometimes, c.Address)
	})
}

// reasons says of the cases that no exercise fails in every run why there is none.
func (g *Gallery) reasons(page *strings.Builder, cases []check.Case) {
	page.WriteString(`
## Cases without an exercise

No exercise is about these cases. A server can fail them, too: the tests of
[internal/tool/check](../../internal/tool/check) have servers that do. As exercises they would not be worth your time.

| case | why |
|---|---|
`)
	for _, c := range cases {
		if c.NoExercise != "" {
			fmt.Fprintf(page, "| %s | %s |\n", c.Address, cell(c.NoExercise))
		}
	}
}

// cell keeps a text in its cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
