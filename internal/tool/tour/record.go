//go:build linux

package tour

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"

	"lesson/internal/book"
	"lesson/internal/lesson"
	"lesson/internal/observe/proc"
	"lesson/internal/play"
	"lesson/internal/words"
)

// A contents is what a page needs to know first.
type contents struct {
	Chapters  []book.Page     `json:"chapters"`
	Lessons   []lesson.Lesson `json:"lessons"`
	Exercises []named         `json:"exercises"`
	Files     []string        `json:"files"` // all sources that can be shown
	Scenarios []scenario      `json:"scenarios"`
	Requests  requests        `json:"requests"`
	Columns   []string        `json:"columns"` // the servers to begin with
	Program   string          `json:"program"` // the learner's own, "" for none
	Limits    limits          `json:"limits"`
}

type named struct {
	Name  string `json:"name"`
	Title string `json:"title"`
}

// A scenario is one that a page can play, with its acts as sentences.
type scenario struct {
	play.Scenario
	Script []words.Sentence `json:"script"`
}

func scenarios() []scenario {
	var all []scenario
	for _, s := range play.Few() {
		var script []words.Sentence
		for _, a := range s.Acts {
			script = append(script, a.Sentence())
		}
		all = append(all, scenario{s, script})
	}
	return all
}

// requests are what the buttons of a page send: a whole request, the first half of it,
// and one that takes more than one read of some servers.
type requests struct {
	Whole string `json:"whole"`
	Half  string `json:"half"`
	Long  string `json:"long"`
}

var longRequest = play.FirstLine + "Cookie: session=" + strings.Repeat("7", 1500) + "\r\n\r\n"

type limits struct {
	Clients int `json:"clients"`
	Columns int `json:"columns"`
	Bytes   int `json:"bytes"`
}

func (t *Tour) contents() contents {
	c := contents{
		Chapters: book.Pages(), Lessons: lessons(), Scenarios: scenarios(),
		Columns: t.options.Columns, Program: strings.Join(t.options.Program, " "),
		Files:    slices.Concat(book.Files(), t.sources.names()),
		Limits:   limits{maxClients, maxColumns, maxBytes},
		Requests: requests{play.Request, play.FirstLine, longRequest},
	}
	for _, p := range c.Chapters {
		name, ok := strings.CutPrefix(p.ID, "exercises/")
		if _, err := book.Source("exercise/" + name + "/main.go"); ok && err == nil {
			c.Exercises = append(c.Exercises, named{name, p.Title})
		}
	}
	return c
}

// lessons returns the lessons, with the id of its page in place of each one's chapter.
func lessons() []lesson.Lesson {
	all := lesson.All()
	for i, l := range all {
		all[i].Chapter = strings.TrimSuffix(strings.TrimPrefix(l.Chapter, "docs/"), ".md")
	}
	return all
}

// recordingVersion is the format of a recording. It changes with the names and the
// meaning of what is in it; the page refuses any other.
const recordingVersion = 2

// A recording is a session, to be kept and opened again. Its log, the events, comes last:
// see session.save.
type recording struct {
	Version int               `json:"version"`
	Machine proc.Machine      `json:"machine"`
	Lessons []lesson.Lesson   `json:"lessons"`
	Servers []serverEvent     `json:"servers"`
	Sources map[string]string `json:"sources"` // plain text
}

// save writes the recording of what is kept of the session, piece by piece: it may be
// large. One recording is written at a time.
func (s *session) save(w io.Writer) error {
	if !s.saving.TryLock() {
		return tooMany("this session is being saved already").hint("try again in a moment")
	}
	defer s.saving.Unlock()
	about, err := s.recording()
	if err != nil {
		return err
	}
	head, err := json.Marshal(about)
	if err != nil {
		return err
	}
	pieces := bufio.NewWriter(w) // which keeps the first error
	_, _ = pieces.Write(bytes.TrimSuffix(head, []byte("}")))
	_, _ = pieces.WriteString(`,"log":`)
	if err := writeList(pieces, s.journal.all()); err != nil {
		return err
	}
	_, _ = pieces.WriteString("}\n")
	return pieces.Flush()
}

// writeList writes events as a list of JSON, one after the other.
func writeList(w io.Writer, events []event) error {
	before := "["
	for _, e := range events {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, before); err != nil {
			return err
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		before = ","
	}
	if len(events) == 0 {
		before = "[]"
	} else {
		before = "]"
	}
	_, err := io.WriteString(w, before)
	return err
}

// recording returns all of the session's recording but the log.
func (s *session) recording() (*recording, error) {
	r := &recording{
		Version: recordingVersion, Lessons: lessons(), Servers: []serverEvent{}, Sources: map[string]string{},
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
			if errors.Is(err, fs.ErrNotExist) {
				continue // it has been moved since the program was built
			}
			if err != nil {
				return nil, err
			}
			r.Sources[file] = text
		}
	}
	return r, nil
}
