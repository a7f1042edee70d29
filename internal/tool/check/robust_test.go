//go:build linux

package check

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/protocol"
)

// The trouble of one case is the verdict of that case.
func TestTroubleCostsNoOtherCase(t *testing.T) {
	t.Parallel()
	fine := func(*trial) error { return nil }
	one := func(address string, do func(*trial) error) Case {
		return Case{
			Address: address, Models: everyone, Cause: "the case's",
			script: []step{own("it must hold", do)},
		}
	}
	cases := []Case{
		one("a/fine", fine),
		one("a/error", func(*trial) error { return errors.New("out of luck") }),
		one("a/no-process", func(*trial) error { return proc.ErrGone }),
		one("a/no-listener", func(*trial) error { return sockets.ErrNone }),
		one("a/as-fine", fine),
	}
	r := &runner{
		target:   Target{Command: command(serveWrong, "none")},
		options:  Options{Jobs: 2, Patience: DefaultPatience},
		portrait: portrait{model: EventLoop, answer: answer{bytes: protocol.Response}, visible: true},
	}
	results, err := r.judgeAll(t.Context(), cases)
	must(t, err)
	want := []Verdict{Holds, NotJudged, Fails, Fails, Holds}
	if len(results) != len(want) {
		t.Fatalf("%d results, want %d", len(results), len(want))
	}
	for i, r := range results {
		if r.Verdict != want[i] {
			t.Errorf("%s: %s (%s), want %s", r.Address, r.Verdict, r.Reason, want[i])
		}
	}
	if got := results[1].Reason; got != "out of luck" {
		t.Errorf("the reason is %q", got)
	}
}

// A server that starts now and then only: the cases for which it does not are not judged.
func TestAServerThatDoesNotAlwaysStart(t *testing.T) {
	t.Parallel()
	flag := filepath.Join(t.TempDir(), "started")
	script := "test -e " + flag + " && exit 3; exec " + strings.Join(command(serveWrong, "none")[1:4], " ") + " $0"
	starts := strings.ReplaceAll(script, "={seconds}s", "=60s")
	starts = strings.Replace(starts, "exec ", "exec env ", 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := Run(ctx, Target{Command: []string{"sh", "-c", starts, "{addr}"}}, Options{
		Only: []string{"requests/whole", "requests/answer"}, Jobs: 2,
		Progress: func(int, int, Result) { must(t, os.WriteFile(flag, nil, 0o666)) },
	})
	must(t, err)
	first, second := report.Results[0], report.Results[1]
	if first.Verdict != Holds || second.Verdict != NotJudged || !strings.Contains(second.Reason, "exit status 3") {
		t.Errorf("%s %s, %s %q", first.Verdict, first.Got, second.Verdict, second.Reason)
	}
}

// Where no case could be judged, that is an error.
func TestNothingCouldBeJudged(t *testing.T) {
	holds := Result{Verdict: Holds}
	left := Result{Verdict: NotJudged, Reason: "not asked"}
	trouble := left.trouble(errors.New("out of luck"))
	for _, c := range []struct {
		results []Result
		want    bool
	}{
		{[]Result{holds, trouble}, false},
		{[]Result{left}, false},
		{[]Result{left, trouble}, true},
	} {
		err := (&Report{Results: c.results}).nothingButTrouble()
		if (err != nil) != c.want {
			t.Errorf("%v: %v", c.results, err)
		}
	}
}

// A server that answers nobody is not judged any further.
func TestAServerThatServesNobodyIsNotJudgedFurther(t *testing.T) {
	t.Parallel()
	report, err := Run(t.Context(), Target{Command: command(serveWrong, "answers nothing")},
		Options{Model: EventLoop, Patience: time.Second})
	must(t, err)
	for _, r := range report.Results {
		want := NotJudged
		if r.Address == servesOne {
			want = Fails
		}
		if r.Verdict != want || want == NotJudged && !strings.HasPrefix(r.Reason, servesOne+" fails") {
			t.Errorf("%s: %s (%s), want %s", r.Address, r.Verdict, r.Reason, want)
		}
	}
}
