//go:build linux

package tour

import (
	"strings"

	"lesson/internal/book"
	"lesson/internal/lesson"
	"lesson/internal/observe/proc"
)

// A contents is what a page needs to know first.
type contents struct {
	Chapters  []book.Page `json:"chapters"`
	Lessons   []about     `json:"lessons"`
	Exercises []named     `json:"exercises"`
	Scenarios []script    `json:"scenarios"`
	Columns   []string    `json:"columns"` // the servers to begin with
	Program   string      `json:"program"` // the learner's own, "" for none
	Limits    limits      `json:"limits"`
}

// about is a lesson, with its chapter's page.
type about struct {
	Name     string   `json:"name"`
	Step     int      `json:"step"`
	Title    string   `json:"title"`
	Command  string   `json:"command"`
	Chapter  string   `json:"chapter"` // the id of its page
	Files    []string `json:"files"`
	Untraced bool     `json:"untraced"`
}

type named struct {
	Name  string `json:"name"`
	Title string `json:"title"`
}

type limits struct {
	Clients int `json:"clients"`
	Columns int `json:"columns"`
	Bytes   int `json:"bytes"`
}

func (t *Tour) contents() (contents, error) {
	c := contents{
		Chapters: book.Pages(), Lessons: lessons(), Scenarios: scripts(),
		Columns: t.options.Columns, Program: strings.Join(t.options.Program, " "),
		Limits: limits{maxClients, maxColumns, maxBytes},
	}
	for _, p := range c.Chapters {
		name, ok := strings.CutPrefix(p.ID, "exercises/")
		if _, err := book.Source("exercise/" + name + "/main.go"); ok && err == nil {
			c.Exercises = append(c.Exercises, named{name, p.Title})
		}
	}
	return c, nil
}

func lessons() []about {
	var all []about
	for _, l := range lesson.WithVariants() {
		chapter := strings.TrimSuffix(strings.TrimPrefix(l.Chapter, "docs/"), ".md")
		all = append(all, about{l.Name, l.Step, l.Title, l.Command, chapter, l.Files, l.Untraced})
	}
	return all
}

// A recording is a session, to be kept and opened again.
type recording struct {
	Version int               `json:"version"`
	Machine proc.Machine      `json:"machine"`
	Lessons []about           `json:"lessons"`
	Servers []serverEvent     `json:"servers"`
	Sources map[string]string `json:"sources"` // plain text
	Log     []event           `json:"log"`
}

// recording is what is kept of the session.
func (s *session) recording() (*recording, error) {
	r := &recording{
		Version: 1, Lessons: lessons(), Servers: []serverEvent{}, Sources: map[string]string{},
		Log: s.journal.all(),
	}
	var err error
	r.Machine, err = proc.This()
	if err != nil {
		return nil, err
	}
	for _, c := range s.shown() {
		c.mu.Lock()
		about := c.about
		c.mu.Unlock()
		r.Servers = append(r.Servers, about)
		for _, file := range about.Files {
			text, err := s.tour.text(file)
			if err != nil {
				return nil, err
			}
			r.Sources[file] = text
		}
	}
	return r, nil
}
