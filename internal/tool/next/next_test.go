//go:build linux

package next

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/docs"
	"lesson/internal/lesson"
	"lesson/internal/progress"
	"lesson/internal/proof"
	"lesson/internal/tool/check"
	"lesson/internal/tool/exercise"
	"lesson/internal/tool/quiz"
)

func fileIn(t *testing.T) progress.File {
	return progress.File{Path: filepath.Join(t.TempDir(), "progress.json")}
}

func find(t *testing.T, f progress.File) *Way {
	t.Helper()
	w, err := Find(f)
	proof.Must(t, err)
	return w
}

// Every chapter, exercise and stage is on the way, once.
func TestTheWayIsComplete(t *testing.T) {
	w := find(t, fileIn(t))
	ids := map[string]bool{}
	for _, s := range w.Steps {
		if ids[s.ID] {
			t.Errorf("two steps %s", s.ID)
		}
		ids[s.ID] = true
	}
	chapters, err := quiz.Chapters(docs.English)
	proof.Must(t, err)
	for _, c := range chapters {
		for _, what := range []string{"read", "break", "quiz"} {
			if id := filepath.Base(c.File)[:2] + "/" + what; !ids[id] {
				t.Errorf("no step %s", id)
			}
		}
	}
	for chapter, l := range inTheTour {
		if !ids[chapter[:2]+"/tour"] {
			t.Errorf("there is no chapter %s to show in the tour", chapter)
		}
		for server := range strings.SplitSeq(l.servers, ",") {
			_, isLesson := lesson.Find(server)
			if name, found := strings.CutPrefix(server, "exercise/"); found && !ids[name] || !found && server != "" && isLesson != nil {
				t.Errorf("%s shows %s, which does not exist", chapter, server)
			}
		}
	}
	gallery, err := exercise.Carried()
	proof.Must(t, err)
	for _, e := range gallery.Exercises {
		if !ids[e.Name] {
			t.Errorf("no step for exercise %s", e.Name)
		}
	}
	stages := 0
	for _, s := range w.Steps {
		if n := stagesAfter[filepath.Base(s.Chapter)]; n > 0 && n < stages {
			t.Errorf("%s asks for %d stages, and a chapter before it for %d", s.Chapter, n, stages)
		} else if n > 0 {
			stages = n
		}
	}
	if stages != len(check.Stages()) {
		t.Errorf("the way leads to stage %d of %d", stages, len(check.Stages()))
	}
}

// A step is done when its tool has seen it, or when it was marked.
func TestWhatIsDone(t *testing.T) {
	f := fileIn(t)
	w := find(t, f)
	if next := w.Next(); next.ID != "00/read" {
		t.Fatalf("the first step is %s", next.ID)
	}
	w, err := w.Done()
	proof.Must(t, err)
	if next := w.Next(); next.ID != "01/read" {
		t.Errorf("after reading comes %s", next.ID)
	}
	proof.Must(t, quiz.Remember(f, w.Next().Chapter, quiz.Score{Right: 2, Answered: 3, Asked: 3}))
	proof.Must(t, (&check.StageReport{Report: &check.Report{Target: "x"}, Reached: 4}).Remember(f))
	record := exercise.Record{File: f}
	proof.Must(t, record.Update("01-last-chunk", func(p *exercise.Progress) { p.Solved = time.Now() }))
	var done []string
	for _, s := range find(t, f).Steps {
		if s.Done {
			done = append(done, s.ID)
		}
	}
	want := []string{"00/read", "01/quiz", "01/own", "02/own", "01-last-chunk"}
	slices.Sort(done)
	slices.Sort(want)
	if !slices.Equal(done, want) {
		t.Errorf("done are %q, want %q", done, want)
	}

	w, err = find(t, f).Reset()
	proof.Must(t, err)
	if next := w.Next(); next.ID != "00/read" {
		t.Errorf("after a reset comes %s", next.ID)
	}
	if p, err := record.Of("01-last-chunk"); err != nil || p.Solved.IsZero() {
		t.Errorf("the exercise is %+v, %v; want it solved still", p, err)
	}
}

// Marking leads to the end, and no further.
func TestTheEnd(t *testing.T) {
	w := find(t, fileIn(t))
	for range w.Steps {
		var err error
		w, err = w.Done()
		proof.Must(t, err)
	}
	var text bytes.Buffer
	w.Print(&text)
	if !strings.Contains(text.String(), "come to the end") {
		t.Errorf("at the end: %s", &text)
	}
	if _, err := w.Done(); err == nil || !strings.Contains(err.Error(), "lesson next --reset") {
		t.Errorf("after the end: %v", err)
	}
}
