//go:build linux

package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lesson/internal/proof"
)

const root = "../.."

// Each file is what would be generated, and no picture is left of what is no longer drawn.
func TestNothingIsLeftToGenerate(t *testing.T) {
	files, err := generated(root)
	proof.Must(t, err)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		is, err := os.ReadFile(filepath.Join(root, name))
		proof.Must(t, err)
		if !bytes.Equal(is, files[name]) {
			t.Errorf("%s:%d is out of date; run: go generate ./docs", name, differ(is, files[name]))
		}
	}
	drawn, err := filepath.Glob(filepath.Join(root, results, "*.svg"))
	proof.Must(t, err)
	for _, file := range drawn {
		if files[filepath.Join(results, filepath.Base(file))] == nil {
			t.Errorf("%s is drawn of no result: remove it", file)
		}
	}
}

// differ returns the first line, from 1, in which two texts differ.
func differ(a, b []byte) int {
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	i := 0
	for i < min(len(x), len(y)) && bytes.Equal(x[i], y[i]) {
		i++
	}
	return i + 1
}

// Every marker is used, so that a page cannot lose its figures unseen.
func TestWhatIsGenerated(t *testing.T) {
	var pages strings.Builder
	files, err := generated(root)
	proof.Must(t, err)
	for name, text := range files {
		if filepath.Ext(name) == ".md" {
			pages.Write(text)
		}
	}
	for _, marker := range []string{
		"\n[embedmd]:# (", "\n<!-- figures bench:cost -->", "\n<!-- figures stall:",
		"\n<!-- figures peers:", "\n<!-- figures crowd:idle -->", "\n<!-- figures contract:B17 -->",
		"<!-- count cases -->", "<!-- count exercises -->",
	} {
		if !strings.Contains(pages.String(), marker) {
			t.Errorf("no page has %q", strings.TrimSpace(marker))
		}
	}
}

// Results are public: what they tell of the machine is what "conditions" says.
func TestResultsNameNoPath(t *testing.T) {
	for _, m := range measurements {
		text, err := os.ReadFile(filepath.Join(root, results, m.name+".json"))
		if err != nil {
			t.Errorf("%v; run: scripts/measure.sh", err)
		}
		for _, path := range []string{"/tmp/", "/home/", "/root/", "/build/"} {
			if bytes.Contains(text, []byte(path)) {
				t.Errorf("%s.json has a path of the machine that measured it: %s…", m.name, path)
			}
		}
	}
}

func TestFill(t *testing.T) {
	texts := map[string]string{"a:x": "| 1 |\n", "a:y": "two\nlines\n"}
	tests := []struct{ name, page, want, err string }{
		{"nothing to fill", "text\n", "text\n", ""},
		{"empty", "a\n<!-- figures a:x -->\n<!-- /figures -->\nb\n",
			"a\n<!-- figures a:x -->\n\n| 1 |\n\n<!-- /figures -->\nb\n", ""},
		{"old", "<!-- figures a:y -->\n\nold\n\nolder\n\n<!-- /figures -->\n",
			"<!-- figures a:y -->\n\ntwo\nlines\n\n<!-- /figures -->\n", ""},
		{"shown as text", "```\n<!-- figures a:x -->\n```\n",
			"```\n<!-- figures a:x -->\n```\n", ""},
		{"unknown", "\n<!-- figures a:z -->\n<!-- /figures -->\n", "",
			`line 2: no figures "a:z"; there are a:x, a:y`},
		{"not closed", "<!-- figures a:x -->\n", "", "a:x is not closed"},
		{"one in another", "<!-- figures a:x -->\n<!-- figures a:y -->\n<!-- /figures -->\n", "",
			"line 2: a:x is not closed"},
		{"not opened", "<!-- /figures -->\n", "", "line 1: nothing to close"},
	}
	for _, test := range tests {
		got, err := fill(test.page, texts)
		if test.err != "" {
			if err == nil || err.Error() != test.err {
				t.Errorf("%s: the error is %v, want %s", test.name, err, test.err)
			}
			continue
		}
		if err != nil || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.name, got, err, test.want)
		}
		if again, err := fill(got, texts); err != nil || again != got {
			t.Errorf("%s: filled again, it is %q, %v", test.name, again, err)
		}
	}
}

func TestFillCounts(t *testing.T) {
	counts := map[string]string{"cases": "74"}
	const page = "of <!-- count cases -->73<!-- /count --> or <!-- count cases --><!-- /count -->."
	const want = "of <!-- count cases -->74<!-- /count --> or <!-- count cases -->74<!-- /count -->."
	for _, page := range []string{page, want} {
		if got, err := fillCounts(page, counts); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	for _, wrong := range []string{"x <!-- count birds -->1<!-- /count -->", want[3:]} {
		if got, err := fillCounts(wrong, counts); err == nil {
			t.Errorf("%s: %q, want an error", wrong, got)
		}
	}
}

func TestBrokenResults(t *testing.T) {
	dir := t.TempDir()
	if texts, _, err := figures(dir); err != nil || len(texts) != 0 {
		t.Errorf("no results: %v, %v", texts, err)
	}
	proof.Must(t, os.MkdirAll(filepath.Join(dir, results), 0o755))
	for _, text := range []string{"", "{}", `{"servers":[{"name":"a"}]}`, "[]"} {
		proof.Must(t, os.WriteFile(filepath.Join(dir, results, "bench.json"), []byte(text), 0o644))
		if _, _, err := figures(dir); err == nil || !strings.Contains(err.Error(), "bench.json: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCitations(t *testing.T) {
	const contract = "# What\n\n## B1\n\n## B2\n"
	const cites = "package p\n\n// x. Contract: B1, B2.\nfunc TestIt(t *testing.T) {}\n"
	one := strings.ReplaceAll(cites, ", B2", "")
	tests := []struct{ name, test, page, err string }{
		{"by a comment", cites, "", ""},
		{"by a subtest", one + fmt.Sprintf("\nvar x = %q\n", "B"+"2 is held"), "", ""},
		{"of one rule only", one, "", "no test cites B2"},
		{"of no rule, by a test", strings.ReplaceAll(cites, "B1", "B1, B9"), "", "has no rule B9"},
		{"of no rule, by a page", cites, "# Page\n[B8](contract.md#b8)\n", "has no rule B8"},
	}
	for _, test := range tests {
		dir := t.TempDir()
		proof.Must(t, os.Mkdir(filepath.Join(dir, "docs"), 0o755))
		var pages []string
		for file, text := range map[string]string{
			"docs/contract.md": contract, "docs/page.md": "# Page\n" + test.page,
			"it_test.go": test.test,
		} {
			proof.Must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644))
			if filepath.Ext(file) == ".md" {
				pages = append(pages, filepath.Join(dir, file))
			}
		}
		lists, err := rules(dir, pages)
		switch {
		case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
			t.Errorf("%s: %v, want %q", test.name, err, test.err)
		case test.err == "" && (err != nil || !strings.Contains(lists["B2"], "it_test.go")):
			t.Errorf("%s: %q, %v", test.name, lists, err)
		}
	}
}
