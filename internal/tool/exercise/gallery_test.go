//go:build linux

package exercise

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lesson/internal/tool/check"
)

func TestLoad(t *testing.T) {
	g := loadFixture(t, fixture())
	var names []string
	for _, e := range g.Exercises {
		names = append(names, e.Name)
	}
	want := []string{"01-last-chunk", "06-one-read-per-edge", "16-unbounded-buffer"}
	if !slices.Equal(names, want) {
		t.Fatalf("the exercises are %q, want %q", names, want)
	}
	e := g.Exercises[1]
	if e.Number != 6 || e.Title != "One read per edge" || e.Kind.Name != "edge-triggered" ||
		e.Kind.Model != check.EventLoop || e.Kind.Chapter != "05-edge-triggered.md" ||
		e.Symptom != `"Big requests hang. Small ones are fine."` || len(e.Hints) != 3 ||
		e.Source != brokenSource || e.Patch != goodPatch ||
		!slices.Equal(e.Cases, []string{"requests/large", "requests/split-terminator"}) {
		t.Errorf("%+v", e)
	}
	for i, model := range []check.Model{check.Loop, check.EventLoop, check.Threaded} {
		if got := g.Exercises[i].Kind.Model; got != model {
			t.Errorf("%s is judged as %s, want %s", names[i], got, model)
		}
	}
}

// What is missing or wrong is named, with its file.
func TestLoadErrors(t *testing.T) {
	const name = "06-one-read-per-edge"
	tests := []struct {
		what   string
		change func(fstest.MapFS)
		want   string
	}{
		{"no main.go", func(f fstest.MapFS) { delete(f, name+"/main.go") }, name + "/main.go"},
		{"no README.md", func(f fstest.MapFS) { delete(f, name+"/README.md") }, name + "/README.md"},
		{"no patch", func(f fstest.MapFS) { delete(f, name+"/solution.patch") }, name + "/solution.patch"},
		{"no cases.txt", func(f fstest.MapFS) { delete(f, name+"/cases.txt") }, name + "/cases.txt"},
		{"no cases", func(f fstest.MapFS) { f[name+"/cases.txt"] = file("\n") }, name + "/cases.txt"},
		{"a word that means nothing", func(f fstest.MapFS) {
			f[name+"/cases.txt"] = file("requests/large\nlimits/endless often\n")
		}, name + "/cases.txt: \"limits/endless often\""},
		{"what it is about is not certain", func(f fstest.MapFS) {
			f[name+"/cases.txt"] = file("requests/large sometimes\n")
		}, name + "/cases.txt"},
		{"no go.mod.txt", func(f fstest.MapFS) { delete(f, "go.mod.txt") }, "go.mod.txt"},
		{"no go.sum.txt", func(f fstest.MapFS) { delete(f, "go.sum.txt") }, "go.sum.txt"},
		{"a README without hints", func(f fstest.MapFS) {
			f[name+"/README.md"] = file("# 06 Title\n")
		}, name + "/README.md: "},
		{"a README for another number", func(f fstest.MapFS) {
			f[name+"/README.md"] = file(readmeFor("07", "Title", "05-edge-triggered.md"))
		}, "is about number 07"},
		{"a chapter that no server is from", func(f fstest.MapFS) {
			f[name+"/README.md"] = file(readmeFor("06", "Title", "10-go-already-does-this.md"))
		}, "10-go-already-does-this.md"},
		{"the same number twice", func(f fstest.MapFS) {
			for _, part := range []string{"main.go", "README.md", "solution.patch", "cases.txt"} {
				f["06-twin/"+part] = f[name+"/"+part]
			}
		}, "have the same number"},
	}
	for _, test := range tests {
		folder := fixture()
		test.change(folder)
		if _, err := Load(folder); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want one with %q", test.what, err, test.want)
		}
	}
}

func TestFind(t *testing.T) {
	g := loadFixture(t, fixture())
	tests := []struct {
		name, found string
		near        string // when it is not found
	}{
		{name: "06-one-read-per-edge", found: "06-one-read-per-edge"},
		{name: "one-read-per-edge", found: "06-one-read-per-edge"},
		{name: "6", found: "06-one-read-per-edge"},
		{name: "06", found: "06-one-read-per-edge"},
		{name: "1", found: "01-last-chunk"},
		{name: "16", found: "16-unbounded-buffer"},
		{name: "60"},
		{name: "0"},
		{name: "-6"},
		{name: ""},
		{name: "nothing-like-it"},
		{name: "read", near: "06-one-read-per-edge"},
		{name: "one-raed-per-edge", near: "06-one-read-per-edge"},
		{name: "06-one-read", near: "06-one-read-per-edge"},
		{name: "07-One-Read-Per-Edge", near: "06-one-read-per-edge"},
		{name: "lastchunk", near: "01-last-chunk"},
		{name: "un", near: "01-last-chunk, 16-unbounded-buffer"},
	}
	for _, test := range tests {
		e, err := g.Find(test.name)
		if e.Name != test.found {
			t.Errorf("%q finds %q, want %q", test.name, e.Name, test.found)
		}
		if test.found != "" {
			if err != nil {
				t.Errorf("%q: %v", test.name, err)
			}
			continue
		}
		var unknown *UnknownError
		if !errors.As(err, &unknown) || strings.Join(unknown.Near, ", ") != test.near {
			t.Errorf("%q: %v, want an UnknownError near %q", test.name, err, test.near)
			continue
		}
		hint := test.near
		if hint == "" {
			hint = "lesson exercise list"
		}
		if !strings.Contains(err.Error(), hint) {
			t.Errorf("%q: the error does not say %q: %v", test.name, hint, err)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "abd", 1},
		{"abc", "ab", 1}, {"abc", "xabc", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 2},
	}
	for _, test := range tests {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("from %q to %q: %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

func TestPatched(t *testing.T) {
	tests := []struct {
		what, patch, want string // want "" is an error
	}{
		{"it fits", goodPatch, repairedSource},
		{"with the names of diff -u", strings.NewReplacer("a/main.go", "main.go.orig\t2026-01-01",
			"b/main.go", "main.go\t2026-01-02").Replace(goodPatch), repairedSource},
		{"another context", strings.Replace(goodPatch, "func main", "func other", 1), ""},
		{"another line number", strings.Replace(goodPatch, "-1,5 +1,5", "-2,5 +2,5", 1), ""},
		{"another file", strings.ReplaceAll(goodPatch, "main.go", "other.go"), ""},
		{"two files", goodPatch + goodPatch, ""},
		{"empty", "", ""},
		{"no patch", "nothing\n", ""},
	}
	for _, test := range tests {
		got, err := Exercise{Name: "06-x", Source: brokenSource, Patch: test.patch}.Patched()
		if (err == nil) != (test.want != "") || got != test.want {
			t.Errorf("%s: %q, %v; want %q", test.what, got, err, test.want)
		}
		if err != nil && !strings.Contains(err.Error(), "06-x/solution.patch") {
			t.Errorf("%s: the error does not name the file: %v", test.what, err)
		}
	}
}

// A case that fails only in some runs is a case of the exercise, with a mark of its own.
func TestParseCases(t *testing.T) {
	var e Exercise
	err := e.parseCases("a/first\nb/second sometimes\n\nc/third\nd/fourth unasked\n")
	for address, want := range map[string]string{
		"a/first": "●", "b/second": "◌", "c/third": "○", "d/fourth": "–", "e/fifth": "",
	} {
		if got := e.mark(check.Case{Address: address}); got != want || err != nil {
			t.Errorf("the mark of %s is %q, want %q (%v)", address, got, want, err)
		}
	}
}
