//go:build linux

package explore

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what to explore.
type Options struct {
	Scenarios []Scenario // none is all that the target can pass
	Clients   int        // in each scenario; 0 is as many as it has
	Faults    Faults
	Depth     int           // deviations of one execution, at most
	For       time.Duration // how long; 0 is until the depth is reached
	Seed      uint64        // of the random executions, which follow if For is not over
	most      int           // executions before the search is left; 0 is any number
}

// A Report is what came of it.
type Report struct {
	Target     string        `json:"target"`
	Arguments  []string      `json:"arguments,omitempty"` // of the program, if any were given
	Executions int           `json:"executions"`
	States     int           `json:"states"`          // distinct ones, at most maxStates
	Merged     int           `json:"merged"`          // executions that ended in a state seen before
	Whole      string        `json:"whole,omitempty"` // why no execution ended early
	Faults     Faults        `json:"faults"`
	Took       time.Duration `json:"took_ns"`
	Covered    []Coverage    `json:"covered"`
	Scenario   string        `json:"scenario,omitempty"` // that failed
	Failure    *Failure      `json:"failure,omitempty"`
	Replay     string        `json:"replay,omitempty"` // plays the failure again
	Varies     bool          `json:"varies,omitempty"` // Replay has also ended in another way
	Story      *Story        `json:"story,omitempty"`

	source map[string]string // of a program of its own: file by file, as steps name them

	// Resume continues a search that was left after Options.most executions.
	Resume *Resume `json:"resume,omitempty"`
}

// A Coverage says how far a scenario was explored.
type Coverage struct {
	Scenario string `json:"scenario"`
	Depth    int    `json:"depth"`  // all orders with at most so many deviations were tried
	Random   int    `json:"random"` // orders tried at random
}

// A Resume is what a search needs to continue.
type Resume struct {
	Depth    int        `json:"depth"`
	Scenario int        `json:"scenario"` // of Options.Scenarios, at this depth
	Index    int        `json:"index"`    // of This
	This     [][]string `json:"this"`     // for each scenario: the orders of this depth
	Next     [][]string `json:"next"`     // and those of the next
	Random   uint64     `json:"random"`   // random executions so far
	Covered  []Coverage `json:"covered"`
	States   *states    `json:"states"`
}

// Explore runs p in one order after another, until one fails or the options are
// fulfilled. It tries all scenarios with no deviation, then all with one, and so on: the
// first failure is one of the simplest. Then it tries orders at random, until the time
// is over.
func Explore(ctx context.Context, p Program, o Options, from *Resume) *Report {
	began := clock()
	if from == nil {
		from = newResume(o.Scenarios)
	}
	s := &search{ctx: ctx, program: p, options: o, report: &Report{Faults: o.Faults}, began: began, Resume: *from}
	if s.levels() && o.For > 0 {
		s.atRandom()
	}
	s.report.Covered, s.report.States, s.report.Whole = s.Covered, len(s.States.seen), s.States.whole
	s.report.Took = clock() - began
	if s.left {
		s.report.Resume = &s.Resume
	}
	return s.report
}

// newResume returns the beginning of a search.
func newResume(scenarios []Scenario) *Resume {
	r := &Resume{
		States: newStates(), This: make([][]string, len(scenarios)), Next: make([][]string, len(scenarios)),
	}
	for i, scenario := range scenarios {
		r.Covered = append(r.Covered, Coverage{Scenario: scenario.Name, Depth: -1})
		r.This[i] = []string{noDeviation}
	}
	return r
}

// clock returns the real time. Where a program is explored, package time has another.
func clock() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // every Linux has this clock
	}
	return time.Duration(now.Nano())
}

// Replay plays one execution again and tells it.
func Replay(p Program, s Scenario, f Faults, replay string) (*Report, error) {
	story := &Story{file: mark}
	failure, err := again(p, s, f, replay, story)
	if err != nil {
		return nil, err
	}
	return &Report{Executions: 1, Scenario: s.Name, Failure: failure, Replay: replay, Story: story}, nil
}

type search struct {
	Resume
	ctx     context.Context
	program Program
	options Options
	report  *Report
	began   time.Duration // by clock
	left    bool          // after so many executions
}

// levels tries all orders with 0, 1, 2 … deviations. It returns false if the search is
// over: a failure, the end of the time, or of the executions.
func (s *search) levels() bool {
	for ; s.Depth <= s.options.Depth; s.Depth++ {
		for ; s.Scenario < len(s.options.Scenarios); s.Scenario++ {
			if s.postponed() {
				s.Next[s.Scenario] = s.This[s.Scenario]
				continue
			}
			if !s.level() {
				return false
			}
			s.Covered[s.Scenario].Depth = s.Depth
			s.Index = 0
		}
		s.Scenario = 0
		s.This, s.Next = s.Next, make([][]string, len(s.options.Scenarios))
	}
	return true
}

// postponed reports whether the scenario is left to the next depth. One of which only the
// plain order is tried has a long story: others may show the same bug in a shorter one.
func (s *search) postponed() bool {
	return s.options.Scenarios[s.Scenario].Plain && s.Depth == 0 && s.options.Depth > 0
}

// level tries the orders of one scenario with that many deviations.
func (s *search) level() bool {
	this := s.This[s.Scenario]
	for ; s.Index < len(this); s.Index++ {
		deviations, err := parseReplay(this[s.Index])
		if err != nil {
			panic(err) // we have made it
		}
		c := &chooser{deviations: deviations}
		if !s.try(s.options.Scenarios[s.Scenario], c) {
			return false
		}
		if s.Depth < s.options.Depth && !s.options.Scenarios[s.Scenario].Plain {
			s.Next[s.Scenario] = append(s.Next[s.Scenario], extensions(deviations, c.asked)...)
		}
	}
	return true
}

// extensions returns the orders with one deviation more, later than all of them: so
// each order is tried once.
func extensions(ds []deviation, asked []int32) []string {
	from := 0
	if len(ds) > 0 {
		from = ds[len(ds)-1].at + 1
	}
	var all []string
	for at := from; at < len(asked); at++ {
		for value := 1; value < int(asked[at]); value++ {
			all = append(all, replayString(append(ds[:len(ds):len(ds)], deviation{at, value})))
		}
	}
	return all
}

// try runs one execution and reports whether the search continues.
func (s *search) try(scenario Scenario, c *chooser) bool {
	if s.ctx.Err() != nil || s.options.For > 0 && clock()-s.began > s.options.For {
		return false
	}
	if s.options.most > 0 && s.report.Executions >= s.options.most {
		s.left = true
		return false
	}
	s.report.Executions++
	current(scenario, c.deviations)
	c.states = s.States
	failure := run(s.program, scenario, s.options.Faults, c, nil)
	if c.merged {
		s.report.Merged++
	}
	if failure == nil {
		return true
	}
	s.found(scenario, failure, c.taken)
	return false
}

// found drops the deviations that the failure does not need, looks for a shorter story of
// it, and tells it.
func (s *search) found(scenario Scenario, failure *Failure, ds []deviation) {
	ds, story, again := s.needed(scenario, failure, ds)
	if again == nil {
		again = failure
		again.Text += " (once, but not when played again: the server does not do the same each time)"
	} else if !scenario.Plain {
		scenario, ds, story, again = s.stopped(scenario, ds, story, again)
		ds, story, again = s.shorter(scenario, ds, story, again)
	}
	s.report.Failure, s.report.Scenario, s.report.Story = again, scenario.Name, story
	s.report.Replay = replayString(ds)
	s.report.Varies = s.varies(scenario, ds, again)
}

// varies plays an order again and again, and reports whether it has ever ended in another
// way than failure. The order of the kernel and of the clients is the same each time, but
// Go ranges over a map in any order, and wakes goroutines whose timers end at the same
// virtual time in any order.
func (s *search) varies(scenario Scenario, ds []deviation, failure *Failure) bool {
	const times = 30 // two ends that are equally likely: both are seen, but for 1 in 10^9
	current(scenario, ds)
	for range times {
		again := run(s.program, scenario, s.options.Faults, &chooser{deviations: ds}, &Story{})
		if again == nil || *again != *failure {
			return true
		}
	}
	return false
}

// needed drops the deviations without which there is a failure of the same kind, and
// plays what is left.
func (s *search) needed(
	scenario Scenario, failure *Failure, ds []deviation,
) ([]deviation, *Story, *Failure) {
	for i := 0; i < len(ds); {
		fewer := append(append([]deviation(nil), ds[:i]...), ds[i+1:]...)
		again := run(s.program, scenario, s.options.Faults, &chooser{deviations: fewer}, nil)
		if again != nil && again.Kind == failure.Kind {
			ds = fewer
		} else {
			i++
		}
	}
	story := &Story{}
	again := run(s.program, scenario, s.options.Faults, &chooser{deviations: ds}, story)
	return ds, story, again
}

// A story of so many steps is short enough. For one that is longer, so many orders are
// tried at random: few deviations do not always make a short story.
const (
	shortEnough = 25
	shorterBy   = 2000
)

// stopped makes a long story shorter by letting clients stop that the failure does not need
// to the end. A server that serves one client at a time need not pass that.
func (s *search) stopped(
	scenario Scenario, ds []deviation, story *Story, failure *Failure,
) (Scenario, []deviation, *Story, *Failure) {
	sideBySide := func(s Scenario) bool { return s.SideBySide }
	leaves := failure.Kind == "leak" // seen when every client has gone
	if leaves || !slices.ContainsFunc(s.options.Scenarios, sideBySide) {
		return scenario, ds, story, failure
	}
	for _, client := range scenario.Clients {
		for acts := range client.acts {
			if len(story.folded()) <= shortEnough {
				return scenario, ds, story, failure
			}
			fewer, err := scenario.Stop(client.Name, acts)
			if err != nil {
				panic(err) // it has the client, and as many acts
			}
			s.report.Executions++
			current(fewer, ds)
			less, told, again := s.needed(fewer, failure, ds)
			if again != nil && again.Kind == failure.Kind && len(told.folded()) < len(story.folded()) &&
				!s.varies(fewer, less, again) { // else it may be the client that is not judged that suffers
				scenario, ds, story, failure = fewer, less, told, again
				break
			}
		}
	}
	return scenario, ds, story, failure
}

// shorter looks for a shorter story of a failure of the same kind. One that is still long and
// saves less than a quarter is not worth its deviations: they are more than those of the story
// that there is.
func (s *search) shorter(
	scenario Scenario, ds []deviation, story *Story, failure *Failure,
) ([]deviation, *Story, *Failure) {
	long := len(story.folded())
	for i := range uint64(shorterBy) {
		if len(story.folded()) <= shortEnough || s.ctx.Err() != nil {
			break
		}
		random := rand.New(rand.NewPCG(s.options.Seed, i))
		c := &chooser{random: random, share: 0.02 + 0.3*random.Float64()}
		s.report.Executions++
		current(scenario, c.deviations) // only to show that this continues
		other := run(s.program, scenario, s.options.Faults, c, nil)
		if other == nil || other.Kind != failure.Kind {
			continue
		}
		less, told, again := s.needed(scenario, other, c.taken)
		if again == nil {
			continue
		}
		n := len(told.folded())
		if n < len(story.folded()) && (n <= shortEnough || 4*n <= 3*long) {
			ds, story, failure = less, told, again
		}
	}
	return ds, story, failure
}

// atRandom tries orders at random until the time is over, if a scenario has other orders than
// its plain one.
func (s *search) atRandom() {
	varied := func(scenario Scenario) bool { return !scenario.Plain }
	for slices.ContainsFunc(s.options.Scenarios, varied) {
		for i, scenario := range s.options.Scenarios {
			if scenario.Plain {
				continue
			}
			s.Random++
			random := rand.New(rand.NewPCG(s.options.Seed, s.Random))
			c := &chooser{random: random, share: 0.02 + 0.3*random.Float64()}
			if !s.try(scenario, c) {
				return
			}
			s.Covered[i].Random++
		}
	}
}
