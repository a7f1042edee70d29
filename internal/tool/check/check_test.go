//go:build linux

package check

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/docs"
	"lesson/internal/child"
	"lesson/internal/observe/proc"
	"lesson/internal/proof"
	"lesson/internal/protocol"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCasesAreComplete(t *testing.T) {
	const least = 40
	cases := Cases()
	if len(cases) < least {
		t.Errorf("%d cases, want at least %d", len(cases), least)
	}
	address := regexp.MustCompile(`^[a-z]+/[a-z0-9-]+$`)
	seen := map[string]bool{}
	groups := []string{
		"requests", "disconnects", "slow", "crowds", "limits", "signals", "resources", "fairness", "proxy",
	}
	contract, err := docs.Chapters.ReadFile("contract.md")
	must(t, err)
	last := 0
	for _, c := range cases {
		if !address.MatchString(c.Address) {
			t.Errorf("address %q", c.Address)
		}
		for _, unique := range []string{c.Address, c.Must} {
			if seen[unique] {
				t.Errorf("%s: there are two of %q", c.Address, unique)
			}
			seen[unique] = true
		}
		if c.Severity != Must && c.Severity != Should {
			t.Errorf("%s: severity %q", c.Address, c.Severity)
		}
		for what, text := range map[string]string{"must": c.Must, "why": c.Why, "cause": c.Cause} {
			if !strings.HasSuffix(text, ".") || strings.Contains(text, "  ") {
				t.Errorf("%s: %s is no sentence: %q", c.Address, what, text)
			}
		}
		if _, err := docs.Chapters.ReadFile(path.Base(c.Chapter)); err != nil {
			t.Errorf("%s: %v", c.Address, err)
		}
		if !bytes.Contains(contract, []byte("\n## "+c.Contract+"\n")) {
			t.Errorf("%s: docs/contract.md has no row %q", c.Address, c.Contract)
		}
		if len(c.Models) == 0 || len(c.script) == 0 {
			t.Errorf("%s: asked of %v, in %d steps", c.Address, c.Models, len(c.script))
		}
		// Something must be demanded, or the case cannot fail.
		if !strings.Contains(strings.Join(c.Script(EventLoop), "\n"), "must") {
			t.Errorf("%s: nothing must hold in %q", c.Address, c.Script(EventLoop))
		}
		place := slices.Index(groups, c.Group())
		if place < last {
			t.Errorf("%s: group %q is unknown, or out of order", c.Address, c.Group())
		}
		last = place
	}
}

func TestSelect(t *testing.T) {
	group := func(name string) (addresses []string) {
		for _, c := range Cases() {
			if c.Group() == name {
				addresses = append(addresses, c.Address)
			}
		}
		return addresses
	}
	for _, c := range []struct {
		only []string
		want []string
		err  string
	}{
		{only: []string{"requests/whole"}, want: []string{"requests/whole"}},
		{only: []string{"fairness"}, want: group("fairness")},
		{only: []string{"fairness/"}, want: group("fairness")},
		{only: []string{"fairness/…"}, want: group("fairness")},
		{only: []string{"fairness/*"}, want: group("fairness")},
		{
			only: []string{"fairness", "requests/whole", "fairness/flooder"},
			want: append([]string{"requests/whole"}, group("fairness")...),
		},
		{only: []string{"slow/whole"}, err: "did you mean requests/whole?"},
		{only: []string{"nosuch"}, err: "groups are requests, disconnects"},
		{only: []string{""}, err: `no case or group ""`},
	} {
		cases, err := Select(c.only)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.only, err, c.err)
			}
			continue
		}
		var got []string
		for _, c := range cases {
			got = append(got, c.Address)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v, want %q", c.only, got, err, c.want)
		}
	}
	if all, err := Select(nil); len(all) != len(Cases()) || err != nil {
		t.Errorf("nothing selects %d cases, %v", len(all), err)
	}
}

func TestWhatCannotRun(t *testing.T) {
	t.Parallel()
	free := func() netip.AddrPort { // one for each: another may listen there for a while
		port, err := child.FreePort()
		must(t, err)
		return netip.AddrPortFrom(loopback, port)
	}
	for _, c := range []struct {
		name   string
		target Target
		only   []string
		want   string
	}{
		{"no such program", Target{Command: []string{"/no/such/program"}}, nil, "no such file"},
		{"it ends at once", Target{Command: []string{"sh", "-c", "echo bye; exit 3 # {port}"}}, nil,
			"ended before it listened: exit status 3"},
		{"its last lines", Target{Command: []string{"sh", "-c", "echo bye; exit 3 # {port}"}}, nil, "bye"},
		{"another port", Target{Command: append(command(serveWrong, "none")[:4],
			free().String(), "{port}", "127.0.0.1:0")}, nil, "as its command asks"},
		{"no server there", Target{Addr: free()}, nil, "no server listens"},
		{"no such case", Target{Command: []string{"true"}}, []string{"nosuch"}, "no case or group"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			report, err := Run(t.Context(), c.target, Options{Only: c.only})
			if report != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, %v, want %q", report, err, c.want)
			}
		})
	}
}

// A server that runs already is watched, but not touched. In an ordinary run that is shown in
// one group, which has cases that need nothing, to look at the server, and to start it.
func TestARunningServer(t *testing.T) {
	t.Parallel()
	only := []string{"disconnects"}
	if proof.Exhaustive() {
		only = nil
		t.Log("exhaustive: all cases against a server that runs already")
	}
	target := Target{Command: command(serveWrong, "none")}
	s, err := target.start(t.Context(), time.Minute)
	must(t, err)
	defer func() { must(t, s.End()) }()
	report, err := Run(t.Context(), Target{Addr: s.Addr}, Options{Only: only})
	must(t, err)
	for _, r := range report.Results {
		switch {
		case r.needs == toStart && r.askedOf(report.Model):
			if r.Verdict != NotJudged {
				t.Errorf("%s: %s, though we have not started the server", r.Address, r.Verdict)
			}
		case r.Verdict == Fails, r.Verdict == NotJudged && r.needs == toLook && r.askedOf(report.Model):
			t.Errorf("%s: %s %s, got %s", r.Address, r.Verdict, r.Reason, r.Got)
		}
	}
	if s.Ended() {
		t.Error("the server has ended")
	}
}

func TestARunningServerThatEndsIsMissed(t *testing.T) {
	target := Target{Command: command(serveWrong, "ends on a reset")}
	s, err := target.start(t.Context(), time.Minute)
	must(t, err)
	defer func() { must(t, s.End()) }()
	report, err := Run(t.Context(), Target{Addr: s.Addr}, Options{
		Only: []string{"disconnects/reset-mid-request", "disconnects/reset-after-answer"},
	})
	must(t, err)
	first, second := report.Results[0], report.Results[1]
	if first.Verdict != Fails || !strings.Contains(strings.Join(first.Process, " "), "has ended") {
		t.Errorf("%s: %s %q", first.Address, first.Verdict, first.Process)
	}
	if second.Verdict != NotJudged || !strings.Contains(second.Reason, first.Address) {
		t.Errorf("%s: %s %q", second.Address, second.Verdict, second.Reason)
	}
}

// An interrupted run returns what has been decided, and leaves no server.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var decided int
	report, err := Run(ctx, Target{Command: command(serveWrong, "none")}, Options{
		Progress: func(done, _ int, _ Result) {
			if decided = done; done == 5 {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if report == nil || len(report.Results) < 5 || len(report.Results) != decided {
		t.Errorf("%d had been decided; the report is %+v", decided, report)
	}
	if children, err := childrenOf(os.Getpid()); len(children) > 0 || err != nil {
		t.Errorf("%v still run (%v)", children, err)
	}
}

func childrenOf(pid int) (children []string, err error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if fields[0] != "Z" && fields[1] == strconv.Itoa(pid) {
			children = append(children, file)
		}
	}
	return children, nil
}

func TestWatchJudgesAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "server.sh")
	write := func(fault string) {
		text := "exec " + strings.Join(command(serveWrong, fault)[:4], " ") + " $1\n"
		text = strings.ReplaceAll(strings.ReplaceAll(text, "={seconds}s", "=60s"), "="+fault, "='"+fault+"'")
		must(t, os.WriteFile(program, []byte(text), 0o666))
	}
	write("own words")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var verdicts []Verdict
	target := Target{Command: []string{"sh", program, "{addr}"}}
	must(t, Watch(ctx, target, func(ctx context.Context) func() {
		report, err := Run(ctx, target, Options{Only: []string{"requests/answer"}})
		return func() {
			must(t, err)
			verdicts = append(verdicts, report.Results[0].Verdict)
			if len(verdicts) == 2 {
				cancel()
			}
			write("none")
		}
	}))
	if want := []Verdict{Fails, Holds}; !slices.Equal(verdicts, want) {
		t.Errorf("verdicts %q, want %q", verdicts, want)
	}
}

func TestFilesToWatch(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "server.py")
	must(t, os.WriteFile(program, nil, 0o666))
	for _, c := range []struct {
		command []string
		want    []string
	}{
		{[]string{"python3", "server.py", "{port}"}, []string{program}},
		{[]string{"python3", program}, []string{program}},
		{[]string{"go", "run", ".", "{addr}"}, []string{dir}},
		{[]string{"./server.py"}, []string{program}},
		{[]string{"server.py"}, nil}, // from the PATH
	} {
		got, err := Target{Command: c.command, Dir: dir}.Files()
		if !slices.Equal(got, c.want) || (err != nil) != (c.want == nil) {
			t.Errorf("%q: %q, %v, want %q", c.command, got, err, c.want)
		}
	}
}

// What a short write needs: the kernel takes exactly what there is room for.
func TestASendBufferTakesAPart(t *testing.T) {
	s, err := Target{Command: command(serveWrong, "none")}.start(t.Context(), time.Minute)
	must(t, err)
	r := &runner{
		options:  Options{Patience: DefaultPatience},
		portrait: portrait{answer: answer{bytes: protocol.Response}},
	}
	tr := r.trial(t.Context(), s)
	defer func() { must(t, tr.close()) }()
	for _, step := range []step{tryOut(), connectSmall("a"), send("a", half), taken("a"), fillBut("a")} {
		must(t, step.do(tr))
	}
	theirs, err := tr.theirs(tr.clients["a"])
	must(t, err)
	fd, err := duplicate(theirs, s.Pids())
	must(t, err)
	defer unix.Close(fd)
	n, err := unix.SendmsgN(fd, make([]byte, 114), nil, nil, unix.MSG_DONTWAIT)
	if n != partOfAnswer || err != nil {
		t.Errorf("the kernel took %d bytes of 114, %v, want %d", n, err, partOfAnswer)
	}
	if n, err = unix.SendmsgN(fd, make([]byte, 54), nil, nil, unix.MSG_DONTWAIT); err != unix.EAGAIN {
		t.Errorf("and then %d bytes, %v, want %v", n, err, unix.EAGAIN)
	}
}

func aReport(t *testing.T) *Report {
	t.Helper()
	cases, err := Select([]string{"requests/whole", "disconnects/leaves-silently", "slow/timeout"})
	must(t, err)
	holds := Result{
		Case: cases[0], Verdict: Holds, Script: cases[0].Script(EventLoop), Took: 3 * time.Millisecond,
		Notes: []string{"a figure"},
	}
	fails := Result{
		Case: cases[1], Verdict: Fails, Script: cases[1].Script(EventLoop), Step: 4,
		Got: "not a byte \x1b", Want: "the answer", Process: []string{"the server has ended: exit status 1"},
	}
	left := Result{Case: cases[2], Verdict: NotJudged, Reason: "for a reason"}
	return &Report{
		Target: "python3 \x1b[1mserver.py", Model: EventLoop, Guessed: true, Seen: "event loop",
		Results: []Result{holds, fails, left}, Took: 1500 * time.Millisecond,
	}
}

func TestPrintedReport(t *testing.T) {
	var out bytes.Buffer
	aReport(t).Print(&out, PrintOptions{Verbose: true})
	const want = `python3 \x1b[1mserver.py
  seen   event loop
         model: event-loop (guessed; change it with --model)

requests
  holds       requests/whole                           3ms
              a figure

disconnects
  FAILS       disconnects/leaves-silently

slow
  not judged  slow/timeout
              for a reason

FAILS  disconnects/leaves-silently  (must)
  must   A client that connects and closes at once does no harm.
  why    Port scanners and load balancers do that all day.

     1  a connects
     2  the server must accept a
     3  a closes
  ✗  4  after that, the next two clients must be answered
        got    not a byte \x1b
        want   the answer
               the server has ended: exit status 1

  cause  The server does not check for end of file (read returns 0), or treats
         it as an error and ends.
  read   docs/01-one-client.md
  rule   docs/contract.md#b4

  requests      1 of  1 hold
  disconnects   0 of  1 hold

1 case holds, 1 fails (1.5 s)
1 not judged: for a reason
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestNoLineIsWiderThanTheTerminal(t *testing.T) {
	for _, width := range []int{narrowest, 60, 80, 200} {
		var out bytes.Buffer
		for _, c := range Cases() {
			result := Result{Case: c, Verdict: Fails, Script: c.Script(EventLoop), Step: len(c.script),
				Got: strings.Repeat("word ", 40), Want: strings.Repeat("word ", 40)}
			PrintResult(&out, result, PrintOptions{Width: width})
			c.Explain(&out, PrintOptions{Width: width})
		}
		for line := range strings.Lines(out.String()) {
			// A single word may be longer: bytes that were sent, quoted.
			text := strings.TrimRight(line, "\n")
			if n := len([]rune(text)); n > min(width, widest) && len(strings.Fields(text)) > 3 {
				t.Errorf("width %d: %d columns: %s", width, n, text)
			}
		}
	}
}

func TestJUnit(t *testing.T) {
	var out bytes.Buffer
	must(t, aReport(t).JUnit(&out))
	var suite struct {
		Name     string `xml:"name,attr"`
		Tests    int    `xml:"tests,attr"`
		Failures int    `xml:"failures,attr"`
		Skipped  int    `xml:"skipped,attr"`
		Cases    []struct {
			Name    string  `xml:"name,attr"`
			Failure *string `xml:"failure"`
			Skipped *struct {
				Message string `xml:"message,attr"`
			} `xml:"skipped"`
		} `xml:"testcase"`
	}
	must(t, xml.Unmarshal(out.Bytes(), &suite))
	if suite.Name != `python3 \x1b[1mserver.py` || suite.Tests != 3 || suite.Failures != 1 || suite.Skipped != 1 {
		t.Errorf("the suite is %+v", suite)
	}
	failure := suite.Cases[1].Failure
	if failure == nil || !strings.Contains(*failure, "a closes") || strings.Contains(*failure, "\x1b") {
		t.Errorf("the failure is %v", failure)
	}
	if suite.Cases[0].Failure != nil || suite.Cases[2].Skipped.Message != "for a reason" {
		t.Errorf("the others are %+v, %+v", suite.Cases[0], suite.Cases[2])
	}
}

func TestProgressAndOrder(t *testing.T) {
	t.Parallel()
	var seen []int
	report, err := Run(t.Context(), Target{Command: command(serveWrong, "none")}, Options{
		Only: []string{"requests"}, Jobs: 3,
		Progress: func(done, all int, r Result) {
			seen = append(seen, done)
			if all != 14 || r.Verdict != Holds {
				t.Errorf("%d of %d: %s %s", done, all, r.Address, r.Verdict)
			}
		},
	})
	must(t, err)
	for i, done := range seen {
		if done != i+1 {
			t.Errorf("progress was %v", seen)
		}
	}
	for i, c := range Cases()[:14] {
		if report.Results[i].Address != c.Address {
			t.Errorf("result %d is of %s, want %s", i, report.Results[i].Address, c.Address)
		}
	}
	if len(report.Calls) == 0 || report.Calls["accept4"] < 1 {
		t.Errorf("the calls of a request are %v", report.Calls)
	}
}

func TestServersEndWithTheirChildren(t *testing.T) {
	s, err := Target{Command: []string{
		"sh", "-c", strings.Join(command(serveWrong, "none")[1:4], " ") + " {addr} & wait",
	}}.start(t.Context(), time.Minute)
	must(t, err)
	if len(s.Pids()) != 1 || s.Pid() == s.Proc.Pid() {
		t.Errorf("the listener is held by %v, a child of %d", s.Pids(), s.Proc.Pid())
	}
	must(t, s.End())
	gone, err := until(t.Context(), 10*time.Second, func() (bool, error) {
		_, err := proc.Used(s.Pids()[0])
		return errors.Is(err, proc.ErrGone), nil
	})
	if !gone || err != nil {
		t.Errorf("process %d still runs (%v)", s.Pids()[0], err)
	}
}

// Descriptors that the checker lacks are not the server's fault.
func TestOwnDescriptorsAreNotTheServersFault(t *testing.T) {
	var cannot unable
	if _, err := new(trial).dialled(nil, fmt.Errorf("socket: %w", unix.EMFILE)); !errors.As(err, &cannot) {
		t.Errorf("got %v", err)
	}
	var failed *failure
	if _, err := new(trial).dialled(nil, unix.ECONNREFUSED); !errors.As(err, &failed) {
		t.Errorf("a server that refuses: %v", err)
	}
}

// The script of a case may end the server. How it ended then is not the cause.
func TestTheCauseIsTheCases(t *testing.T) {
	report, err := Run(t.Context(), Target{Command: command(serveWrong, "prints, and has no handler")},
		Options{Model: EventLoop, Only: []string{"requests/printed-safely"}})
	must(t, err)
	if r := report.Results[0]; r.Verdict != Fails || r.Cause != printsRaw {
		t.Errorf("%s, because %q; want %q", r.Verdict, r.Cause, printsRaw)
	}
}
