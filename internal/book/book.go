//go:build linux

// Package book renders as HTML the chapters, the exercises and the lessons' source:
// what a tour shows beside its running servers. A line that a chapter names or
// quotes is a link to that line.
package book

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/yuin/goldmark/ast"

	"lesson/docs"
	"lesson/internal/lesson"
	"lesson/internal/translation"
)

// A Kind names the purpose of a Page.
type Kind string

// The chapters are read in their order; the others are looked up.
const (
	Chapter   Kind = "chapter"
	Reference Kind = "page"
	Exercise  Kind = "exercise"
)

// A Page is one Markdown file of docs.
type Page struct {
	ID    string `json:"id"` // "04-level-triggered", "exercises/06-one-read-per-edge"
	Title string `json:"title"`
	File  string `json:"file"` // in the repository
	Kind  Kind   `json:"kind"`

	// Chinese is the title in Chinese; "" when the page has not been translated.
	Chinese string `json:"chinese,omitempty"`

	text []byte
	from embed.FS // and name in it
	name string
}

// A Heading is an entry of a page's table of contents.
type Heading struct {
	Level  int    `json:"level"`
	Text   string `json:"text"`
	Anchor string `json:"anchor"` // the id of the element
}

// A Rendered page is ready to be shown.
type Rendered struct {
	ID    string    `json:"id"`
	Title string    `json:"title"`
	HTML  string    `json:"html"`
	TOC   []Heading `json:"toc"`
}

// Pages is all pages, in reading order: the chapters, what is looked up, the
// exercises. The program carries them, so they can be read.
var Pages = sync.OnceValue(func() []Page {
	var chapters, others, exercises []Page
	for _, name := range glob(docs.Chapters, "*.md") {
		page := newPage(docs.Chapters, name, path.Join("docs", name), strings.TrimSuffix(name, ".md"))
		if page.ID[0] >= '0' && page.ID[0] <= '9' {
			page.Kind = Chapter
			chapters = append(chapters, page)
		} else {
			page.Kind = Reference
			others = append(others, page)
		}
	}
	for _, name := range glob(docs.Exercises, "exercises/*/README.md") {
		page := newPage(docs.Exercises, name, path.Join("docs", name), path.Dir(name))
		page.Kind = Exercise
		exercises = append(exercises, page)
	}
	index := newPage(docs.Exercises, "exercises/README.md", "docs/exercises/README.md", "exercises")
	index.Kind = Reference
	return append(append(append(chapters, others...), index), exercises...)
})

// glob returns the names that match, in the embedded folders.
func glob(from fs.FS, pattern string) []string {
	names, err := fs.Glob(from, pattern)
	if err != nil {
		panic(err) // the pattern is wrong
	}
	return names
}

func newPage(from embed.FS, name, file, id string) Page {
	text, err := fs.ReadFile(from, name)
	if err != nil {
		// A page that does not exist is a page that says so.
		text = fmt.Appendf(nil, "# %s\n\n%v\n", name, err)
	}
	p := Page{ID: id, Title: title(text), File: file, text: text, from: from, name: name}
	if translated, err := p.In(docs.Chinese); err == nil && translated.Title != p.Title {
		p.Chinese = translated.Title
	}
	return p
}

// In returns the page in a language of docs: what has no translation there is English.
func (p Page) In(language string) (Page, error) {
	text, err := fs.ReadFile(docs.In(language, p.from), p.name)
	if err != nil {
		return p, err
	}
	p.text, p.Title = text, title(text)
	return p, nil
}

// title returns the first heading, with which every page begins.
func title(text []byte) string {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("# ")); ok {
			return translation.WithoutAnchor(strings.TrimSpace(string(rest)))
		}
	}
	return ""
}

// Find returns the page with that id.
func Find(id string) (Page, error) {
	for _, p := range Pages() {
		if p.ID == id {
			return p, nil
		}
	}
	return Page{}, fmt.Errorf("no chapter %q", id)
}

// Render returns the page as HTML.
func (p Page) Render() (Rendered, error) {
	r := Rendered{ID: p.ID, Title: p.Title, TOC: []Heading{}}
	document := parse(p)
	err := ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		h, ok := n.(*ast.Heading)
		if !ok || !entering {
			return ast.WalkContinue, nil
		}
		id, _ := h.AttributeString("id")
		anchor, _ := id.([]byte)
		r.TOC = append(r.TOC, Heading{h.Level, strings.TrimSpace(plain(h, p.text)), string(anchor)})
		return ast.WalkSkipChildren, nil
	})
	if err != nil {
		return r, err
	}
	var html bytes.Buffer
	if err := markdown.Renderer().Render(&html, p.text, document); err != nil {
		return r, fmt.Errorf("%s: %w", p.File, err)
	}
	r.HTML = html.String()
	return r, nil
}

// lessonOf returns the lesson that a chapter is about, if it is about one.
func lessonOf(p Page) (lesson.Lesson, bool) {
	for _, l := range lesson.All() {
		if l.Chapter == p.File {
			return l, true
		}
	}
	return lesson.Lesson{}, false
}
