//go:build linux

package demo

import (
	"flag"
	"log"
	"os"
	"slices"
	"strings"
	"testing"
)

// The demos wait, most of the time: all of them can, side by side.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "16"); err != nil {
		log.Fatal(err)
	}
	os.Exit(m.Run())
}

func TestEveryDemoIsComplete(t *testing.T) {
	names := make(map[string]bool)
	for _, d := range All() {
		if d.Name == "" || names[d.Name] {
			t.Errorf("%q is no name, or the name of two demos", d.Name)
		}
		names[d.Name] = true
		if d.Title == "" || strings.Contains(d.Title, "\n") || d.Run == nil {
			t.Errorf("%s lacks a title of one line, or Run", d.Name)
		}
		if !strings.HasPrefix(d.Chapter, "docs/") || !strings.HasSuffix(d.Chapter, ".md") {
			t.Errorf("%q, the chapter of %s, is no page of docs", d.Chapter, d.Name)
		}
		found, err := Find(d.Name)
		if err != nil || found.Name != d.Name {
			t.Errorf("%s is not found: %v", d.Name, err)
		}
	}
	if _, err := Find("nosuch"); err == nil || !strings.Contains(err.Error(), "backlog") {
		t.Errorf("what does not exist: %v, want the names of those that do", err)
	}
}

func TestPrint(t *testing.T) {
	r := Result{
		Tables: []Table{
			{"First", []string{"who", "n", "how long"}, [][]string{{"é", "5", "0.1 s"}, {"someone", "12", "–"}}},
			{"Second", []string{"n"}, nil},
		},
		Sentences: []string{strings.Repeat("word ", 20), "End."},
	}
	var out strings.Builder
	r.Print(&out)
	want := `First

  who       n  how long
  é         5     0.1 s
  someone  12         –

Second

  n

` + strings.Repeat("word ", 15) + `word
word word word word

End.
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
}

// checkResult is what every demo keeps: its name, rectangular tables, sentences.
func checkResult(t *testing.T, name string, r *Result) {
	t.Helper()
	if r.Demo != name || len(r.Tables) == 0 || len(r.Sentences) == 0 || r.Data == nil {
		t.Errorf("%q has %d tables, %d sentences", r.Demo, len(r.Tables), len(r.Sentences))
	}
	if d, err := Find(name); err != nil || d.Drawn != (r.Picture != nil) {
		t.Errorf("%q has a picture: %v (%v)", name, r.Picture != nil, err)
	}
	for _, table := range r.Tables {
		for _, row := range table.Rows {
			if len(row) != len(table.Head) || slices.Contains(row, "") {
				t.Errorf("%q: the row %q under the head %q", table.Title, row, table.Head)
			}
		}
	}
	r.Print(t.Output())
}
