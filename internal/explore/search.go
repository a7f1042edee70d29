//go:build linux

package explore

import (
	"context"
	"math/rand/v2"
	"time"
)

// Options say what to explore.
type Options struct {
	Scenarios []Scenario
	Faults    Faults
	Depth     int           // deviations of one execution, at most; 0 is 3
	For       time.Duration // how long; 0 is until the depth is reached
	Seed      uint64        // of the random executions after that
}

// A Report is what came of it.
type Report struct {
	Executions int
	Calls      int64
	Took       time.Duration
	Covered    []Coverage
	Scenario   string   // that failed; "" if none
	Failure    *Failure // nil if none was found
	Replay     string   // plays it again
	Story      *Story
}

// A Coverage says how far a scenario was explored.
type Coverage struct {
	Scenario   string
	Executions int
	Depth      int  // every execution with so many deviations was tried
	Random     int  // executions tried at random
	Whole      bool // Depth is Options.Depth
}

// Explore runs p in one order after another, until one fails or the options are
// fulfilled. It tries all scenarios with no deviation, then all with one, and so on, so
// that the first failure is one of the simplest; then at random, until the time is over.
func Explore(ctx context.Context, p Program, o Options) *Report {
	began := time.Now()
	if o.Depth == 0 {
		o.Depth = 3
	}
	if o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.For)
		defer cancel()
	}
	s := &search{ctx: ctx, program: p, options: o, report: &Report{}}
	for _, scenario := range o.Scenarios {
		s.report.Covered = append(s.report.Covered, Coverage{Scenario: scenario.Name, Depth: -1})
		s.next = append(s.next, [][]deviation{nil})
	}
	for depth := 0; depth <= o.Depth && s.report.Failure == nil && ctx.Err() == nil; depth++ {
		s.level(depth)
	}
	if o.For > 0 && s.report.Failure == nil {
		s.atRandom()
	}
	s.report.Took = time.Since(began)
	return s.report
}

// Replay plays one execution again and tells it.
func Replay(p Program, s Scenario, f Faults, replay string) (*Report, error) {
	deviations, err := parseReplay(replay)
	if err != nil {
		return nil, err
	}
	story := &Story{}
	failure := run(p, s, f, &chooser{deviations: deviations}, story)
	return &Report{Executions: 1, Scenario: s.Name, Failure: failure, Replay: replay, Story: story}, nil
}

type search struct {
	ctx     context.Context
	program Program
	options Options
	report  *Report
	next    [][][]deviation // for each scenario: the executions of the next depth
}

// level tries all executions with that many deviations.
func (s *search) level(depth int) {
	for i, scenario := range s.options.Scenarios {
		this := s.next[i]
		s.next[i] = nil
		for _, deviations := range this {
			if s.ctx.Err() != nil {
				return
			}
			c := &chooser{deviations: deviations}
			if s.try(i, scenario, c) {
				return
			}
			if depth < s.options.Depth {
				s.next[i] = append(s.next[i], extensions(deviations, c.asked)...)
			}
		}
		s.report.Covered[i].Depth = depth
		s.report.Covered[i].Whole = depth == s.options.Depth
	}
}

// extensions returns the deviations with one more, later than all of them: so each set
// is tried once.
func extensions(ds []deviation, asked []int32) [][]deviation {
	from := 0
	if len(ds) > 0 {
		from = ds[len(ds)-1].at + 1
	}
	var all [][]deviation
	for at := from; at < len(asked); at++ {
		for value := 1; value < int(asked[at]); value++ {
			longer := make([]deviation, len(ds), len(ds)+1)
			copy(longer, ds)
			all = append(all, append(longer, deviation{at, value}))
		}
	}
	return all
}

// try runs one execution and reports whether the search is over.
func (s *search) try(i int, scenario Scenario, c *chooser) bool {
	s.report.Executions++
	s.report.Covered[i].Executions++
	failure := run(s.program, scenario, s.options.Faults, c, nil)
	if failure == nil {
		return false
	}
	s.found(scenario, failure, c.taken)
	return true
}

// found drops the deviations that the failure does not need, and tells the story.
func (s *search) found(scenario Scenario, failure *Failure, ds []deviation) {
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
	s.report.Failure = run(s.program, scenario, s.options.Faults, &chooser{deviations: ds}, story)
	if s.report.Failure == nil { // the program is not deterministic
		s.report.Failure = failure
		s.report.Failure.Text += " (but not when played again: the server does not do the same each time)"
	}
	s.report.Scenario = scenario.Name
	s.report.Replay = replayString(ds)
	s.report.Story = story
}

// atRandom tries executions at random until the time is over.
func (s *search) atRandom() {
	random := rand.New(rand.NewPCG(s.options.Seed, 0))
	for s.ctx.Err() == nil {
		for i, scenario := range s.options.Scenarios {
			s.report.Covered[i].Random++
			c := &chooser{random: random, share: 0.02 + 0.3*random.Float64()}
			if s.try(i, scenario, c) || s.ctx.Err() != nil {
				return
			}
		}
	}
}
