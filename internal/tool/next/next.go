//go:build linux

// Package next knows the way through the repository, step by step, and where a learner
// is on it.
package next

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"lesson/docs"
	"lesson/internal/progress"
	"lesson/internal/report"
	"lesson/internal/tool/check"
	"lesson/internal/tool/exercise"
	"lesson/internal/tool/quiz"
)

// A Step is one thing to do.
type Step struct {
	ID      string `json:"id"`      // "04/read", "04/quiz", "06-one-read-per-edge"
	Chapter string `json:"chapter"` // its file in the repository
	Title   string `json:"title"`   // of the chapter
	Do      string `json:"do"`      // a sentence
	Command string `json:"command"` // what to type; "" for a step without a command
	Done    bool   `json:"done"`
}

// stagesAfter is how many stages of chapter 13 a reader can pass after a chapter. A
// chapter that is not listed has no part in the reader's own server.
var stagesAfter = map[string]int{
	"01-one-client.md":                2,
	"02-a-loop.md":                    4,
	"04-level-triggered.md":           7,
	"07-when-clients-misbehave.md":    9,
	"08-when-the-machine-runs-out.md": 11,
	"13-write-your-own.md":            12,
}

// begin is the page before the first chapter.
const begin = "docs/00-start-here.md"

// lookAtIt begins the step of a look.
const lookAtIt = "See it in the tour"

// A look is what the tour shows of a chapter.
type look struct {
	servers string // for --only; "" is the reader's own server
	do      string
}

// inTheTour are the looks of the chapters. A chapter that is not listed is about what the
// tour does not show.
var inTheTour = map[string]look{
	"01-one-client.md": {"blocking",
		"Let a client send its request in two parts: in which call does the server block, each time?"},
	"02-a-loop.md": {"blocking,loop",
		"Let one client send half a request, and another a whole one: what does the second wait for?"},
	"03-a-goroutine-each.md": {"loop,threaded",
		"Let three clients send half a request: how many calls are open in each server?"},
	"04-level-triggered.md": {"threaded,epoll",
		"Let three clients send half a request: in which calls do the two servers block?"},
	"05-edge-triggered.md": {"edgetriggered,exercise/06-one-read-per-edge",
		"Let a client send a long request: which of the two answers, and where are the bytes in the other?"},
	"06-level-or-edge.md": {"epoll,edgetriggered",
		"Let a client send a long request: how many calls does each server make for it?"},
	"07-when-clients-misbehave.md": {"loop,threaded,epoll",
		"Let a client reset its connection in the middle of a request: what does each server do?"},
	"10-go-already-does-this.md": {"threaded,netpoll",
		"Let three clients send half a request: how many threads are blocked in each server?"},
	"13-write-your-own.md": {"",
		"Let your clients do what the stages are about: in which call is your server blocked?"},
}

// command returns what to type for a look.
func (l look) command() string {
	if l.servers == "" {
		return "lesson tour --open -- YOUR SERVER {port}"
	}
	return "lesson tour --open --only " + l.servers
}

// A Way is the steps of one learner, in their order.
type Way struct {
	Steps []Step
	file  progress.File
}

// A past is what a learner has done, as the tools keep it.
type past struct {
	marked    marks
	exercises map[string]exercise.Progress
	scores    quiz.Scores
	stages    check.StageRecords
}

// Find returns the way, with what the file says about it.
func Find(file progress.File) (*Way, error) {
	p := past{marked: marks{}, scores: quiz.Scores{}, stages: check.StageRecords{}}
	var err error
	if p.exercises, err = (exercise.Record{File: file}).All(); err != nil {
		return nil, err
	}
	for name, section := range map[string]progress.Section{
		section: &p.marked, quiz.Section: &p.scores, check.StageSection: &p.stages,
	} {
		if err := file.Read(name, section); err != nil {
			return nil, err
		}
	}
	steps, err := p.steps()
	return &Way{Steps: steps, file: file}, err
}

// Steps returns all steps, none of them done.
func Steps() ([]Step, error) { return past{}.steps() }

func (p past) steps() ([]Step, error) {
	gallery, err := exercise.Carried()
	if err != nil {
		return nil, err
	}
	chapters, err := quiz.Chapters(docs.English)
	if err != nil {
		return nil, err
	}
	reached := 0
	for _, record := range p.stages {
		reached = max(reached, record.Reached)
	}
	steps := []Step{{
		ID: "00/read", Chapter: begin, Title: "Start here",
		Do: "Read " + begin + ", and install the command `lesson` as it shows.", Command: "go install ./cmd/lesson",
		Done: !p.marked["00/read"].IsZero(),
	}}
	for _, c := range chapters {
		file := path.Base(c.File)
		number := file[:2]
		add := func(id, do, command string, done bool) {
			steps = append(steps, Step{
				ID: id, Chapter: c.File, Title: c.Title, Do: do, Command: command,
				Done: done || !p.marked[id].IsZero(),
			})
		}
		add(number+"/read",
			"Read "+c.File+", and type its commands. Before each of them, say what you expect.",
			"", false)
		if l, shown := inTheTour[file]; shown {
			add(number+"/tour", lookAtIt+". "+l.do, l.command(), false)
		}
		add(number+"/break",
			`Make the changes under "Break it" in `+c.File+". Say first what each will do.", "", false)
		for _, e := range gallery.Exercises {
			if e.Kind.Chapter == file {
				add(e.Name, fmt.Sprintf("Fix the server of exercise %d.", e.Number),
					"lesson exercise start "+e.Name, p.exercises[e.Name].Stage() == exercise.Solved)
			}
		}
		_, answered := p.scores[c.File]
		add(number+"/quiz", "Answer the chapter's questions.", "lesson quiz "+number, answered)
		if n := stagesAfter[file]; n > 0 {
			add(number+"/own",
				fmt.Sprintf("Bring your own server to stage %d of docs/13-write-your-own.md.", n),
				stagesCommand(n), reached >= n)
		}
	}
	return steps, nil
}

// stagesCommand returns the command that judges the first n stages.
func stagesCommand(n int) string {
	command := fmt.Sprintf("lesson check --stages --to %d", n)
	for _, stage := range check.Stages()[:n] {
		if stage.Timed {
			return command + " --timeout 1s -- YOUR SERVER {port} {seconds}"
		}
	}
	return command + " -- YOUR SERVER {port}"
}

// Markdown returns what a chapter ends with: what there is to do after reading it.
func Markdown(steps []Step, chapter string) string {
	var exercises, first, last []string
	for _, s := range steps {
		if s.Chapter != chapter {
			continue
		}
		switch _, what, _ := strings.Cut(s.ID, "/"); what {
		case "read", "break":
		case "":
			exercises = append(exercises, fmt.Sprintf("[%s](exercises/%s/README.md)", s.ID, s.ID))
		case "tour":
			first = append(first, "- "+lookAtIt+": `"+s.Command+"`. "+strings.TrimPrefix(s.Do, lookAtIt+". "))
		case "own":
			last = append(last, "- Your own server: `"+s.Command+"` ([chapter 13](13-write-your-own.md)).")
		default:
			last = append(last, "- "+strings.TrimSuffix(s.Do, ".")+": `"+s.Command+"`.")
		}
	}
	if exercises != nil {
		first = append(first, "- Fix a broken server: "+strings.Join(exercises, ", ")+".")
	}
	return "Now do, in this order (`lesson next` keeps count):\n\n" + strings.Join(append(first, last...), "\n")
}

// now returns the place of the first step that is not done, len(w.Steps) when all are.
func (w *Way) now() int {
	if i := slices.IndexFunc(w.Steps, func(s Step) bool { return !s.Done }); i >= 0 {
		return i
	}
	return len(w.Steps)
}

// Next returns the first step that is not done, nil when all are.
func (w *Way) Next() *Step {
	if i := w.now(); i < len(w.Steps) {
		return &w.Steps[i]
	}
	return nil
}

// Print writes where the learner is, and the one thing to do now.
func (w *Way) Print(out io.Writer) {
	done := 0
	for _, s := range w.Steps {
		if s.Done {
			done++
		}
	}
	fmt.Fprintf(out, "%d of %d steps done\n\n", done, len(w.Steps))
	step := w.Next()
	if step == nil {
		fmt.Fprintln(out, "You have come to the end. Try other orders of events on your own server:"+
			" lesson explore FOLDER")
		return
	}
	fmt.Fprintf(out, "%s\n\n", step.Title)
	const columns = 80
	for _, line := range report.Wrap(step.Do, columns) {
		fmt.Fprintln(out, line)
	}
	if step.Command != "" {
		fmt.Fprintf(out, "\n  %s\n", step.Command)
	}
	fmt.Fprintln(out, "\nWhen you have done it, or want to skip it: lesson next --done")
}

// Listing returns all steps as a table.
func (w *Way) Listing() *report.Table {
	t := &report.Table{Left: 3}
	now := w.now()
	for i, s := range w.Steps {
		mark := ""
		switch {
		case s.Done:
			mark = "done"
		case i == now:
			mark = "now"
		}
		t.Rows = append(t.Rows, []string{mark, s.ID, s.Do})
	}
	return t
}

// section is the name of the section with the steps that were marked by hand.
const section = "next"

// marks is when each step was marked as done.
type marks map[string]time.Time

// Valid accepts every mark: steps that this program does not know are kept.
func (*marks) Valid() error { return nil }

// Done marks the next step as done, and finds the one after it.
func (w *Way) Done() (*Way, error) {
	step := w.Next()
	if step == nil {
		return nil, errors.New("all steps are done; to begin again: lesson next --reset")
	}
	marked := marks{}
	if err := w.file.Update(section, &marked, func() { marked[step.ID] = time.Now() }); err != nil {
		return nil, err
	}
	return Find(w.file)
}

// Reset forgets the marks, the answered questions and the stages. What was done with the
// exercises stays: `lesson exercise reset` is for that.
func (w *Way) Reset() (*Way, error) {
	marked, scores, stages := marks{}, quiz.Scores{}, check.StageRecords{}
	err := errors.Join(
		w.file.Update(section, &marked, func() { clear(marked) }),
		w.file.Update(quiz.Section, &scores, func() { clear(scores) }),
		w.file.Update(check.StageSection, &stages, func() { clear(stages) }),
	)
	if err != nil {
		return nil, err
	}
	return Find(w.file)
}
