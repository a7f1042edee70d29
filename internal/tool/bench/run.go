//go:build linux

package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
)

// Run starts the servers, measures them and stops them. When ctx ends, it returns
// the rounds that are whole with ctx's error; a report without any round is nil.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	began := time.Now()
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	r, err := newRunner(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	before, err := proc.ReadCounters()
	if err != nil {
		return nil, err
	}
	err = r.measure(ctx)
	after, err2 := proc.ReadCounters()
	if err = errors.Join(err, err2); err != nil && ctx.Err() == nil {
		return nil, err
	}
	r.report.Kernel = after.Since(before)
	r.report.Took = time.Since(began)
	r.finish()
	if r.done == 0 {
		return nil, err
	}
	if ctx.Err() != nil {
		return &r.report, fmt.Errorf("interrupted: %d of %d rounds are missing: %w",
			r.report.Missing, r.rounds(), ctx.Err())
	}
	return &r.report, nil
}

// A runner measures the servers of one run.
type runner struct {
	options Options
	began   time.Time
	report  Report
	servers []*measured
	done    int // rounds
	// What both processors have had in the rounds, for what.
	wall, others, stolen time.Duration
}

// measured is a server that is being measured.
type measured struct {
	program child.Program
	server  *child.Server
	answer  answer
	report  *Server
	// The latencies of each size.
	sinceDue, sinceSent []*hdrhistogram.Histogram
}

func newRunner(o Options) (*runner, error) {
	here, err := proc.This()
	if err != nil {
		return nil, err
	}
	limits, err := proc.ReadLimits()
	if err != nil {
		return nil, err
	}
	if err := o.check(limits); err != nil {
		return nil, err
	}
	r := &runner{options: o, began: time.Now(), report: Report{
		Machine: here, Limits: limits, ServerCPU: anyProcessor, ClientCPU: anyProcessor,
		During: o.During, Rounds: o.Rounds, Rate: o.Rate, Timeout: o.Timeout,
		Remarks: o.Remarks,
	}}
	if len(here.CPUs) > 1 {
		r.report.ServerCPU, r.report.ClientCPU = here.CPUs[0], here.CPUs[len(here.CPUs)-1]
	}
	r.report.Servers = make([]Server, len(o.Servers))
	for i, program := range o.Servers {
		if r.report.ServerCPU != anyProcessor {
			program.CPUs = []int{r.report.ServerCPU}
		}
		server := &r.report.Servers[i]
		*server = Server{Name: program.Name, Command: commandOf(program)}
		r.servers = append(r.servers, &measured{program: program, report: server})
	}
	return r, nil
}

func (r *runner) rounds() int {
	return len(r.servers) * len(r.options.Conns) * r.options.Rounds
}

// progress tells what is done next.
func (r *runner) progress(format string, args ...any) {
	if r.options.Progress != nil {
		part := float64(time.Since(r.began)) / float64(r.options.Estimate())
		r.options.Progress(min(part, 1), fmt.Sprintf(format, args...))
	}
}

// start starts all servers and learns what they answer.
func (r *runner) start(ctx context.Context) error {
	for _, m := range r.servers {
		r.progress("starting %s", m.program.Name)
		var err error
		if m.server, err = m.program.Start(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.program.Name, err)
		}
		if m.answer, err = learn(m.server.Addr, r.options.Timeout); err != nil {
			return fmt.Errorf("%s: %w", m.program.Name, err)
		}
		m.report.Answer = m.answer.String()
	}
	return nil
}

// stop ends the servers, in good order if they can.
func (r *runner) stop() error {
	var err error
	for _, m := range r.servers {
		if m.server != nil {
			err = errors.Join(err, m.server.End())
		}
	}
	return err
}

// measure takes size after size, in each round after round, in each server after
// server. System calls are counted when all rounds are over: it slows a server down.
func (r *runner) measure(ctx context.Context) error {
	for size, conns := range r.options.Conns {
		for _, m := range r.servers {
			m.report.Sizes = append(m.report.Sizes, Size{Conns: conns})
			m.sinceDue = append(m.sinceDue, nil)
			m.sinceSent = append(m.sinceSent, nil)
			if err := r.warmUp(ctx, m, conns); err != nil {
				return err
			}
		}
		for round := range r.options.Rounds {
			for _, m := range r.servers {
				r.progress("%d at a time, round %d of %d: %s", conns, round+1, r.options.Rounds, m.program.Name)
				if err := r.round(ctx, m, size); err != nil {
					return err
				}
			}
		}
	}
	for size, conns := range r.options.Conns {
		for _, m := range r.servers {
			r.progress("counting system calls, %d at a time: %s", conns, m.program.Name)
			if err := r.count(ctx, m, size); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// load is a load on a server.
func (r *runner) load(m *measured, conns int) load {
	return load{
		server: m.server.Addr, request: request, answer: m.answer, clients: conns,
		rate: r.options.Rate, during: r.options.During, timeout: r.options.Timeout,
		cpu: r.report.ClientCPU,
	}
}

func (r *runner) warmUp(ctx context.Context, m *measured, conns int) error {
	r.progress("%d at a time: warming up %s", conns, m.program.Name)
	l := r.load(m, conns)
	l.during, l.rate = r.options.warmUp(), 0
	_, err := l.run(ctx)
	return err
}

// round is one round of one server. One that has ended gets a round without requests,
// so that those of the others stay beside their like.
func (r *runner) round(ctx context.Context, m *measured, size int) error {
	s := &m.report.Sizes[size]
	before, gone, err := m.used()
	if err != nil || gone {
		s.Rounds = append(s.Rounds, Round{})
		r.done++
		return err
	}
	busy, err := r.busy()
	if err != nil {
		return err
	}
	out, err := r.load(m, s.Conns).run(ctx)
	if err != nil {
		return err
	}
	busyNow, err := r.busy()
	if err != nil {
		return err
	}
	after, gone, err := m.used()
	if err != nil {
		return err
	}
	r.done++
	s.Errors.add(out.errors)
	s.Unsent += out.unsent
	s.Hopeless = s.Hopeless || out.hopeless
	if gone {
		s.Rounds = append(s.Rounds, Round{})
		return nil
	}
	round := Round{
		Served: out.served, Elapsed: out.elapsed, Busy: out.client.busy(),
		CPU: after.CPU - before.CPU, User: after.User - before.User, System: after.System - before.System,
	}
	r.wall += 2 * out.client.wall
	r.others += busyNow.Since(busy).Worked - round.CPU - out.client.ran
	r.stolen += busyNow.Since(busy).Stolen
	for _, thread := range after.Since(before) {
		round.Sleeps += thread.Sleeps
		round.Preempted += thread.Preempted
	}
	s.Rounds = append(s.Rounds, round)
	s.Threads = max(s.Threads, len(after.Threads))
	s.Peak = max(s.Peak, after.Peak)
	merge(&m.sinceDue[size], out.sinceDue)
	if r.options.Rate > 0 {
		merge(&m.sinceSent[size], out.sinceSent)
	}
	return nil
}

// busy is how long the two processors have worked; 0 when there is only one.
func (r *runner) busy() (proc.Busy, error) {
	if r.report.ServerCPU == anyProcessor {
		return proc.Busy{}, nil
	}
	return proc.ReadBusy(r.report.ServerCPU, r.report.ClientCPU)
}

// used is what the server has used so far, or that it is gone, and then how it ended
// is noted.
func (m *measured) used() (u proc.Usage, gone bool, err error) {
	u, err = m.server.Used()
	if !errors.Is(err, proc.ErrGone) {
		return u, false, err
	}
	if m.report.Ended == "" {
		m.report.Ended = "its process ended"
		if !m.server.Proc.Running() {
			how, _ := m.server.Proc.Status()
			m.report.Ended = how
		}
	}
	return u, true, nil
}

func merge(into **hdrhistogram.Histogram, h *hdrhistogram.Histogram) {
	if *into == nil {
		*into = h
		return
	}
	(*into).Merge(h) // drops nothing: they have the same bounds
}

// count counts the server's system calls while it serves some requests. That it is
// not allowed to is no error: the report says so.
func (r *runner) count(ctx context.Context, m *measured, size int) error {
	s := &m.report.Sizes[size]
	if m.report.Ended != "" {
		s.NotCalls = "the server ended"
		return nil
	}
	counter, err := ptrace.Count(m.server.Pids()...)
	if err != nil {
		s.NotCalls = err.Error()
		return nil
	}
	l := r.load(m, s.Conns)
	l.rate, l.during = 0, countedFor
	// The calls that Count has interrupted are entered again.
	l.most = int64(s.Conns)
	_, err = l.run(ctx)
	before := counter.Counts()
	var out outcome
	if err == nil {
		l.most = max(cmp.Or(r.options.counted, countedRequests), 4*int64(s.Conns))
		out, err = l.run(ctx)
	}
	after := counter.Counts()
	if err = errors.Join(err, counter.Detach()); err != nil {
		return err
	}
	if out.served == 0 {
		s.NotCalls = "nothing was served while they were counted"
		return nil
	}
	s.Calls = Calls{}
	for name, n := range after {
		if n > before[name] {
			s.Calls[name] = float64(n-before[name]) / float64(out.served)
		}
	}
	return nil
}

// finish makes the figures of what was measured. A size that was not finished keeps
// the rounds that all servers have.
func (r *runner) finish() {
	r.report.Missing = r.rounds() - r.done
	if r.report.ServerCPU != anyProcessor && r.wall > 0 {
		// What is measured in ticks may come out below 0.
		r.report.Others = max(0, float64(r.others)/float64(r.wall))
		r.report.Stolen = float64(r.stolen) / float64(r.wall)
	}
	for _, m := range r.servers {
		for i := range m.report.Sizes {
			s := &m.report.Sizes[i]
			s.summarise()
			if m.sinceDue[i] != nil {
				s.Latency = latencyOf(m.sinceDue[i])
			}
			if m.sinceSent[i] != nil {
				sent := latencyOf(m.sinceSent[i])
				s.SinceSent = &sent
			}
		}
		m.report.Sizes = slices.DeleteFunc(m.report.Sizes, func(s Size) bool { return len(s.Rounds) == 0 })
	}
	first := r.report.Servers[0]
	for i := range r.report.Servers[1:] {
		for j := range r.report.Servers[i+1].Sizes {
			r.report.Servers[i+1].Sizes[j].compare(&first.Sizes[j])
		}
	}
}
