//go:build linux

// Command generate writes what is generated in the documentation: quoted code, measured
// figures and their charts, counts, who holds each rule of the contract, and the page
// that lists the exercises. `go generate ./docs` runs it.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"

	"github.com/campoy/embedmd/embedmd"

	"lesson/internal/tool/check"
	"lesson/internal/tool/exercise"
	"lesson/internal/tool/next"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate ROOT, the folder of the repository")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// write writes the files that differ from what they should be.
func write(root string) error {
	files, err := generated(root)
	if err != nil {
		return err
	}
	for _, line := range untranslated(files) {
		fmt.Fprintln(os.Stderr, line)
	}
	for name, want := range files {
		file := filepath.Join(root, name)
		is, err := os.ReadFile(file)
		if err == nil && bytes.Equal(is, want) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(file, want, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generated returns the content of each generated file, by its path from root.
func generated(root string) (map[string][]byte, error) {
	texts, files, err := figures(root)
	if err != nil {
		return nil, err
	}
	gallery, err := exercise.Carried()
	if err != nil {
		return nil, err
	}
	files["docs/exercises/README.md"] = []byte(gallery.Page(check.Cases()))
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		return nil, err
	}
	rules, err := rules(root, pages)
	if err != nil {
		return nil, err
	}
	for rule, held := range rules {
		texts["contract:"+rule] = held
	}
	for section, vectors := range epollRules() {
		texts["epoll:"+section] = vectors
	}
	for _, stage := range check.Stages() {
		texts[fmt.Sprintf("stage:%d", stage.Number)] = stage.Markdown()
	}
	texts["real-servers"] = check.RealServersTable()
	steps, err := next.Steps()
	if err != nil {
		return nil, err
	}
	for _, step := range steps {
		texts["now:"+step.Chapter] = next.Markdown(steps, step.Chapter)
	}
	counts := map[string]string{
		"cases":     strconv.Itoa(len(check.Cases())),
		"exercises": strconv.Itoa(len(gallery.Exercises)),
	}
	for _, file := range append(pages, filepath.Join(root, "README.md")) {
		name, err := filepath.Rel(root, file)
		if err != nil {
			return nil, err
		}
		if files[name], err = page(file, texts, counts); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	others, err := translated(root, files, counts)
	if err != nil {
		return nil, err
	}
	maps.Copy(files, others)
	return files, nil
}

// page returns a page with its code, its figures and its counts filled in.
func page(file string, texts, counts map[string]string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var quoted bytes.Buffer
	dir := embedmd.WithBaseDir(filepath.Dir(file))
	if err := embedmd.Process(&quoted, bytes.NewReader(text), dir); err != nil {
		return nil, err
	}
	filled, err := fill(quoted.String(), texts)
	if err != nil {
		return nil, err
	}
	filled, err = fillCounts(filled, counts)
	return []byte(filled), err
}
