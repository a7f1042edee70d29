package report

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// lines is a text of these lines, each ended.
func lines(each ...string) string { return strings.Join(each, "\n") + "\n" }

func TestUnified(t *testing.T) {
	tests := []struct {
		name, a, b string
		want       string
	}{
		{"equal", lines("1", "2"), lines("1", "2"), ""},
		{"both empty", "", "", ""},
		{
			"changed", lines("1", "2", "3"), lines("1", "two", "3"),
			lines("--- a.go", "+++ b.go", "@@ -1,3 +1,3 @@", " 1", "-2", "+two", " 3"),
		},
		{
			"added", lines("1"), lines("1", "2"),
			lines("--- a.go", "+++ b.go", "@@ -1,1 +1,2 @@", " 1", "+2"),
		},
		{
			"removed", lines("1", "2"), lines("1"),
			lines("--- a.go", "+++ b.go", "@@ -1,2 +1,1 @@", " 1", "-2"),
		},
		{
			"three lines of context", lines("1", "2", "3", "4", "x", "6", "7", "8", "9"),
			lines("1", "2", "3", "4", "y", "6", "7", "8", "9"),
			lines("--- a.go", "+++ b.go", "@@ -2,7 +2,7 @@",
				" 2", " 3", " 4", "-x", "+y", " 6", " 7", " 8"),
		},
		{
			"two hunks", lines("x", "1", "2", "3", "4", "5", "6", "7", "x"),
			lines("y", "1", "2", "3", "4", "5", "6", "7", "y"),
			lines("--- a.go", "+++ b.go", "@@ -1,4 +1,4 @@", "-x", "+y", " 1", " 2", " 3",
				"@@ -6,4 +6,4 @@", " 5", " 6", " 7", "-x", "+y"),
		},
	}
	for _, test := range tests {
		a, b := Text{"a.go", test.a}, Text{"b.go", test.b}
		got := Unified(a, b, false)
		if got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, test.want)
		}
		coloured := Unified(a, b, true)
		if escapes.ReplaceAllString(coloured, "") != test.want {
			t.Errorf("%s, without its colours:\n%swant\n%s", test.name, coloured, test.want)
		}
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestUnifiedColour(t *testing.T) {
	a, b := Text{"a.go", lines("1", "2", "@@")}, Text{"b.go", lines("1", "two", "@@")}
	got := Unified(a, b, true)
	want := lines(
		red+"--- a.go"+plain, green+"+++ b.go"+plain, cyan+"@@ -1,3 +1,3 @@"+plain,
		" 1", red+"-2"+plain, green+"+two"+plain, " @@")
	if got != want {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestSideBySide(t *testing.T) {
	tests := []struct {
		name  string
		width int
		a, b  string
		want  []string // without the two lines of the head
	}{
		{"equal", 23, lines("1", "", "3"), lines("1", "", "3"), []string{
			"1            1",
			"",
			"3            3",
		}},
		{"both empty", 23, "", "", nil},
		{"changed", 23, lines("1", "2", "3"), lines("1", "two", "3"), []string{
			"1            1",
			"2          | two",
			"3            3",
		}},
		{"only left", 23, lines("1", "2", "3"), lines("1", "3"), []string{
			"1            1",
			"2          <",
			"3            3",
		}},
		{"only right", 23, lines("1", "3"), lines("1", "2", "3"), []string{
			"1            1",
			"           > 2",
			"3            3",
		}},
		{"more go than come", 23, lines("1", "2", "3", "4"), lines("1", "two", "4"), []string{
			"1            1",
			"2          | two",
			"3          <",
			"4            4",
		}},
		{"fewer go than come", 23, lines("1", "2", "4"), lines("1", "two", "three", "4"), []string{
			"1            1",
			"2          | two",
			"           > three",
			"4            4",
		}},
		{"at the end", 23, lines("1"), lines("1", "2"), []string{
			"1            1",
			"           > 2",
		}},
		{"nothing in common", 23, lines("1"), lines("one"), []string{
			"1          | one",
		}},
		{"all of a long text", 23, lines(slices.Repeat([]string{"x"}, 40)...) + "1\n",
			lines(slices.Repeat([]string{"x"}, 40)...) + "2\n",
			append(slices.Repeat([]string{"x            x"}, 40), "1          | 2")},
		{"ten columns just fit", 23, lines("0123456789"), lines("0123456789x"), []string{
			"0123456789 | 012345678…",
		}},
		{"an odd column is left over", 24, lines("0123456789x"), lines("0123456789"), []string{
			"012345678… | 0123456789",
		}},
		{"columns, not bytes", 23, lines("éééééééééé"), lines("ééééééééééé"), []string{
			"éééééééééé | ééééééééé…",
		}},
		{"a tab is two columns", 23, lines("\tx\ty"), lines("\t\tx"), []string{
			"  x  y     |     x",
		}},
		{"no line end at the end", 23, "1\n2", "1\n3", []string{
			"1            1",
			"2          | 3",
		}},
	}
	for _, test := range tests {
		got := SideBySide(Text{"a.go", test.a}, Text{"b.go", test.b}, test.width, false)
		want := append([]string{"a.go         b.go", "----         ----"}, test.want...)
		if got != lines(want...) {
			t.Errorf("%s:\n%swant\n%s", test.name, got, lines(want...))
		}
	}
}

// Red, green and cyan, and the end of any colour.
const red, green, cyan, plain = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[0m"

func TestSideBySideColour(t *testing.T) {
	a, b := Text{"a.go", lines("1", "2", "gone", "4")}, Text{"b.go", lines("1", "two", "4", "come")}
	coloured := SideBySide(a, b, 23, true)
	want := lines(
		"a.go         b.go",
		"----         ----",
		"1            1",
		red+"2         "+plain+" | "+green+"two"+plain,
		red+"gone      "+plain+" < "+green+plain,
		"4            4",
		red+"          "+plain+" > "+green+"come"+plain)
	if coloured != want {
		t.Errorf("%q\nwant\n%q", coloured, want)
	}
}

// Whatever the width, no line is wider, and the marks are in one column. A
// width that has no room for two columns is not refused either.
func TestSideBySideWidth(t *testing.T) {
	long := strings.Repeat("a long line of text ", 20)
	a := Text{"left.go", lines("same", long+"1", "gone", "", "\t\t"+long)}
	b := Text{"right.go", lines("same", long+"2", "", "\t\t"+long, "come")}
	for width := range 300 {
		got := SideBySide(a, b, width, false)
		if width < 7 {
			continue
		}
		for line := range strings.Lines(got) {
			text := strings.TrimSuffix(line, "\n")
			if n := utf8.RuneCountInString(text); n > width {
				t.Fatalf("width %d: a line of %d columns: %q", width, n, text)
			}
			if runes := []rune(text); len(runes) > (width-3)/2+1 {
				if mark := runes[(width-3)/2+1]; !strings.ContainsRune(" <>|", mark) {
					t.Fatalf("width %d: no mark between the columns: %q", width, text)
				}
			}
		}
	}
}

// What is shown is all there is: the left column is a and the right one is b.
func TestSideBySideIsComplete(t *testing.T) {
	var a, b []string
	for i := range 100 {
		if i%7 != 0 {
			a = append(a, fmt.Sprintf("line %d", i))
		}
		if i%5 != 0 {
			b = append(b, fmt.Sprintf("line %d", i))
		}
	}
	got := SideBySide(Text{"a", lines(a...)}, Text{"b", lines(b...)}, 43, false)
	var left, right []string
	for line := range strings.Lines(got) {
		text := fmt.Sprintf("%-43s", strings.TrimSuffix(line, "\n"))
		if l := strings.TrimSpace(text[:20]); l != "" {
			left = append(left, l)
		}
		if r := strings.TrimSpace(text[22:]); r != "" {
			right = append(right, r)
		}
	}
	if !slices.Equal(left[2:], a) {
		t.Errorf("the left column is %q", left)
	}
	if !slices.Equal(right[2:], b) {
		t.Errorf("the right column is %q", right)
	}
}
