package site

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"strconv"
	"strings"
	"testing"

	"lesson/docs"
	"lesson/internal/proof"
)

// The lessons are compiled as they are, but for the build constraint: each line keeps its
// number and its text.
func TestLessonsAreCopied(t *testing.T) {
	files, err := module()
	proof.Must(t, err)
	for _, s := range Servers {
		for _, name := range s.Files {
			want, err := s.source(name)
			proof.Must(t, err)
			copied := files[name]
			if s.exercise() {
				copied = files["docs/exercises/"+name]
				want = asPackage.Replace(want)
			}
			before, after := strings.Split(want, "\n"), strings.Split(copied, "\n")
			if len(before) != len(after) {
				t.Errorf("%s: %d lines, want %d", name, len(after), len(before))
				continue
			}
			if s.exercise() && !strings.Contains(copied, "\nfunc Main() {\n") {
				t.Errorf("%s has no Main", name)
			}
			if after[0] != "//go:build linux || js" {
				t.Errorf("%s begins with %q", name, after[0])
			}
			for i := range before {
				if i > 0 && before[i] != after[i] {
					t.Errorf("%s:%d: %q, want %q", name, i+1, after[i], before[i])
				}
			}
		}
	}
	for _, name := range leftOut {
		if _, found := files[name]; found {
			t.Errorf("%s is left out, and was copied", name)
		}
	}
}

// An exercise differs in its package, its main function, and its clock.
func TestExercisesAreCopied(t *testing.T) {
	files, err := module()
	proof.Must(t, err)
	for _, s := range Servers {
		if !s.exercise() {
			continue
		}
		text, err := docs.Exercises.ReadFile("exercises/" + s.Files[0])
		proof.Must(t, err)
		before, after := strings.Split(string(text), "\n"), strings.Split(files["docs/exercises/"+s.Files[0]], "\n")
		changed := 0
		for i := range before {
			if before[i] != after[i] {
				changed++
			}
		}
		clocks := strings.Count(string(text), "time.Now()") + strings.Count(string(text), "time.Until(")
		if changed != 3+clocks {
			t.Errorf("%s: %d lines are changed, want 3 and %d with a clock", s.Name, changed, clocks)
		}
	}
}

// What the lessons use of golang.org/x/sys/unix is in the package that takes its place.
func TestNothingIsMissing(t *testing.T) {
	files, err := module()
	proof.Must(t, err)
	here := make(map[string]bool)
	parsed, err := parser.ParseFile(token.NewFileSet(), "unix.go", unixPackage, 0)
	proof.Must(t, err)
	for _, d := range parsed.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			here[d.Name.Name] = true
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					here[spec.Name.Name] = true
				case *ast.ValueSpec:
					here[spec.Names[0].Name] = true
				}
			}
		}
	}
	for name, text := range files {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, 0)
		proof.Must(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			used, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if from, ok := used.X.(*ast.Ident); ok && from.Name == "unix" && !here[used.Sel.Name] {
				t.Errorf("%s uses unix.%s: add it to internal/site/unix/unix.go", name, used.Sel.Name)
			}
			return true
		})
		for _, i := range file.Imports {
			imported, _ := strconv.Unquote(i.Path.Value)
			if folder, ours := strings.CutPrefix(imported, "lesson/"); ours && !holds(files, folder) {
				t.Errorf("%s imports %s, which the module does not have", name, imported)
			}
		}
	}
}

// holds reports whether one of the files is in the folder.
func holds(files map[string]string, folder string) bool {
	for name := range files {
		if path.Dir(name) == folder {
			return true
		}
	}
	return false
}
