//go:build linux

package check

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/docs"
	"lesson/internal/progress"
	"lesson/internal/proof"
)

func TestEveryCaseHasOneStage(t *testing.T) {
	chapter, err := docs.Chapters.ReadFile("13-write-your-own.md")
	proof.Must(t, err)
	in := map[string]int{}
	least := Blocking
	for _, stage := range Stages() {
		if rank(stage.Model) < rank(least) {
			t.Errorf("stage %d asks for less than the one before it", stage.Number)
		}
		least = stage.Model
		for what, text := range map[string]string{
			"must": stage.Must, "why": stage.Why, "hint": stage.Hint,
		} {
			if !strings.HasSuffix(text, ".") {
				t.Errorf("stage %d: %s is no sentence: %q", stage.Number, what, text)
			}
		}
		if !bytes.Contains(chapter, []byte("\n### "+stage.Heading()+"\n")) {
			t.Errorf("chapter 13 has no section %q", stage.Heading())
		}
		for _, address := range stage.Cases {
			in[address]++
		}
	}
	for _, c := range Cases() {
		if c.OfProxies() { // a reader's server is none
			continue
		}
		if in[c.Address] != 1 {
			t.Errorf("%s is in %d stages; add it to one in stages.go", c.Address, in[c.Address])
		}
		delete(in, c.Address)
	}
	if len(in) > 0 {
		t.Errorf("no cases: %v", in)
	}
}

// A naive server is stopped at its first fault, and nothing is asked of it beyond.
func TestStagesStopAtTheFirst(t *testing.T) {
	t.Parallel()
	report, err := RunStages(t.Context(), Target{Command: command(serveWrong, "CR LF only")},
		Options{Patience: time.Second, Jobs: 1}, 3)
	proof.Must(t, err)
	if report.Reached != 1 || report.First == nil || report.First.Address != "requests/bare-newlines" {
		t.Errorf("reached %d, first %+v", report.Reached, report.First)
	}
	first := slices.IndexFunc(report.Results, func(r Result) bool { return r.Verdict == Fails })
	for _, r := range report.Results[first+1:] {
		if r.Verdict != NotJudged || r.Reason != afterFailure {
			t.Errorf("%s: %s %s, after a case that fails", r.Address, r.Verdict, r.Reason)
		}
	}
	file := progress.File{Path: filepath.Join(t.TempDir(), "progress.json")}
	proof.Must(t, report.Remember(file))
	if report.Before != nil {
		t.Errorf("before the first run, %d stages", *report.Before)
	}
	proof.Must(t, report.Remember(file))
	var text bytes.Buffer
	report.Print(&text, PrintOptions{})
	if want := "1 of 12 stages hold; last time 1"; !strings.Contains(text.String(), want) {
		t.Errorf("no sign of %q:\n%s", want, &text)
	}
	if n := strings.Count(text.String(), "FAILS"); n != 2 { // its stage, and the case
		t.Errorf("%d times FAILS:\n%s", n, &text)
	}
}

// Stage 9 is about a time limit: one that is not known cannot be judged.
func TestStageOfDeadlinesNeedsTheTimeout(t *testing.T) {
	for _, timed := range []bool{true, false} {
		r := StageReport{Report: &Report{}, Stages: Stages()[:9], timed: timed}
		for _, c := range Cases() {
			r.Results = append(r.Results, Result{Case: c, Verdict: Holds})
		}
		r.judge()
		if want := map[bool]int{true: 9, false: 8}[timed]; r.Reached != want {
			t.Errorf("with --timeout: %v; %d stages hold, %q", timed, r.Reached, r.Reason)
		}
		var text bytes.Buffer
		r.Print(&text, PrintOptions{})
		if want := "  reason the server's time limit"; !timed && !strings.Contains(text.String(), want) {
			t.Errorf("no sign of %q:\n%s", want, &text)
		}
	}
}

// What docs/own says of its servers, and how far three lessons come: the others hold every case.
func TestStagesReached(t *testing.T) {
	proof.OnlyExhaustive(t, "the stages of the servers in docs/own, and of three lessons")
	own := filepath.Join(root, "docs/own")
	compiled := t.TempDir()
	startGo := filepath.Join(compiled, "start-go")
	for _, build := range [][]string{
		{"gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", compiled + "/start", own + "/start.c"},
		{"gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", compiled + "/finished", own + "/finished.c"},
		{"go", "build", "-o", startGo, own + "/start.go"},
	} {
		if out, err := exec.Command(build[0], build[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	all := len(stages)
	for _, server := range []struct {
		name    string
		command []string
		reached int
		fails   string // the case that the next stage fails; "" where it is the stage itself
	}{
		{"start.py", []string{"python3", own + "/start.py", "{port}"}, 0, "requests/whole"},
		{"start.c", []string{compiled + "/start", "{port}"}, 0, "requests/whole"},
		{"start.js", []string{"node", own + "/start.js", "{port}"}, 0, "requests/whole"},
		{"start.go", []string{startGo, "{addr}"}, 0, "requests/whole"},
		{"finished.py", []string{"python3", own + "/finished.py", "{port}", "{seconds}"}, all, ""},
		{"finished.c", []string{compiled + "/finished", "{port}", "{seconds}"}, all, ""},
		{"finished.js", []string{"node", own + "/finished.js", "{port}", "{seconds}"}, all - 1, ""},
		{"blocking", command(serveLesson, "blocking"), 2, "requests/no-leftovers"},
		{"loop", command(serveLesson, "loop"), 5, "slow/half-request"},
		{"epoll", command(serveLesson, "epoll"), all - 1, ""},
	} {
		t.Run(server.name, func(t *testing.T) {
			t.Parallel()
			report, err := RunStages(t.Context(), Target{Command: server.command},
				Options{Timeout: time.Second, Patience: 2 * time.Second}, all)
			proof.Must(t, err)
			first := ""
			if report.First != nil {
				first = report.First.Address
			}
			if report.Reached != server.reached || first != server.fails {
				t.Errorf("reached %d, then %q %s; want %d, then %q", report.Reached, first,
					report.Reason, server.reached, server.fails)
			}
			for _, r := range report.Results {
				// It begins at once, and would take a minute where clients are served one by one.
				if r.Address == "slow/stale-timeout" && server.name == "loop" && r.Reason != afterFailure {
					t.Errorf("%s: %s %s, after a case that fails", r.Address, r.Verdict, r.Reason)
				}
			}
		})
	}
}
