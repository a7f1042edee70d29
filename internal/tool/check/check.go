//go:build linux

// Package check judges a server that a reader has written, in any language. It
// plays clients, well behaved and not, watches the process where it may, and
// reports for each case whether the server follows the rule.
//
// A case is a script of steps. The text of the steps is what `--explain` prints
// and what a failing case shows, so a report hides nothing that was sent.
package check

import (
	"net/netip"
	"slices"
	"time"

	"lesson/internal/lesson"
)

// A Model is how a server uses threads. It decides what must hold.
type Model = lesson.Model

// The models.
const (
	Blocking  = lesson.Blocking
	Loop      = lesson.Loop
	Threaded  = lesson.Threaded
	EventLoop = lesson.EventLoop

	Pool       = lesson.Pool
	EventLoops = lesson.EventLoops
)

// A Severity says what a failing case costs.
type Severity string

// The severities.
const (
	Must   Severity = "must"   // clients lose answers, wait for nothing, or the server ends
	Should Severity = "should" // it works, and costs more than it has to
)

// A Verdict is what a case has come to.
type Verdict string

// The verdicts.
const (
	Holds     Verdict = "holds"
	Fails     Verdict = "fails"
	NotJudged Verdict = "not judged" // Result.Reason says why
)

// A Case is one thing that must hold.
type Case struct {
	Address  string   `json:"address"` // group/name
	Severity Severity `json:"severity"`
	Must     string   `json:"must"` // what must hold, one sentence
	Why      string   `json:"why"`  // why, one sentence
	// Cause is the likely cause when it does not. Of a Result that fails, it is the one
	// that follows from what was seen, "" if none does.
	Cause   string `json:"cause,omitempty"`
	Chapter string `json:"chapter"` // its file in the repository
	// Contract is the row of docs/contract.md that the case asks about: "B7".
	Contract string  `json:"contract"`
	Models   []Model `json:"models"` // the models that it is asked of

	// FailedBy names servers that fail the case, which proves that it can fail:
	// exercises by their folder ("13-stale-event"), and faults of the server in
	// serve_test.go.
	FailedBy []string `json:"-"`
	// NoExercise says why no exercise fails the case; "" if one does.
	NoExercise string `json:"-"`

	needs  need
	alone  bool // disturbs others, or is disturbed by them
	long   bool // mostly waits, for seconds: it takes no place among those side by side
	script []step

	// when, if not nil, is the evidence from which Cause follows. Otherwise Cause is named
	// when a step that judges has failed and nothing that was seen says otherwise.
	when func(*failure) bool
	ends bool // Cause explains a server that has ended as well
}

// A need is what must be possible for a case to be judged.
type need uint8

const (
	aConnection need = iota // any server that can be reached
	toLook                  // its process can be seen in /proc: same machine, same user
	toStart                 // we start it: so it may be stopped, limited, ended
	aTimeout                // Options.Timeout is known
	aBackEnd                // we start it, and give it a back end: it is a proxy
)

// A Target is a server to judge: one that Run starts, once for each case, or one
// that runs already.
type Target struct {
	Name string // what the report calls it; "" for the command or address
	// Command starts the server. {port}, {host} and {addr} in it are
	// replaced; {seconds} becomes Options.Timeout where that is judged, and 60
	// elsewhere. Without {port} and {addr} the server chooses its port and Run
	// finds it, and the cases run one after the other. With {backend} the server is a
	// proxy: Run gives it a back end, whose host:port replaces it.
	Command []string
	Dir     string // where Command runs; "" for here
	// Addr is where a server already listens, when Command is empty.
	Addr netip.AddrPort
}

// Options say how to judge.
type Options struct {
	Model    Model         // "" guesses it
	Only     []string      // addresses, or groups with or without "/…"; none is all
	Jobs     int           // cases side by side; 0 is two for each processor
	Patience time.Duration // how long a client waits for an answer; 0 is DefaultPatience
	Timeout  time.Duration // the server's own for unfinished requests; 0 leaves those cases out
	// First stops at the first case that fails: those that have not been decided then are
	// missing in the Report.
	First bool
	// Seen, when not nil, is called with what the server looks like before the first case:
	// the Report has no results yet.
	Seen func(*Report)
	// Progress, if not nil, is called for every case that has been decided.
	// Calls do not overlap.
	Progress func(done, all int, r Result)
}

// A Result is a case and what it has come to.
type Result struct {
	Case
	Verdict Verdict       `json:"verdict"`
	Reason  string        `json:"reason,omitempty"` // why it was not judged
	Script  []string      `json:"script"`           // what was done, step by step
	Step    int           `json:"step,omitempty"`   // the step that failed, from 1
	Got     string        `json:"got,omitempty"`
	Want    string        `json:"want,omitempty"`
	Process []string      `json:"process,omitempty"` // what became of it, its last lines
	Notes   []string      `json:"notes,omitempty"`   // figures that were taken
	Took    time.Duration `json:"took_ns"`

	troubled bool // it was not judged because of an error
}

// A Report is all results for one server.
type Report struct {
	Target  string `json:"target"`
	Model   Model  `json:"model"`
	Guessed bool   `json:"guessed"` // else the model was given
	Seen    string `json:"seen"`    // what the server looks like, in words
	Edge    bool   `json:"edge"`    // its connections are watched with EPOLLET
	// Calls is the system calls of one request, by name, as counted over
	// several; empty where they could not be counted.
	Calls   map[string]float64 `json:"calls,omitempty"`
	Results []Result           `json:"results"`
	Missing int                `json:"missing,omitempty"` // cases that an end of the run has cut off
	// Before is what is remembered of the last run of the same command, nil if nothing is.
	Before *LastRun      `json:"last_run,omitempty"`
	Took   time.Duration `json:"took_ns"`
}

// Failed is the results of the cases that do not hold.
func (r *Report) Failed() []Result {
	var failed []Result
	for _, result := range r.Results {
		if result.Verdict == Fails {
			failed = append(failed, result)
		}
	}
	return failed
}

// Exercises returns the exercises in FailedBy.
func (c Case) Exercises() []string { return slices.DeleteFunc(slices.Clone(c.FailedBy), isFault) }

// isFault tells the name of a fault from the folder of an exercise.
func isFault(name string) bool { return name[0] < '0' || name[0] > '9' }

// askedOf says whether the case is asked of servers of that model.
func (c Case) askedOf(m Model) bool { return slices.Contains(c.Models, m) }
