//go:build linux

package check

import (
	"lesson/internal/lesson"
	"slices"
	"sync"
	"testing"
	"time"
)

// faults are servers that are wrong on purpose, and cases that each fails. They
// prove that a case can fail, and does for its own reason. The exercises prove
// more: that a server fails these cases and no others.
var faults = []struct {
	fault string
	fails []string
}{
	{"answers nothing", []string{"requests/whole"}},
	{"own words", []string{"requests/answer"}},
	{"CR LF only", []string{
		"requests/bare-newlines", "requests/mixed-newlines", "requests/split-newlines",
	}},
	{"first read", []string{"requests/not-before-its-end"}},
	{"text only", []string{"requests/any-bytes"}},
	{"prints as it comes", []string{"requests/printed-safely"}},
	{"ends when nothing comes", []string{"disconnects/leaves-silently"}},
	{"half-closed is gone", []string{
		"disconnects/half-close-after-request", "disconnects/request-and-end-together",
	}},
	{"closes at once", []string{
		"disconnects/body-with-request", "disconnects/late-body",
	}},
	{"answers each", []string{"disconnects/second-request"}},
	{"ends on a reset", []string{
		"disconnects/reset-before-request", "disconnects/reset-mid-request",
		"disconnects/reset-in-accept-queue", "crowds/mixed",
	}},
	{"ends when a client is gone", []string{
		"disconnects/reset-before-answer", "disconnects/reset-after-answer",
		"disconnects/close-before-answer",
	}},
	{"reads where it accepts", []string{"slow/silent-client"}},
	{"a small pool", []string{"slow/many-half-requests", "crowds/patient"}},
	{"no timeout", []string{"slow/timeout", "slow/timeout-dripping"}},
	{"dripping extends the timeout", []string{"slow/timeout-dripping"}},
	{"closes the idle", []string{"crowds/patient"}},
	{"no bound", []string{"limits/oversize", "limits/endless"}},
	{"ends without descriptors", []string{"limits/descriptors-survives"}},
	{"spins without descriptors", []string{"limits/descriptors-calm"}},
	{"gives up without descriptors", []string{
		"limits/descriptors-recovers", "limits/descriptors-raised",
	}},
	{"dies of SIGPIPE", []string{"disconnects/end-and-reset-before-answer"}},
	{"deaf to SIGTERM", []string{"signals/terminate", "signals/terminate-half-request"}},
	{"fails on SIGINT", []string{"signals/interrupt"}},
	{"leaves its listener to a helper", []string{"signals/terminate"}},
	{"waits for its clients", []string{"signals/terminate-half-request"}},
	{"no handler of signals", []string{
		"signals/terminate-answers", "signals/terminate", "signals/interrupt",
	}},
	{"no SO_REUSEADDR", []string{"signals/restart"}},
	{"keeps every descriptor", []string{"resources/descriptors-answered"}},
	{"lingers for ever", []string{
		"resources/descriptors-never-closes", "resources/descriptors-keeps-sending",
	}},
	{"lingers anew with each byte", []string{"resources/descriptors-keeps-sending"}},
	{"keeps what leavers sent", []string{"resources/memory-of-leavers"}},
	{"begins where the last one ended", []string{"requests/no-leftovers"}},
	{"polls", []string{"resources/idle", "resources/idle-half-request"}},
	{"one thread each", []string{"resources/threads"}},
	{"keeps every request", []string{"resources/memory"}},
	{"tries again and again", []string{"resources/idle-full-send-buffer"}},
}

func TestWrongServersAreFoundOut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	// They mostly wait, so more of them than processors run side by side.
	const sideBySide = 6
	places := make(chan struct{}, sideBySide)
	reports := make([]*Report, len(faults))
	errs := make([]error, len(faults))
	var runs sync.WaitGroup
	for i, f := range faults {
		runs.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			reports[i], errs[i] = Run(t.Context(), Target{Command: command(serveWrong, f.fault)}, Options{
				Model: EventLoop, Only: f.fails, Jobs: 2, Patience: 2 * time.Second, Timeout: time.Second,
			})
		})
	}
	runs.Wait()
	for i, f := range faults {
		t.Run(f.fault, func(t *testing.T) {
			if errs[i] != nil {
				t.Fatal(errs[i])
			}
			for _, r := range reports[i].Results {
				if r.Verdict != Fails {
					t.Errorf("%s: %s %s %v", r.Address, r.Verdict, r.Reason, r.Notes)
				}
			}
		})
	}
}

// The same server without a fault: what fails above fails for the fault.
func TestTheServerWithoutFaultIsRight(t *testing.T) {
	report, err := Run(t.Context(), Target{Command: command(serveWrong, "none")}, Options{
		Timeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	allHold(t, report)
}

// allHold demands that every case that is asked of such a server has been judged
// and holds.
func allHold(t *testing.T, report *Report) {
	t.Helper()
	for _, r := range report.Results {
		if r.Verdict != Holds && r.askedOf(report.Model) {
			t.Errorf("%s: %s %s\n got %s\nwant %s\n%q", r.Address, r.Verdict, r.Reason, r.Got, r.Want, r.Process)
		}
	}
}

func TestTheLessonsAreRight(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, l := range lesson.All() {
		t.Run(l.Name, func(t *testing.T) {
			report, err := Run(t.Context(), Target{Command: command(serveLesson, l.Name)}, Options{
				Timeout: time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			if report.Model != l.Model {
				t.Errorf("guessed %s, want %s (%s)", report.Model, l.Model, report.Seen)
			}
			allHold(t, report)
			if len(report.Results) != len(Cases()) {
				t.Errorf("%d results for %d cases", len(report.Results), len(Cases()))
			}
		})
	}
}

// Every case is failed by one of the faults here, or by an exercise.
func TestEveryCaseCanFail(t *testing.T) {
	failed := map[string]bool{}
	for _, f := range faults {
		for _, address := range f.fails {
			failed[address] = true
		}
	}
	var never []string
	for _, c := range Cases() {
		if !failed[c.Address] && !slices.Contains(byExercises, c.Address) {
			never = append(never, c.Address)
		}
	}
	if len(never) > 0 {
		t.Errorf("no server here fails %q", never)
	}
}

// byExercises is failed by servers under docs/exercises, whose matrix is tested.
// Most of it takes an event loop of one's own to get wrong.
var byExercises = []string{
	"requests/split-terminator", "requests/byte-by-byte",
	"requests/large", "requests/large-in-two",
	"disconnects/end-of-file-mid-request", "disconnects/half-request-and-end-together",
	"slow/half-request", "slow/dripping", "slow/short-write",
	"slow/full-send-buffer", "slow/full-send-buffer-others",
	"crowds/hundred", "crowds/burst", "crowds/burst-of-silent", "crowds/accept-queue",
	"crowds/beyond-1024",
	"limits/stale-event",
	"signals/stop-and-continue",
	"resources/descriptors-reset", "resources/descriptors-end-of-file",
	"resources/idle-end-of-file", "resources/idle-after-answer", "resources/idle-reset",
	"fairness/flooder", "fairness/endless-request", "fairness/connector",
}
