//go:build linux

package figures

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	docs    = "../../docs"
	folder  = docs + "/results"
	advice  = "; run: go generate ./docs"
	pattern = docs + "/*.md"
)

func load(t *testing.T) Figures {
	t.Helper()
	all, err := Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A page says what the results say.
func TestPagesHaveTheMeasuredFigures(t *testing.T) {
	all := load(t)
	pages, err := filepath.Glob(pattern)
	if err != nil || len(pages) == 0 {
		t.Fatalf("%v, %v", pages, err)
	}
	quoted := 0
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		filled, err := all.Fill(string(text))
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		if filled != string(text) {
			t.Errorf("%s does not have the figures of the results%s", page, advice)
		}
		quoted += strings.Count(filled, "\n<!-- figures ")
	}
	if quoted == 0 {
		t.Error("no page quotes a figure")
	}
}

// Every result that can be measured is there, and drawn as it is; no picture is left
// of one that is not made any more.
func TestPicturesAreThoseOfTheResults(t *testing.T) {
	all := load(t)
	for _, result := range results {
		if _, ok := all.Texts[result.name+":conditions"]; !ok {
			t.Errorf("%s/%s.json is missing; run: scripts/measure.sh", folder, result.name)
		}
	}
	for name, picture := range all.Pictures {
		drawn, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || !bytes.Equal(drawn, picture) {
			t.Errorf("%s is not what the results are (%v)%s", name, err, advice)
		}
	}
	there, err := filepath.Glob(folder + "/*.svg")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range there {
		if _, made := all.Pictures[filepath.Base(file)]; !made {
			t.Errorf("%s is made of no result: remove it", file)
		}
	}
}

// Results are public: they tell of the machine what conditions say, and no more.
func TestResultsNameNoPath(t *testing.T) {
	files, err := filepath.Glob(folder + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{"/tmp/", "/home/", "/root/", "/build/"} {
			if bytes.Contains(text, []byte(path)) {
				t.Errorf("%s has a path of the machine that it was measured on: %s…", file, path)
			}
		}
	}
}

func TestFill(t *testing.T) {
	f := Figures{Texts: map[string]string{"a:x": "| 1 |\n", "a:y": "two\nlines\n"}}
	tests := []struct{ name, page, want, err string }{
		{"nothing to fill", "text\n", "text\n", ""},
		{"empty", "a\n<!-- figures a:x -->\n<!-- /figures -->\nb\n",
			"a\n<!-- figures a:x -->\n\n| 1 |\n\n<!-- /figures -->\nb\n", ""},
		{"old", "<!-- figures a:y -->\n\nold\n\nolder\n\n<!-- /figures -->\n",
			"<!-- figures a:y -->\n\ntwo\nlines\n\n<!-- /figures -->\n", ""},
		{"shown as text", "```\n<!-- figures a:x -->\n```\n", "```\n<!-- figures a:x -->\n```\n", ""},
		{"unknown", "\n<!-- figures a:z -->\n<!-- /figures -->\n", "", `line 2: no figures "a:z"; there are a:x, a:y`},
		{"not closed", "<!-- figures a:x -->\n", "", "a:x is not closed"},
		{"one in another", "<!-- figures a:x -->\n<!-- figures a:y -->\n<!-- /figures -->\n", "", "line 2: a:x is not closed"},
		{"not opened", "<!-- /figures -->\n", "", "line 1: nothing to close"},
	}
	for _, test := range tests {
		got, err := f.Fill(test.page)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%s: the error is %v, want %s", test.name, err, test.err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
		if again, err := f.Fill(got); err != nil || again != got {
			t.Errorf("%s: filled again, it is %q, %v", test.name, again, err)
		}
	}
}

func TestBrokenResults(t *testing.T) {
	dir := t.TempDir()
	if all, err := Load(dir); err != nil || len(all.Texts) != 0 {
		t.Errorf("no results: %v, %v", all, err)
	}
	for _, text := range []string{"", "{}", `{"servers":[{"name":"a"}]}`, "[]"} {
		if err := os.WriteFile(filepath.Join(dir, "bench.json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "bench.json: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
