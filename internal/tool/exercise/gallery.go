//go:build linux

// Package exercise provides a gallery of servers that are broken on purpose, and a
// learner's way through it: a copy to fix, hints, a judge, and a record of the
// progress. The exercises themselves are in docs/exercises.
package exercise

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"lesson/docs"
	"lesson/internal/tool/check"
)

// An Exercise is one server with one fault.
type Exercise struct {
	Name    string // of its folder: "06-one-read-per-edge"
	Number  int
	Title   string
	Symptom string // as a user would report it, in quotation marks, on one line
	Kind    Kind
	Hints   []string // three, of rising clarity, in Markdown
	// Solution says what to change, why that works, and who else got it
	// wrong, in Markdown.
	Solution string
	// Cases are the addresses of the cases that fail. The one that the
	// exercise is about is the first. Some of them fail only sometimes: that
	// depends on the order of events.
	Cases, Sometimes []string
	// Unasked are the addresses of cases that do not apply to the server, although they do
	// to others of its kind. Its README says why.
	Unasked []string

	Source string // main.go, with the bug
	Patch  string // fixes it: a unified diff
	readme readme
}

// A Kind is how a server waits, and the chapter that explains it.
type Kind struct {
	Name    string // "edge-triggered"
	Chapter string // its file in docs: "05-edge-triggered.md"
	Model   check.Model
}

// kinds are the servers that there are exercises with. The chapter that the
// README of an exercise links to first says which one it is.
var kinds = []Kind{
	{"loop", "02-a-loop.md", check.Loop},
	{"threaded", "03-a-goroutine-each.md", check.Threaded},
	{"level-triggered", "04-level-triggered.md", check.EventLoop},
	{"edge-triggered", "05-edge-triggered.md", check.EventLoop},
	{"several threads", "11-many-cores-and-machines.md", check.EventLoops},
}

// A Gallery is all exercises, in order, and what a copy of one needs to build
// on its own.
type Gallery struct {
	Exercises []Exercise

	goMod, goSum string
}

// Carried is the gallery that the program carries.
func Carried() (*Gallery, error) {
	folder, err := fs.Sub(docs.Exercises, "exercises")
	if err != nil {
		return nil, err
	}
	return Load(folder)
}

// folderName is the name of an exercise's folder. Others are no exercises.
var folderName = regexp.MustCompile(`^(\d\d)-[a-z0-9-]+$`)

// Load reads a gallery: docs/exercises, or a folder made like it. The error
// names every file that is missing or has not the shape it must have.
func Load(folder fs.FS) (*Gallery, error) {
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return nil, err
	}
	read := reader{folder: folder}
	g := &Gallery{goMod: read.file("go.mod.txt"), goSum: read.file("go.sum.txt")}
	for _, entry := range entries {
		if entry.IsDir() && folderName.MatchString(entry.Name()) {
			e, err := load(folder, entry.Name())
			g.Exercises = append(g.Exercises, e)
			read.err = errors.Join(read.err, err)
		}
	}
	if read.err != nil {
		return nil, read.err
	}
	for i, e := range g.Exercises {
		if i > 0 && e.Number == g.Exercises[i-1].Number {
			return nil, fmt.Errorf("%s and %s have the same number", g.Exercises[i-1].Name, e.Name)
		}
	}
	return g, nil
}

// A reader reads files and keeps what goes wrong.
type reader struct {
	folder fs.FS
	err    error
}

func (r *reader) file(name string) string {
	text, err := fs.ReadFile(r.folder, name)
	if err != nil {
		r.err = errors.Join(r.err, err)
	}
	return string(text)
}

func load(folder fs.FS, name string) (Exercise, error) {
	read := reader{folder: folder}
	e := Exercise{
		Name:   name,
		Source: read.file(path.Join(name, "main.go")),
		Patch:  read.file(path.Join(name, "solution.patch")),
	}
	list := read.file(path.Join(name, "cases.txt"))
	text := read.file(path.Join(name, "README.md"))
	if read.err != nil {
		return e, read.err
	}
	var err error
	if err = e.parseCases(list); err != nil {
		return e, fmt.Errorf("%s/cases.txt: %w", name, err)
	}
	e.readme, err = parseReadme(text)
	if err != nil {
		return e, fmt.Errorf("%s/README.md: %w", name, err)
	}
	e.Number, err = strconv.Atoi(folderName.FindStringSubmatch(name)[1])
	if err != nil {
		return e, err
	}
	if e.readme.number != e.Number {
		return e, fmt.Errorf("%s/README.md is about number %02d", name, e.readme.number)
	}
	e.Title, e.Symptom = e.readme.title, strings.ReplaceAll(e.readme.quote, "\n", " ")
	e.Hints, e.Solution = e.readme.hints, e.readme.solution
	i := slices.IndexFunc(kinds, func(k Kind) bool { return k.Chapter == e.readme.chapter })
	if i < 0 {
		return e, fmt.Errorf("%s/README.md: there are no exercises with %q", name, e.readme.chapter)
	}
	e.Kind = kinds[i]
	return e, nil
}

// parseCases parses cases.txt: an address a line, the one that the exercise is about
// first. A word may follow: "sometimes" after a case that fails only in some runs,
// "unasked" after one that does not apply to the server.
func (e *Exercise) parseCases(text string) error {
	for line := range strings.Lines(text) {
		address, mark, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case address == "":
			continue
		case mark == "unasked" && len(e.Cases) > 0:
			e.Unasked = append(e.Unasked, address)
			continue
		case mark == "sometimes" && len(e.Cases) > 0:
			e.Sometimes = append(e.Sometimes, address)
		case mark != "":
			return fmt.Errorf("%q is not a case", strings.TrimSpace(line))
		}
		e.Cases = append(e.Cases, address)
	}
	if len(e.Cases) == 0 {
		return errors.New("names no case")
	}
	return nil
}

// asked reports whether a case is asked of the server.
func (e Exercise) asked(c check.Case) bool {
	return slices.Contains(c.Models, e.Kind.Model) && !slices.Contains(e.Unasked, c.Address) &&
		(e.proxy() || !c.OfProxies())
}

// proxy reports whether the server is a proxy that is given a back end: the exercise is
// about a case of such servers.
func (e Exercise) proxy() bool {
	return slices.ContainsFunc(check.Cases(), func(c check.Case) bool {
		return c.Address == e.Cases[0] && c.OfProxies()
	})
}

// command returns the command with which the check starts a program of the exercise.
func (e Exercise) command(program string) []string {
	if e.proxy() {
		return []string{program, "{addr}", "{backend}"}
	}
	return []string{program, "{addr}"}
}

// Patched is main.go without the fault. It fails when the patch is for another
// file, or does not fit to the line.
func (e Exercise) Patched() (string, error) {
	files, _, err := gitdiff.Parse(strings.NewReader(e.Patch))
	if err != nil {
		return "", fmt.Errorf("%s/solution.patch: %w", e.Name, err)
	}
	if len(files) != 1 || path.Base(files[0].NewName) != "main.go" {
		return "", fmt.Errorf("%s/solution.patch does not change main.go alone", e.Name)
	}
	var patched bytes.Buffer
	if err := gitdiff.Apply(&patched, strings.NewReader(e.Source), files[0]); err != nil {
		return "", fmt.Errorf("%s/solution.patch: %w", e.Name, err)
	}
	return patched.String(), nil
}

// short is the name without the number.
func (e Exercise) short() string { return e.Name[len("00-"):] }

// An UnknownError says that there is no exercise of that name, and which were
// perhaps meant.
type UnknownError struct {
	Name string
	Near []string
}

func (e *UnknownError) Error() string {
	if len(e.Near) == 0 {
		return fmt.Sprintf("no exercise %q; lesson exercise list shows them all", e.Name)
	}
	return fmt.Sprintf("no exercise %q; did you mean %s?", e.Name, strings.Join(e.Near, ", "))
}

// Find is the exercise of that name: "06-one-read-per-edge", without the number,
// or the number alone ("6", "06"). The error is an *UnknownError.
func (g *Gallery) Find(name string) (Exercise, error) {
	number, err := strconv.Atoi(name)
	if err != nil {
		number = -1
	}
	for _, e := range g.Exercises {
		if name == e.Name || name == e.short() || number == e.Number {
			return e, nil
		}
	}
	return Exercise{}, &UnknownError{Name: name, Near: g.near(name)}
}

// near is the exercises whose names are like that one: it is a part of theirs,
// or they can be made from it by changing few letters.
func (g *Gallery) near(name string) []string {
	name = strings.TrimLeft(strings.ToLower(name), "0123456789-")
	if name == "" {
		return nil
	}
	var near []string
	for _, e := range g.Exercises {
		if strings.Contains(e.short(), name) || distance(e.short(), name) <= max(2, len(name)/5) {
			near = append(near, e.Name)
		}
	}
	return near
}

// distance is how many bytes must be put in, taken out or changed to make b of
// a: Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // from a so far to each beginning of b
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
