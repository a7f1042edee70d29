//go:build linux

package book

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"lesson/docs"
	"lesson/internal/lesson"
)

// Files is all source files that can be shown: those of the lessons, and
// "exercise/NAME/main.go" of each exercise.
var Files = sync.OnceValue(func() []string {
	var files []string
	for _, l := range lesson.All() {
		for _, file := range l.Files {
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	for _, name := range glob(docs.Exercises, "exercises/*/main.go") {
		files = append(files, strings.Replace(name, "exercises/", "exercise/", 1))
	}
	return files
})

// Source returns the text of one of Files.
func Source(file string) (string, error) {
	if !slices.Contains(Files(), file) {
		return "", fmt.Errorf("no source file %q", file)
	}
	if rest, ok := strings.CutPrefix(file, "exercise/"); ok {
		text, err := fs.ReadFile(docs.Exercises, path.Join("exercises", rest))
		return string(text), err
	}
	return lesson.Source(file)
}

// A Place is a line of a source file.
type Place struct {
	File string
	Line int
}

// places returns where the words of a lesson's chapter are in its source: functions
// under their names, and system calls under those of the manual, where they are
// first made.
func places(files []string) map[string]Place {
	found := map[string]Place{}
	add := func(name string, at Place) {
		if _, known := found[name]; !known {
			found[name] = at
		}
	}
	for _, file := range files {
		text, err := Source(file)
		if err != nil {
			continue // what is not carried cannot be linked to
		}
		positions := token.NewFileSet()
		parsed, err := parser.ParseFile(positions, file, text, parser.SkipObjectResolution)
		if err != nil {
			continue
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				add(f.Name.Name, Place{file, positions.Position(f.Name.Pos()).Line})
			}
		}
		for i, line := range strings.Split(text, "\n") {
			if m := kernelCall.FindStringSubmatch(line); m != nil {
				add(manualName(m[1]), Place{file, i + 1})
			}
		}
	}
	return found
}

var (
	kernelCall = regexp.MustCompile(`\bKernel\.([A-Z]\w+)\(`)
	wordStart  = regexp.MustCompile(`([a-z0-9])([A-Z])`)
)

// manualName returns the manual's name of a method of kernel.Kernel: "epoll_wait".
func manualName(method string) string {
	return strings.ToLower(wordStart.ReplaceAllString(method, "${1}_${2}"))
}
