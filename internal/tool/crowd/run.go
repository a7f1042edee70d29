//go:build linux

package crowd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
)

// Run measures the targets, one after the other and again for each round, so that a
// slow minute of the machine hits all of them. When ctx ends, what has been measured
// so far is returned with its error; so it is when something goes wrong in between.
func Run(ctx context.Context, targets []Target, o Options) (*Report, error) {
	began := time.Now()
	if o.Rounds == 0 {
		o.Rounds = 3
	}
	if o.Idle == 0 {
		o.Idle = time.Second
	}
	o.patience = cmp.Or(o.patience, noProgress)
	if o.Rounds < 0 || o.Idle < 0 {
		return nil, errors.New("rounds and times cannot be negative")
	}
	for i, t := range targets {
		same := func(u Target) bool { return u.Name == t.Name }
		if t.Name == acceptOnly || slices.ContainsFunc(targets[:i], same) {
			return nil, fmt.Errorf("there are two servers with the name %q", t.Name)
		}
	}
	report := &Report{}
	var err error
	if report.Machine, err = proc.This(); err != nil {
		return nil, err
	}
	if report.Limits, err = proc.ReadLimits(); err != nil {
		return nil, err
	}
	kernel, err := readKernel()
	if err != nil {
		return nil, err
	}
	report.Conns, report.Notes, err = plan(o.Conns, report.Limits, kernel.Available)
	if err != nil {
		return nil, err
	}
	bare := Target{silent: true, Program: child.Program{
		Name: acceptOnly, Command: append(slices.Clip(o.AcceptOnly), "{addr}"),
	}}
	all := make([]series, 0, 1+len(targets))
	for _, t := range append([]Target{bare}, targets...) {
		all = append(all, series{target: t, rounds: map[int][]sample{}})
	}

	m := &measurer{options: o, limits: report.Limits, all: o.Rounds * len(all)}
	for range o.Rounds {
		if err = m.round(ctx, all, report.Conns); err != nil {
			break
		}
		report.Rounds++
	}
	report.summarize(all)
	report.Took = time.Since(began)
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %d of %d rounds are complete: %w",
			report.Rounds, o.Rounds, ctx.Err())
	}
	return report, err
}

// A measurer takes the measurements of one run.
type measurer struct {
	options   Options
	limits    proc.Limits
	done, all int // servers × rounds
}

func (m *measurer) round(ctx context.Context, all []series, sizes []int) error {
	for i := range all {
		s := &all[i]
		if err := m.measure(ctx, s, s.target.sizes(sizes)); err != nil {
			return fmt.Errorf("%s: %w", s.target.Name, err)
		}
		m.done++
	}
	return nil
}

func (m *measurer) progress(server string, conns int) {
	if m.options.Progress != nil {
		m.options.Progress(Step{Done: m.done, All: m.all, Server: server, Conns: conns})
	}
}

// A series is what has been measured of one server.
type series struct {
	target Target
	rounds map[int][]sample // by the size that was asked for
	left   []Left
	stops  []string // of all rounds
}

// A sample is one size in one round.
type sample struct {
	asked, connected, accepted int
	user                       int64  // more than without a crowd
	kernel                     Kernel // the same
	shrunk                     Kernel // less when all had gone; of the largest crowd
	threads                    int
	connect, accept            time.Duration
	probe                      Probe
	idle                       float64
}

// partial says that some of the crowd are accepted and some are not, so that nothing
// can be divided by anything.
func (s sample) partial(t Target) bool { return s.accepted < s.connected && !t.OneByOne }

// measure starts the server, lets its crowd grow from size to size, and ends both.
func (m *measurer) measure(ctx context.Context, s *series, sizes []int) (err error) {
	m.progress(s.target.Name, 0)
	before, err := kernelMemory()
	if err != nil {
		return err
	}
	// If a program of Go ends for want of something, its last lines are to say what,
	// and not where each of its goroutines was.
	program := s.target.Program
	program.Env = append(slices.Clip(program.Env), "GOTRACEBACK=none")
	server, err := program.Start(ctx)
	if err != nil {
		return err
	}
	c := &crowd{ctx: ctx, target: s.target, server: server,
		idle: m.options.Idle, patience: m.options.patience}
	c.clients = holders{
		ctx: ctx, self: m.options.Hold, to: server.Addr,
		each: max(1, (m.limits.Descriptors-spare)/2),
	}
	ended := false
	end := func() error {
		if ended {
			return nil
		}
		ended = true
		return errors.Join(c.clients.release(), server.End())
	}
	defer func() { err = errors.Join(err, end()) }()

	if err := c.begin(); err != nil {
		return c.orEnded(s, err)
	}
	stops, asked := []string(nil), 0
	for _, n := range sizes {
		m.progress(s.target.Name, n)
		one, stop, err := c.grow(n)
		if err != nil {
			return c.orEnded(s, err)
		}
		asked = n
		s.rounds[n] = append(s.rounds[n], one)
		if stop != "" {
			stops = append(stops, stop)
			break
		}
	}
	s.stopsFor(append(stops, c.fullStop()...))
	left, err := c.leave()
	if err != nil {
		return c.orEnded(s, err)
	}
	s.left = append(s.left, left)
	if err := end(); err != nil {
		return err
	}
	last := s.rounds[asked]
	shrunk, err := c.shrunk(before)
	last[len(last)-1].shrunk = shrunk
	return err
}

// orEnded makes a finding of an error that comes of the server's end.
func (c *crowd) orEnded(s *series, err error) error {
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	if !c.hasEnded(err) {
		return err
	}
	how, _ := c.server.Proc.Status()
	text := fmt.Sprintf("It ended with a crowd of %d or a few more: %s.", c.held, how)
	if words := child.LastWords(c.server.Proc.Output()); words != "" {
		text += " Its last lines: " + words
	}
	s.stopsFor([]string{text})
	return nil
}

// stopsFor adds reasons that are not known yet.
func (s *series) stopsFor(reasons []string) {
	for _, reason := range reasons {
		if !slices.Contains(s.stops, reason) {
			s.stops = append(s.stops, reason)
		}
	}
}
