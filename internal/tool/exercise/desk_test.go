//go:build linux

package exercise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lesson/internal/child"
	"lesson/internal/tool/check"
)

// patience bounds a wait for what must happen. Only a test that fails waits so
// long.
const patience = 30 * time.Second

// A fakeJudge finds what a test sets. It looks at no server, and so it builds
// only those that do not build.
type fakeJudge struct {
	fails    []string // addresses
	unjudged []string
	err      error
	hang     bool            // Run lasts until its context ends
	asked    chan []string   // told of every Run, unless nil,
	answers  chan *fakeJudge // and what is to be found then
}

func (*fakeJudge) Build(ctx context.Context, dir, program string) error {
	for _, file := range goFiles(dir) {
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "undefined") {
			return child.Build(ctx, dir, program)
		}
	}
	return os.WriteFile(program, nil, 0o755)
}

func (*fakeJudge) Cases() []check.Case { return cases() }

func (j *fakeJudge) Run(ctx context.Context, target check.Target, o check.Options) (*check.Report, error) {
	if j.asked != nil {
		j.asked <- o.Only
		j = <-j.answers
	}
	if j.hang {
		<-ctx.Done()
	}
	if _, err := os.Stat(target.Command[0]); err != nil {
		return nil, err // nothing was built
	}
	report := &check.Report{Model: o.Model}
	for _, c := range cases() {
		if !slices.Contains(o.Only, c.Address) {
			continue
		}
		r := check.Result{Case: c, Verdict: check.Holds}
		switch {
		case slices.Contains(j.fails, c.Address):
			r.Verdict, r.Got, r.Want = check.Fails, "nothing", "an answer"
		case slices.Contains(j.unjudged, c.Address):
			r.Verdict, r.Reason = check.NotJudged, "it cannot be seen"
		}
		report.Results = append(report.Results, r)
		if o.Progress != nil {
			o.Progress(len(report.Results), len(o.Only), r)
		}
	}
	return report, j.err
}

// A scene is a desk in a folder of its own, and what it has said.
type scene struct {
	*Desk
	judge    *fakeJudge
	out, log transcript
	parent   string
}

// A transcript may be read while it is written.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

// take is what has been written since it was called last.
func (t *transcript) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.text.Reset()
	return t.text.String()
}

// takeUpTo takes what has been written up to the end of that text, once it is
// there.
func (t *transcript) takeUpTo(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := bytes.Index(t.text.Bytes(), []byte(text))
	if i < 0 {
		return false
	}
	t.text.Next(i + len(text))
	return true
}

func newScene(t *testing.T) *scene {
	s := &scene{judge: new(fakeJudge), parent: t.TempDir()}
	s.Desk = &Desk{
		Gallery: loadFixture(t, fixture()), Record: recordIn(t), Judge: s.judge,
		Out: &s.out, Log: &s.log,
	}
	return s
}

// started has a copy of exercise 6, and returns its folder.
func (s *scene) started(t *testing.T) string {
	t.Helper()
	if err := s.Start("6", s.parent); err != nil {
		t.Fatal(err)
	}
	s.out.take()
	return filepath.Join(s.parent, "06-one-read-per-edge")
}

func (s *scene) stage(t *testing.T, name string) Stage {
	t.Helper()
	p, err := s.Record.Of(name)
	if err != nil {
		t.Fatal(err)
	}
	return p.Stage()
}

// wants checks that a text has all of these, in this order.
func wants(t *testing.T, what, text string, want ...string) {
	t.Helper()
	rest := text
	for _, part := range want {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("%s: no %q (in its place) in:\n%s", what, part, text)
			return
		}
		rest = after
	}
}

func wantsError(t *testing.T, what string, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", what)
		return
	}
	wants(t, what, err.Error(), want...)
}

func TestList(t *testing.T) {
	s := newScene(t)
	s.started(t)
	s.judge.fails = []string{"requests/large"}
	if err := s.Check(t.Context(), "6", "", CheckOptions{}); !errors.Is(err, ErrFails) {
		t.Fatal(err)
	}
	if err := s.Hint("1", false); err != nil {
		t.Fatal(err)
	}
	s.out.take()
	if err := s.List(); err != nil {
		t.Fatal(err)
	}
	want := `EXERCISE              SERVER          CHAPTER                      HINTS  PROGRESS
01-last-chunk         loop            docs/02-a-loop.md            1      not started
06-one-read-per-edge  edge-triggered  docs/05-edge-triggered.md    0      broken still
16-unbounded-buffer   threaded        docs/03-a-goroutine-each.md  0      not started

0 of 3 solved
`
	if got := s.out.take(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	if err := s.ListJSON(); err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Name, Title, Symptom, Server, Chapter, Stage, Dir string
		Number, Hints                                     int
		Failing                                           []string
	}
	if err := json.Unmarshal([]byte(s.out.take()), &all); err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v; want 3 exercises", all, err)
	}
	if all[0].Hints != 1 || all[0].Stage != "not started" || all[0].Number != 1 {
		t.Errorf("%+v", all[0])
	}
	if e := all[1]; e.Name != "06-one-read-per-edge" || e.Title != "One read per edge" ||
		!strings.HasPrefix(e.Symptom, `"Big`) || e.Server != "edge-triggered" ||
		e.Chapter != "docs/05-edge-triggered.md" || e.Stage != "broken still" ||
		!slices.Equal(e.Failing, []string{"requests/large"}) || !filepath.IsAbs(e.Dir) {
		t.Errorf("%+v", e)
	}
}

func TestStart(t *testing.T) {
	s := newScene(t)
	parent := filepath.Join(s.parent, "not", "there", "yet")
	if err := s.Start("one-read-per-edge", parent); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(parent, "06-one-read-per-edge")
	wants(t, "start", s.out.take(), "Big requests hang", "see chapter 5 (docs/05-edge-triggered.md)",
		dir, "lesson exercise check 06-one-read-per-edge", "lesson exercise hint 06-one-read-per-edge")
	if p, err := s.Record.Of("06-one-read-per-edge"); err != nil || p.Dir != dir || p.Stage() != Started {
		t.Errorf("%+v, %v", p, err)
	}

	// Once more: what is there stays.
	write(t, "mine", dir, "main.go")
	wantsError(t, "start twice", s.Start("6", parent), dir, "already exists",
		"lesson exercise check 06-one-read-per-edge;", "lesson exercise reset 06-one-read-per-edge")
	if got := read(t, dir, "main.go"); got != "mine" {
		t.Errorf("main.go has become %q", got)
	}

	// Elsewhere: another copy, which counts from now on.
	if err := s.Start("6", s.parent); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Record.Of("06-one-read-per-edge"); err != nil || p.Dir != filepath.Join(s.parent, "06-one-read-per-edge") {
		t.Errorf("%+v, %v", p, err)
	}
	wantsError(t, "start where another copy is", s.Start("6", parent), dir, "already exists",
		"lesson exercise check 06-one-read-per-edge --dir "+dir)
}

// When the progress cannot be kept, nothing is begun.
func TestStartNeedsTheRecord(t *testing.T) {
	s := newScene(t)
	if err := os.MkdirAll(filepath.Dir(s.Record.File.Path), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, "hello", s.Record.File.Path)
	wantsError(t, "start", s.Start("6", s.parent), s.Record.File.Path, "cannot be understood")
	if got := names(t, s.parent); got != "" {
		t.Errorf("there is %s", got)
	}
}

// Every subcommand that takes a NAME says when there is no such exercise.
func TestUnknownNames(t *testing.T) {
	s := newScene(t)
	for what, err := range map[string]error{
		"start":    s.Start("red", s.parent),
		"check":    s.Check(t.Context(), "red", "", CheckOptions{}),
		"hint":     s.Hint("red", false),
		"solution": s.Solution("red"),
		"reset":    s.Reset("red", ""),
		"watch":    s.Watch(t.Context(), "red", ""),
	} {
		var unknown *UnknownError
		if !errors.As(err, &unknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Every subcommand that needs a copy says how to get one.
func TestWithoutACopy(t *testing.T) {
	s := newScene(t)
	needy := map[string]func(dir string) error{
		"check": func(dir string) error { return s.Check(t.Context(), "6", dir, CheckOptions{}) },
		"reset": func(dir string) error { return s.Reset("6", dir) },
		"watch": func(dir string) error { return s.Watch(t.Context(), "6", dir) },
	}
	for what, do := range needy {
		wantsError(t, what, do(""), "not started", "lesson exercise start 06-one-read-per-edge")
		wantsError(t, what+" elsewhere", do(s.parent), "no Go files in "+s.parent)
	}
	if err := os.RemoveAll(s.started(t)); err != nil {
		t.Fatal(err)
	}
	for what, do := range needy {
		wantsError(t, what+" of a copy that is gone", do(""), "no Go files",
			"lesson exercise start 06-one-read-per-edge", "--dir")
	}
}

func TestCheck(t *testing.T) {
	const about, other = "requests/large", "slow/silent-client"
	tests := []struct {
		what            string
		fails, unjudged []string
		options         CheckOptions
		shows           []string // in this order
		never           string
		err             string // "" is none
		stage           Stage
	}{
		{
			what: "all hold",
			shows: []string{
				"holds       requests/large", "holds       requests/split-terminator",
				"The rest: 3 hold, 0 fail.\n",
				"All 5 cases hold: 06-one-read-per-edge is solved.",
				"lesson exercise solution 06-one-read-per-edge",
				"lesson exercise start 16-unbounded-buffer",
			},
			stage: Solved,
		},
		{
			what: "what it is about fails", fails: []string{about},
			shows: []string{about, "nothing", "holds       requests/split-terminator", "The rest: 3 hold, 0 fail.\n"},
			never: "it reads once", // that is for hints to say
			err:   "not solved yet: of 5 cases, 1 fail; for a hint, type: lesson exercise hint 06-one-read-per-edge",
			stage: Broken,
		},
		{
			what: "another one fails", fails: []string{other},
			shows: []string{"holds       requests/large", "The rest: 2 hold, 1 fail.\n", other, "no client waits"},
			never: "nothing", // at length: with what came back
			err:   "not solved yet",
			stage: Broken,
		},
		{
			what: "another one fails, at length", fails: []string{other},
			options: CheckOptions{Verbose: true},
			shows: []string{"The rest: 2 hold, 1 fail.\n", "holds       requests/whole", other, "nothing",
				"it reads once"},
			err:   "not solved yet",
			stage: Broken,
		},
		{
			what: "in brief, what it is about fails", fails: []string{about, other},
			options: CheckOptions{Brief: true},
			shows:   []string{about, "nothing"},
			never:   "The rest",
			err:     "of 2 cases, 1 fail",
			stage:   Broken,
		},
		{
			what: "in brief, another one fails", fails: []string{other},
			options: CheckOptions{Brief: true},
			shows:   []string{"holds       requests/large", "The rest: 2 hold, 1 fail.\n"},
			err:     "of 5 cases, 1 fail",
			stage:   Broken,
		},
		{
			what: "another one is not judged", unjudged: []string{other},
			shows: []string{"The rest: 2 hold, 0 fail, 1 not judged (" + other + ").\n", "All 4 cases hold"},
			stage: Solved,
		},
		{
			what: "what it is about is not judged", unjudged: []string{about},
			shows: []string{"not judged  " + about, "it cannot be seen"},
			never: "solved",
			err:   "is solved: it cannot be seen",
			stage: Broken,
		},
	}
	for _, test := range tests {
		t.Run(test.what, func(t *testing.T) {
			s := newScene(t)
			s.started(t)
			s.judge.fails, s.judge.unjudged = test.fails, test.unjudged
			err := s.Check(t.Context(), "6", "", test.options)
			out := s.out.take()
			wants(t, "the output", out, test.shows...)
			if test.never != "" && strings.Contains(out, test.never) {
				t.Errorf("it says %q:\n%s", test.never, out)
			}
			if test.err == "" && err != nil {
				t.Error(err)
			} else if test.err != "" {
				wantsError(t, "the error", err, test.err)
			}
			if errors.Is(err, ErrFails) != (len(test.fails) > 0) {
				t.Errorf("the error is %v", err)
			}
			p, err := s.Record.Of("06-one-read-per-edge")
			if err != nil || p.Stage() != test.stage || !slices.Equal(p.Failing, failingOf(test.fails, test.options)) {
				t.Errorf("%+v, %v; want stage %q", p, err, test.stage)
			}
			if log := s.log.take(); log != "" {
				t.Errorf("no terminal, and yet it logs %q", log)
			}
		})
	}
}

// failingOf is what of those is judged.
func failingOf(fails []string, o CheckOptions) []string {
	if o.Brief && len(fails) > 1 {
		return fails[:1]
	}
	return fails
}

func TestCheckJSON(t *testing.T) {
	s := newScene(t)
	dir := s.started(t)
	s.judge.fails = []string{"requests/large"}
	if err := s.Check(t.Context(), "6", "", CheckOptions{JSON: true}); !errors.Is(err, ErrFails) {
		t.Fatal(err)
	}
	var f Finding
	if err := json.Unmarshal([]byte(s.out.take()), &f); err != nil {
		t.Fatal(err)
	}
	if f.Exercise != "06-one-read-per-edge" || f.Dir != dir || f.Model != check.EventLoop || f.Solved ||
		len(f.About) != 2 || f.About[0].Verdict != check.Fails || len(f.Rest) != 3 {
		t.Errorf("%+v", f)
	}

	s.judge.fails = nil
	if err := s.Check(t.Context(), "6", "", CheckOptions{JSON: true}); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(s.out.take()), &f); err != nil || !f.Solved {
		t.Errorf("%v, %+v; want it solved", err, f)
	}

	write(t, "package main\n\nfunc main() { undefined() }\n", dir, "main.go")
	var broken *child.BuildError
	if err := s.Check(t.Context(), "6", "", CheckOptions{JSON: true}); !errors.As(err, &broken) {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(s.out.take()), &f); err != nil || !strings.Contains(f.BuildError, "undefined: undefined") {
		t.Errorf("%v, %+v; want a build error", err, f)
	}
}

// If the judge fails or is interrupted, nothing has been found.
func TestCheckThatFindsNothing(t *testing.T) {
	tests := []struct {
		what   string
		change func(s *scene, dir string, cancel context.CancelFunc)
		log    string
		err    string
	}{
		{"it does not build", func(s *scene, dir string, _ context.CancelFunc) {
			write(t, "package main\n\nfunc main() { undefined() }\n", dir, "main.go")
		}, "# 06-one-read-per-edge\n./main.go:3:15: undefined: undefined\n", "does not build"},
		{"the judge cannot run", func(s *scene, _ string, _ context.CancelFunc) {
			s.judge.err = errors.New("no port is free")
		}, "", "no port is free"},
		{"it is interrupted", func(s *scene, _ string, cancel context.CancelFunc) {
			s.judge.asked, s.judge.answers = make(chan []string), make(chan *fakeJudge)
			go func() {
				<-s.judge.asked
				cancel()
				s.judge.answers <- &fakeJudge{hang: true}
			}()
		}, "", "context canceled"},
	}
	for _, test := range tests {
		s := newScene(t)
		dir := s.started(t)
		ctx, cancel := context.WithCancel(t.Context())
		test.change(s, dir, cancel)
		err := s.Check(ctx, "6", "", CheckOptions{})
		cancel()
		wantsError(t, test.what, err, test.err)
		if errors.Is(err, ErrFails) {
			t.Errorf("%s: the error says that it was judged: %v", test.what, err)
		}
		if got := s.log.take(); got != test.log {
			t.Errorf("%s: it logs %q, want %q", test.what, got, test.log)
		}
		if got := s.stage(t, "06-one-read-per-edge"); got != Started {
			t.Errorf("%s: stage %q", test.what, got)
		}
	}
}

// A check reports its progress.
func TestCheckTellsProgress(t *testing.T) {
	s := newScene(t)
	s.started(t)
	var told []string
	s.Progress = func(done, all int, r check.Result) {
		told = append(told, fmt.Sprintf("%d/%d %s", done, all, r.Address))
	}
	if err := s.Check(t.Context(), "6", "", CheckOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []string{"1/2 requests/large", "2/2 requests/split-terminator", "1/3 requests/whole",
		"2/3 limits/endless", "3/3 slow/silent-client"}
	if !slices.Equal(told, want) {
		t.Errorf("it tells %q, want %q", told, want)
	}
}

// A copy may be anywhere, started by us or not.
func TestCheckElsewhere(t *testing.T) {
	s := newScene(t)
	elsewhere := filepath.Join(s.parent, "mine")
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, "module mine\n\ngo 1.26.0\n", elsewhere, "go.mod")
	write(t, repairedSource, elsewhere, "server.go")
	if err := s.Check(t.Context(), "6", elsewhere, CheckOptions{}); err != nil {
		t.Error(err)
	}
	if got := s.stage(t, "06-one-read-per-edge"); got != Solved {
		t.Errorf("stage %q", got)
	}
	// With the folder that start was given, too.
	s.started(t)
	s.judge.fails = []string{"requests/large"}
	if err := s.Check(t.Context(), "6", s.parent, CheckOptions{}); !errors.Is(err, ErrFails) {
		t.Error(err)
	}
}

// The next one is the next that is not solved.
func TestNextExercise(t *testing.T) {
	s := newScene(t)
	for _, step := range []struct{ name, next string }{
		{"6", "lesson exercise start 16-unbounded-buffer"},
		{"16", "lesson exercise start 01-last-chunk"},
		{"1", "You have solved them all."},
		{"6", "You have solved them all."},
	} {
		if err := s.Start(step.name, s.parent); err != nil && step.next != "You have solved them all." {
			t.Fatal(err)
		}
		s.out.take()
		if err := s.Check(t.Context(), step.name, "", CheckOptions{}); err != nil {
			t.Fatal(err)
		}
		wants(t, "after "+step.name, s.out.take(), "is solved", step.next)
	}
}

func TestHints(t *testing.T) {
	s := newScene(t)
	hint := func(again bool) string {
		t.Helper()
		if err := s.Hint("6", again); err != nil {
			t.Fatal(err)
		}
		return s.out.take()
	}
	wants(t, "none yet", hint(true), "not seen a hint yet", "lesson exercise hint 06-one-read-per-edge")
	wants(t, "the first", hint(false), "Hint 1 of 3\n\nRead.\n")
	wants(t, "the second", hint(false), "Hint 2 of 3\n\nRead again.\n")
	again := hint(true)
	wants(t, "again", again, "Hint 1 of 3", "Hint 2 of 3")
	if strings.Contains(again, "Hint 3") {
		t.Errorf("again, it shows one that was not seen:\n%s", again)
	}
	wants(t, "the third", hint(false), "Hint 3 of 3\n\nRead up to EAGAIN.\n")
	for range 2 {
		wants(t, "no more", hint(false), "no more hints", "--again", "lesson exercise solution 06-one-read-per-edge")
	}
	wants(t, "all again", hint(true), "Hint 1 of 3", "Hint 2 of 3", "Hint 3 of 3")
}

func TestSolution(t *testing.T) {
	s := newScene(t)
	if err := s.Solution("6"); err != nil {
		t.Fatal(err)
	}
	plain := s.out.take()
	wants(t, "the solution", plain, "--- a/main.go\n+++ b/main.go\n@@ ", "-\tprintln(\"broken\")\n",
		"+\tprintln(\"fixed\")\n", "A loop around read.", "### In the wild")
	if strings.Contains(plain, "\x1b") {
		t.Error("it is coloured")
	}
	s.Print.Colour = true
	if err := s.Solution("6"); err != nil {
		t.Fatal(err)
	}
	wants(t, "in colour", s.out.take(), "\x1b[31m-\tprintln", "\x1b[32m+\tprintln")
}

func TestReset(t *testing.T) {
	s := newScene(t)
	dir := s.started(t)
	if err := s.Check(t.Context(), "6", "", CheckOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Hint("6", false); err != nil {
		t.Fatal(err)
	}
	write(t, "mine", dir, "main.go")
	write(t, "package main\n", dir, "more.go")
	s.out.take()
	if err := s.Reset("6", ""); err != nil {
		t.Fatal(err)
	}
	wants(t, "reset", s.out.take(), "main.go is the original again", filepath.Join(dir, "main.go.bak"), "more.go was not removed")
	if read(t, dir, "main.go") != brokenSource || read(t, dir, "main.go.bak") != "mine" {
		t.Errorf("main.go is %q, main.go.bak %q", read(t, dir, "main.go"), read(t, dir, "main.go.bak"))
	}
	p, err := s.Record.Of("06-one-read-per-edge")
	if err != nil || p.Stage() != Started || p.Hints != 0 || p.Failing != nil || p.Dir != dir {
		t.Errorf("%+v, %v", p, err)
	}
	if err := s.Reset("6", ""); err != nil {
		t.Fatal(err)
	}
	wants(t, "reset again", s.out.take(), "It had not been changed.")
}

// Watch checks again when the copy changes, also while a check runs, and ends
// without an error.
func TestWatch(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	dir := s.started(t)
	s.judge.asked, s.judge.answers = make(chan []string), make(chan *fakeJudge)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, "6", "") }()
	judges := func(answer *fakeJudge, want ...string) {
		t.Helper()
		select {
		case only := <-s.judge.asked:
			if !slices.Equal(only, want) {
				t.Fatalf("judges %q, want %q", only, want)
			}
			s.judge.answers <- answer
		case err := <-ended:
			t.Fatalf("it has ended: %v", err)
		case <-time.After(patience):
			t.Fatalf("it does not judge; it says\n%s%s", s.out.take(), s.log.take())
		}
	}
	says := func(want string) {
		t.Helper()
		for start := time.Now(); !s.log.takeUpTo(want); time.Sleep(time.Millisecond) {
			if time.Since(start) > patience {
				t.Fatalf("it does not say %q, but\n%s", want, s.log.take())
			}
		}
	}
	about := []string{"requests/large", "requests/split-terminator"}
	rest := []string{"requests/whole", "limits/endless", "slow/silent-client"}

	judges(&fakeJudge{fails: []string{"requests/large"}}, about...)
	says("not solved yet")
	says("watching " + dir)

	write(t, "package main\n\nfunc main() { undefined() }\n", dir, "main.go")
	says("changed")
	says("./main.go:3:15: undefined: undefined")
	says("watching")

	// Now what it is about holds, and the rest is judged. Meanwhile the file
	// changes again: that check has been for nothing.
	write(t, repairedSource, dir, "main.go")
	judges(&fakeJudge{}, about...)
	judges(&fakeJudge{hang: true}, rest...)
	write(t, repairedSource+"// and more\n", dir, "main.go")
	judges(&fakeJudge{hang: true}, about...)

	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if got := s.stage(t, "06-one-read-per-edge"); got != Broken {
		t.Errorf("stage %q: a check that was ended early counts", got)
	}
}
