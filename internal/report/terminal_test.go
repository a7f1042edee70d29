package report

import (
	"slices"
	"testing"
)

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 10, nil},
		{"one", 10, []string{"one"}},
		{"one two three", 7, []string{"one two", "three"}},
		{"one  two\tthree", 8, []string{"one two", "three"}},
		{"a word-that-is-too-long b", 5, []string{"a", "word-that-is-too-long", "b"}},
		{"one\ntwo three", 20, []string{"one", "two three"}},
		{"one\n\ntwo", 20, []string{"one", "", "two"}},
		{"äöü äöü", 7, []string{"äöü äöü"}}, // columns, not bytes
		{"äöü äöü", 6, []string{"äöü", "äöü"}},
		{"one two", 0, []string{"one", "two"}},
	} {
		if got := Wrap(c.text, c.width); !slices.Equal(got, c.want) {
			t.Errorf("%q in %d columns: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}
