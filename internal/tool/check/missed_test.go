//go:build linux

package check

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"lesson/internal/proof"
	"lesson/internal/protocol"
)

// A case that comes too late for what it is about begins again, with another server, and in
// its last try is judged as it is. A failure is one, however late.
func TestACaseThatIsLateBeginsAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		lateFor int // tries
		judge   step
		want    Verdict
		plays   int
		noted   bool
	}{
		{"in time", 0, endsInTime(beginsInTime(own("it holds", fine))), Holds, 1, false},
		{"begins late", 2, beginsInTime(own("it holds", fine)), Holds, 3, false},
		{"ends late", 2, endsInTime(own("it holds", fine)), Holds, 3, false},
		{"always begins late", mostTries, beginsInTime(own("it holds", fine)), Holds, mostTries, true},
		{"always ends late", mostTries, endsInTime(own("it holds", fine)), Holds, mostTries, true},
		{"fails late", mostTries, endsInTime(own("it fails", wrongly)), Fails, 1, false},
		{"fails, and begins late", 1, beginsInTime(own("it fails", wrongly)), Fails, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var servers []int
			r := &runner{
				target:   Target{Command: command(serveWrong, "none")},
				options:  Options{Jobs: 1, Patience: DefaultPatience},
				portrait: portrait{model: EventLoop, answer: answer{bytes: protocol.Response}, visible: true},
			}
			result, err := r.judge(t.Context(), Case{Models: everyone, script: []step{
				connect("a"), send("a", whole),
				own("it may be late", func(t *trial) error {
					servers = append(servers, t.server.Pid())
					t.asked = time.Now().Add(time.Hour) // however busy the machine is
					if len(servers) <= c.lateFor {
						t.asked = time.Now().Add(-2 * stays)
					}
					return nil
				}),
				c.judge,
			}})
			must(t, err)
			slices.Sort(servers)
			if result.Verdict != c.want || len(slices.Compact(servers)) != c.plays {
				t.Errorf("%s with servers %v, want %s with %d", result.Verdict, servers, c.want, c.plays)
			}
			note := fmt.Sprintf("%v: it may have been looked at too late", errMissed)
			if slices.Contains(result.Notes, note) != c.noted {
				t.Errorf("noted %q", result.Notes)
			}
		})
	}
}

func fine(*trial) error    { return nil }
func wrongly(*trial) error { return fails("this", "that") }

// The turn of a server is over when it sleeps, or has run for a while: not before.
func TestATurnIsOver(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"none", "spins"} {
		spins := fault == "spins"
		// A loop that the runtime interrupts would seem to sleep at times.
		command := slices.Insert(command(serveWrong, fault), 1, "GODEBUG=asyncpreemptoff=1")
		s, err := Target{Command: command}.start(t.Context(), time.Minute)
		must(t, err)
		t.Cleanup(func() { must(t, s.End()) })
		proof.Eventually(t, "it to do what it does", func() bool {
			asleep, err := s.asleep()
			must(t, err)
			return asleep != spins
		})
		var its turn
		before := s.onProcessor()
		if its.over(s) == spins {
			t.Errorf("%s: its turn is over at once: %v", fault, !spins)
		}
		proof.Eventually(t, "its turn to be over", func() bool { return its.over(s) })
		ran := s.onProcessor() - before
		if spins && ran < aTurn && time.Since(its.began) < turnMost {
			t.Errorf("it ran for %v, want %v", ran, aTurn)
		}
	}
}
