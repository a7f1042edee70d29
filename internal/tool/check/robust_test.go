//go:build linux

package check

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/progress"
	"lesson/internal/proof"
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

// a server that answers no client is not judged any further.
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

// Of cases that fail for one reason, the first is printed at length, and a list follows.
func TestOneReasonIsPrintedOnce(t *testing.T) {
	report := aReport(t)
	again := report.Results[1]
	again.Address = "disconnects/another"
	other := again
	other.Address, other.Cause = "disconnects/other", ""
	report.Results = append(report.Results, again, other)
	var out bytes.Buffer
	report.Print(&out, PrintOptions{})
	for _, want := range []string{
		"FAILS  disconnects/another  (must)\n  must   A client that connects and closes at once does no" +
			" harm.\n  cause  the same as for disconnects/leaves-silently\n",
		"2 fail for one reason: ", "\n  disconnects/leaves-silently\n  disconnects/another\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not contain %q:\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "  cause  "); n != 2 {
		t.Errorf("%d causes, want 2: where none follows, none is printed", n)
	}
}

// A run is remembered, and compared with the next.
func TestTheLastRunIsRemembered(t *testing.T) {
	file := progress.File{Path: filepath.Join(t.TempDir(), "progress.json")}
	all := func(failing int) *Report {
		r := &Report{Target: "server", Results: make([]Result, len(Cases()))}
		for i := range r.Results {
			r.Results[i].Verdict = Holds
			if i < failing {
				r.Results[i].Verdict = Fails
			}
		}
		must(t, r.Remember(file))
		return r
	}
	if r := all(30); r.Before != nil {
		t.Errorf("the first run knows of %+v", r.Before)
	}
	for _, c := range []struct {
		failing int
		want    string
	}{
		{15, "30 → 15 failing since the last run"},
		{15, "15 failing, as in the last run"},
	} {
		if got := all(c.failing).Before.compared(c.failing); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	some := &Report{Target: "server", Results: make([]Result, 1)}
	must(t, some.Remember(file))
	if got := all(15).Before; got == nil || got.Failing != 15 {
		t.Errorf("a run of one case was kept: %+v", got)
	}
	must(t, os.WriteFile(file.Path, []byte(`{"check": {"server": {"failing": -5}}}`), 0o666))
	damaged := &Report{Target: "server", Results: make([]Result, len(Cases()))}
	damaged.Results[0].Verdict = Holds
	if err := damaged.Remember(file); err == nil || !strings.Contains(err.Error(), "kept as") {
		t.Errorf("a damaged file: %v", err)
	}
}

// A server that reads an endless request slowly keeps it all the same.
func TestASlowReaderThatKeepsEverything(t *testing.T) {
	proof.OnlyExhaustive(t, "a server that is slow on purpose; 7 s")
	const source = `
import socket, sys, time
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    request = bytearray()
    while b"\r\n\r\n" not in request[-2000:]:
        request += connection.recv(1024)
        time.sleep(0.001)
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nHello, world!")
    connection.close()
`
	file := filepath.Join(t.TempDir(), "slow.py")
	must(t, os.WriteFile(file, []byte(source), 0o644))
	report, err := Run(t.Context(), Target{Command: []string{available(t, "python3"), file, "{port}"}},
		Options{Only: []string{"limits/endless"}})
	must(t, err)
	if r := report.Results[0]; r.Verdict != Fails || !strings.Contains(r.Got, "continues to read") {
		t.Errorf("%s %v %s, got %s", r.Verdict, r.Notes, r.Reason, r.Got)
	}
}

// --first stops at the first case that fails.
func TestFirst(t *testing.T) {
	t.Parallel()
	report, err := Run(t.Context(), Target{Command: command(serveWrong, "CR LF only")}, Options{
		Model: EventLoop, Only: []string{"requests"}, First: true, Jobs: 1,
	})
	must(t, err)
	last := report.Results[len(report.Results)-1]
	if len(report.Failed()) != 1 || last.Verdict != Fails || report.Missing == 0 {
		t.Errorf("%d fail, the last is %s, %d are missing", len(report.Failed()), last.Address, report.Missing)
	}
}
