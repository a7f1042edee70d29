//go:build linux

package explore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lesson/internal/proof"
)

func TestWithBegin(t *testing.T) {
	for _, c := range []struct{ name, source, zero, init, value string }{
		{"nothing", "const c = 1\ntype t int\nfunc main() { var x int }", "", "", ""},
		{"a zero value", "var ep int", "\tep = *new(int)\n", "", ""},
		{"two names", "var mu, other sync.Mutex",
			"\tmu = *new(sync.Mutex)\n\tother = *new(sync.Mutex)\n", "", ""},
		{"a value keeps its place", "var jobs = make(chan int)", "", "",
			"\tjobs = /*line main.go:2:12*/make(chan int)\n"},
		{"two values", "var (\n\ta, _ = 1, f()\n)", "", "",
			"\ta, _ = /*line main.go:3:9*/1, /*line main.go:3:12*/f()\n"},
		{"a blank name", "var _ fmt.Stringer = nil", "", "", ""},
		{"an embedded file", "//go:embed page.html\nvar page string", "", "", ""},
		{"a comment", "// page is embedded.\nvar page string", "\tpage = *new(string)\n", "", ""},
		{"an init", "func init() { f() }", "", "\tlessonInit0_18()\n", ""},
		{"a method", "func (t) init() {}", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			const head = "package main\n"
			got, err := withBegin("main.go", []byte(head+c.source), 0)
			proof.Must(t, err)
			source := strings.Replace(c.source, "func init()", "func lessonInit0_18()", 1)
			want := head + source + "\nfunc lessonZero0() {\n" + c.zero + "}\n\nfunc lessonInit0_() {\n" + c.init +
				"}\n\nfunc lessonValue0() {\n" + c.value + "}\n"
			if string(got) != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	if _, err := withBegin("main.go", []byte("import"), 0); err == nil {
		t.Error("a file that is no Go source is accepted")
	}
}

// A program with variables at package level, a flag, an init, a channel and timers that
// outlive an order begins again in each order: else it would fail.
func TestVariablesBeginAgain(t *testing.T) {
	proof.OnlyExhaustive(t, "builds a program and explores it for 3 s")
	dir := t.TempDir()
	for name, from := range map[string]string{
		"main.go": "testdata/variables.go", "go.mod": "../../../go.mod", "go.sum": "../../../go.sum",
	} {
		text, err := os.ReadFile(from)
		proof.Must(t, err)
		proof.Must(t, os.WriteFile(filepath.Join(dir, name), text, 0o644))
	}
	target, err := Folder(t.Context(), dir, []string{"-addr", "{addr}"})
	proof.Must(t, err)
	defer func() { proof.Must(t, target.Close()) }()
	r, err := target.Explore(t.Context(), Options{Depth: 1, Faults: Faults{Short: true, Errors: true}})
	proof.Must(t, err)
	if r.Failure != nil {
		var story strings.Builder
		r.Print(&story, 0)
		t.Error(story.String())
	}
}
