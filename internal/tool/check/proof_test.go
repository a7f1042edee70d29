//go:build linux

package check

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/internal/lesson"
	"lesson/internal/proof"
	"lesson/internal/protocol"
)

// Every case names a server that fails it. The tests of exercise run the exercises.
func TestEveryCaseNamesItsProof(t *testing.T) {
	for _, c := range Cases() {
		if len(c.FailedBy) == 0 {
			t.Errorf("%s: FailedBy names no server", c.Address)
		}
	}
}

// faults returns the cases that each fault fails.
func faults() (names []string, fails map[string][]Case) {
	fails = map[string][]Case{}
	for _, c := range Cases() {
		for _, name := range c.FailedBy {
			if !isFault(name) || isKnown(name) {
				continue
			}
			if fails[name] == nil {
				names = append(names, name)
			}
			fails[name] = append(fails[name], c)
		}
	}
	return names, fails
}

// causes are those that are named for known faults; of several, it depends on the moment.
// Where a fault is not here, it is the cause that its case has for itself.
var causes = map[string][]string{
	"a small pool":                            {someOnly},
	"closes at once disconnects/late-body":    {caseCause("disconnects/late-body")},
	"deaf to SIGTERM":                         {doesNotEnd},
	"fails on SIGINT":                         {endsByNumber},
	"dies of SIGPIPE":                         {telling([]string{"write: broken pipe"})},
	"ends on a reset":                         {telling([]string{"connection reset by peer"})},
	"ends without descriptors":                {telling([]string{"too many open files"})},
	"leaves its listener to a helper":         {leavesListener},
	"lingers forever":                         {noBound},
	"no handler of signals":                   {telling([]string{"signal: terminated"})},
	"no handler of signals signals/interrupt": {telling([]string{"signal: interrupt"})},
	"no timeout":                              {noDeadline},
	"polls resources/idle-half-request":       {""}, // the Go runtime calls nanosleep as well
	"spins without descriptors":               {spinCauses[spinsAccepting]},
	"tries again and again":                   {spinCauses[spinsWriting]},
	"waits for its clients":                   {doesNotEnd},
	"ends when a client is gone": {
		telling([]string{"connection reset by peer"}), telling([]string{"not connected"}),
		telling([]string{"broken pipe"}),
	},
}

// causesOf returns the causes that may be named when a fault fails a case.
func causesOf(fault, address string) []string {
	if named, known := causes[fault+" "+address]; known {
		return named
	}
	if named, known := causes[fault]; known {
		return named
	}
	return []string{caseCause(address)}
}

// caseCause returns the cause that a case has for itself.
func caseCause(address string) string {
	all := Cases()
	return all[slices.IndexFunc(all, func(c Case) bool { return c.Address == address })].Cause
}

// A server with one fault fails each case that names the fault. It does so however
// short the clients' patience is, and so their patience is short.
func TestFaultsFailTheirCases(t *testing.T) {
	names, fails := faults()
	sideBySide(t, names, func(t *testing.T, fault string) {
		r := &runner{
			target: Target{Command: command(serveWrong, fault)},
			options: Options{
				Jobs: len(fails[fault]), Patience: 2 * time.Second, Timeout: time.Second,
			},
			portrait: portrait{model: EventLoop, answer: answer{bytes: protocol.Response}, visible: true},
		}
		results, err := r.judgeAll(t.Context(), fails[fault])
		must(t, err)
		for _, r := range results {
			if tooManyInTimeWait(t, r) {
				continue
			}
			if r.Verdict != Fails {
				t.Errorf("%s: %s %s %v", r.Address, r.Verdict, r.Reason, r.Notes)
			}
			if want := causesOf(fault, r.Address); !slices.Contains(want, r.Cause) {
				t.Errorf("%s: got %s %q\ncause %q\n want %q", r.Address, r.Got, r.Process, r.Cause, want)
			}
		}
	})
}

// sideBySide runs a subtest for each name, beside other tests.
func sideBySide(t *testing.T, names []string, test func(*testing.T, string)) {
	t.Parallel()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, name)
		})
	}
}

// The same server without a fault: what fails above fails for the fault.
func TestTheServerWithoutFaultIsRight(t *testing.T) {
	t.Parallel()
	rightWithoutFault(t, func(c Case) bool { return !c.alone })
}

func TestTheServerWithoutFaultIsRightAlone(t *testing.T) {
	rightWithoutFault(t, func(c Case) bool { return c.alone })
}

func rightWithoutFault(t *testing.T, such func(Case) bool) {
	t.Helper()
	report, err := Run(t.Context(), Target{Command: command(serveWrong, "none")}, Options{
		Timeout: time.Second, Only: addresses(such),
	})
	must(t, err)
	allHold(t, report)
}

// addresses returns the addresses of such cases, but not of those that are asked of proxies:
// the servers of these tests are none.
func addresses(such func(Case) bool) (found []string) {
	for _, c := range Cases() {
		if such(c) && !c.OfProxies() {
			found = append(found, c.Address)
		}
	}
	return found
}

// notAlone reports whether an ordinary run judges a case beside other tests. The cases
// that need the machine for themselves, or some seconds, are left to the exhaustive run.
func notAlone(c Case) bool {
	return proof.Exhaustive() || !c.alone && (!c.long || c.needs == aTimeout)
}

// allHold demands that every case that is asked of such a server has been judged
// and holds.
func allHold(t *testing.T, report *Report) {
	t.Helper()
	for _, r := range report.Results {
		if r.Verdict != Holds && r.askedOf(report.Model) && !tooManyInTimeWait(t, r) &&
			r.Reason != endedByRuntime {
			t.Errorf("%s: %s %s\n got %s\nwant %s\n%q", r.Address, r.Verdict, r.Reason, r.Got, r.Want, r.Process)
		}
	}
}

// tooManyInTimeWait reports whether a case was not judged because the machine has as many
// connections in TIME_WAIT as it keeps, or nearly: these tests, run together, leave so many.
func tooManyInTimeWait(t *testing.T, r Result) bool {
	t.Helper()
	if r.Verdict != NotJudged || r.Reason != noTimeWait {
		return false
	}
	number := func(file, after string) (n int) {
		text, err := os.ReadFile(file)
		must(t, err)
		_, rest, _ := strings.Cut(string(text), after)
		_, err = fmt.Sscan(rest, &n)
		must(t, err)
		return n
	}
	now := number("/proc/net/sockstat", " tw ")
	most := number("/proc/sys/net/ipv4/tcp_max_tw_buckets", "")
	t.Logf("%s: %d connections are in TIME_WAIT, at most %d", r.Address, now, most)
	return now > most*3/4
}

// The lessons pass every case. In an ordinary run the two event loops do, and the others the
// cases of requests.
func TestTheLessonsAreRight(t *testing.T) {
	all := addresses(notAlone)
	if proof.Exhaustive() {
		t.Logf("exhaustive: all %d cases against each lesson", len(all))
	}
	var names []string
	for _, l := range lesson.All() {
		names = append(names, l.Name)
	}
	sideBySide(t, names, func(t *testing.T, name string) {
		l, err := lesson.Find(name)
		must(t, err)
		only := all
		if !proof.Exhaustive() && name != "epoll" && name != "edgetriggered" {
			only = addresses(func(c Case) bool { return c.Group() == "requests" })
		}
		report, err := Run(t.Context(), Target{Command: command(serveLesson, name)}, Options{
			Timeout: time.Second, Only: only,
		})
		must(t, err)
		if report.Model != l.Model {
			t.Errorf("guessed %s, want %s (%s)", report.Model, l.Model, report.Seen)
		}
		allHold(t, report)
		if len(report.Results) != len(only) {
			t.Errorf("%d results for %d cases", len(report.Results), len(only))
		}
	})
}

// Memory that grows and then levels off is no leak.
func TestACacheIsNoLeak(t *testing.T) {
	proof.OnlyExhaustive(t, "several thousand clients: some seconds")
	report, err := Run(t.Context(), Target{Command: command(serveWrong, fillsACache)}, Options{
		Only: []string{"resources/memory"},
	})
	must(t, err)
	allHold(t, report)
	if notes := report.Results[0].Notes; len(notes) < 2 {
		t.Errorf("the memory did not grow at first: %q", notes)
	}
}
