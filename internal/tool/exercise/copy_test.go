//go:build linux

package exercise

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lesson/docs"
	"lesson/internal/child"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// names are the files of a folder, those that begin with "." too.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return strings.Join(all, " ")
}

func TestCopyOut(t *testing.T) {
	g := loadFixture(t, fixture())
	e := g.Exercises[1]
	parent := t.TempDir()
	dir, err := g.copyOut(e, parent, "")
	if err != nil || dir != filepath.Join(parent, e.Name) {
		t.Fatalf("%s, %v", dir, err)
	}
	if got := names(t, parent); got != e.Name {
		t.Errorf("beside the copy there are %s", got)
	}
	if got := names(t, dir); got != "README.md go.mod go.sum main.go" {
		t.Errorf("in the copy there are %s", got)
	}
	if got := read(t, dir, "main.go"); got != e.Source {
		t.Errorf("main.go is %q", got)
	}
	if got := read(t, dir, "go.mod"); !strings.HasPrefix(got, "module "+e.Name+"\n") {
		t.Errorf("go.mod is %q", got)
	}

	// The README says what the matter is, and gives nothing away.
	task := read(t, dir, "README.md")
	for _, want := range []string{"# 06 One read per edge", "> \"Big requests hang. Small ones\n> are fine.\"\n",
		"see chapter 5 (docs/05-edge-triggered.md).", "curl http://127.0.0.1:8080/",
		"lesson exercise hint 06-one-read-per-edge"} {
		if !strings.Contains(task, want) {
			t.Errorf("README.md does not say %q:\n%s", want, task)
		}
	}
	for _, never := range []string{"Read up to EAGAIN", "A loop around read", "../"} {
		if strings.Contains(task, never) {
			t.Errorf("README.md says %q:\n%s", never, task)
		}
	}
}

// What is there stays as it is.
func TestCopyOutOverwritesNothing(t *testing.T) {
	g := loadFixture(t, fixture())
	e := g.Exercises[0]
	tests := []struct {
		what string
		make func(path string) error
	}{
		{"an empty folder", func(path string) error { return os.Mkdir(path, 0o755) }},
		{"a file", func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) }},
		{"a link to nowhere", func(path string) error { return os.Symlink("nowhere", path) }},
	}
	for _, test := range tests {
		parent := t.TempDir()
		target := filepath.Join(parent, e.Name)
		if err := test.make(target); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(target)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.copyOut(e, parent, ""); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: the error is %v, want %v", test.what, err, fs.ErrExist)
		}
		after, err := os.Lstat(target)
		if err != nil || !os.SameFile(before, after) || names(t, parent) != e.Name {
			t.Errorf("%s: there are %s (%v)", test.what, names(t, parent), err)
		}
	}
}

func TestRestore(t *testing.T) {
	e := loadFixture(t, fixture()).Exercises[0]
	dir := t.TempDir()
	main := filepath.Join(dir, "main.go")
	tests := []struct {
		what, mine string // "" is no file
		kept       string
	}{
		{"fixed", "one", "main.go.bak"},
		{"fixed again", "two", "main.go.bak2"},
		{"and again", "three", "main.go.bak3"},
		{"the original", brokenSource, ""},
		{"removed", "", ""},
	}
	for _, test := range tests {
		if test.mine == "" {
			if err := os.Remove(main); err != nil {
				t.Fatal(err)
			}
		} else {
			write(t, test.mine, main)
		}
		kept, err := e.restore(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(main); err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: main.go is %v, %v; want mode 0644", test.what, info.Mode(), err)
		}
		if test.kept == "" && kept != "" || test.kept != "" && kept != filepath.Join(dir, test.kept) {
			t.Errorf("%s: kept as %q, want %q", test.what, kept, test.kept)
		}
		if test.kept != "" && read(t, kept) != test.mine {
			t.Errorf("%s: kept %q, want %q", test.what, read(t, kept), test.mine)
		}
		if got := read(t, main); got != e.Source {
			t.Errorf("%s: main.go is %q", test.what, got)
		}
	}
	if got := names(t, dir); got != "main.go main.go.bak main.go.bak2 main.go.bak3" {
		t.Errorf("there are %s", got)
	}
}

// A copy builds on its own, wherever it is, and without a network.
func TestCopyBuilds(t *testing.T) {
	folder := fixture()
	for _, name := range []string{"go.mod.txt", "go.sum.txt"} {
		text, err := docs.Exercises.ReadFile("exercises/" + name)
		if err != nil {
			t.Fatal(err)
		}
		folder[name] = file(string(text))
	}
	folder["01-last-chunk/main.go"] = file(`package main

import "golang.org/x/sys/unix"

func main() { println(unix.Getpid()) }
`)
	g := loadFixture(t, folder)
	t.Setenv("GOPROXY", "off")
	parent := t.TempDir()
	write(t, "go 1.26.0\n", parent, "go.work") // not ours
	dir, err := g.copyOut(g.Exercises[0], parent, "")
	if err != nil {
		t.Fatal(err)
	}
	before := names(t, dir)
	program := filepath.Join(t.TempDir(), "program")
	if err := child.Build(t.Context(), dir, program); err != nil {
		var broken *child.BuildError
		errors.As(err, &broken)
		t.Fatalf("%v: %+v", err, broken)
	}
	if _, err := os.Stat(program); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); got != before {
		t.Errorf("building has made %s of %s", got, before)
	}
}

// What go build says is what the learner sees.
func TestBuildErrors(t *testing.T) {
	dir, program := t.TempDir(), filepath.Join(t.TempDir(), "program")
	write(t, "module x\n\ngo 1.26.0\n", dir, "go.mod")
	write(t, "package main\n\nfunc main() { undefined() }\n", dir, "main.go")
	err := child.Build(t.Context(), dir, program)
	var broken *child.BuildError
	if !errors.As(err, &broken) || broken.Output != "# x\n./main.go:3:15: undefined: undefined\n" {
		t.Errorf("%v: %+v", err, broken)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := child.Build(ctx, dir, program); err != context.Canceled {
		t.Errorf("the error is %v, want %v", err, context.Canceled)
	}

	t.Setenv("PATH", "")
	if err := child.Build(t.Context(), dir, program); err == nil || errors.As(err, &broken) {
		t.Errorf("without a go command: %v", err)
	}
}
