//go:build linux

package check

import (
	"net"
	"strings"
	"testing"
	"time"
)

// A server that answers late is right, whatever wakes it in the end.
func TestServersThatAnswerLate(t *testing.T) {
	t.Parallel()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = other.Close() })
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			time.AfterFunc(late, func() { _ = c.Close() })
		}
	}()
	for _, fault := range []string{
		"waits for a time", "waits for a timer", "asks " + other.Addr().String(),
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			report, err := Run(t.Context(), Target{Command: command(serveWrong, fault)},
				Options{Model: EventLoop, Only: []string{"requests/bare-newlines"}})
			must(t, err)
			allHold(t, report)
			if took := report.Results[0].Took; took < late {
				t.Errorf("the case took %v, and the server answers after %v", took, late)
			}
		})
	}
}

// A server that is busy for a while, and then sleeps, does not spin. On a busy machine, its
// work may be over before it is looked at.
func TestWorkIsNoSpin(t *testing.T) {
	t.Parallel()
	const tries = 10
	var notes []string
	for range tries {
		report, err := Run(t.Context(), Target{Command: command(serveWrong, worksForAWhile)},
			Options{Model: EventLoop, Only: []string{"resources/idle-end-of-file"}})
		must(t, err)
		allHold(t, report)
		notes = report.Results[0].Notes
		if len(notes) > 0 && strings.HasPrefix(notes[0], "calm after") {
			return
		}
	}
	t.Errorf("it was not busy: %q", notes)
}

// The checker does not wait for a server that is blocked for good.
func TestABlockedServerIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	const patience = 40 * time.Second // less than the time limit of the server
	report, err := Run(t.Context(), Target{Command: command(serveWrong, "never answers")},
		Options{Model: EventLoop, Only: []string{"requests/bare-newlines"}, Patience: patience})
	must(t, err)
	r := report.Results[0]
	if r.Verdict != Fails || r.Took > patience/2 || !strings.Contains(r.Got, "nothing is on its way") {
		t.Errorf("%s after %v: got %s", r.Verdict, r.Took, r.Got)
	}
}
