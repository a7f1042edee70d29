//go:build linux

package explore

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"lesson/internal/lesson"
	"lesson/internal/server"
)

// A Target is a server to explore.
type Target struct {
	Name string
	// OneAtATime leaves out the scenarios in which one client waits for another.
	OneAtATime bool

	program Program  // of a lesson: it runs in this process
	built   *Built   // or a program of its own
	args    []string // and what it is started with
}

// Lesson returns a lesson as a target.
func Lesson(l lesson.Lesson) (*Target, error) {
	if l.Untraced || l.Model != lesson.EventLoop && l.Model != lesson.Loop {
		return nil, fmt.Errorf("%s cannot be explored: explore follows lessons that serve with one "+
			"goroutine and do not end: loop, epoll, edgetriggered", l.Name)
	}
	run := func(k Kernel, started func(stop func())) {
		s, err := l.Start(k, server.Options{Addr: address, Backlog: 4096})
		if err != nil {
			panic(err)
		}
		started(s.Stop)
		if err := s.Serve(); err != nil {
			panic(err)
		}
	}
	return &Target{Name: l.Name, OneAtATime: l.Model == lesson.Loop, program: run}, nil
}

// address is where servers listen: on the simulated kernel it is always free.
var address = netip.MustParseAddrPort("127.0.0.1:8080")

// Folder builds the main package in a folder, and returns it as a target. The program is
// started with args, in which {addr}, {host} and {port} are replaced.
func Folder(ctx context.Context, folder string, args []string) (*Target, error) {
	built, err := Build(ctx, folder)
	if err != nil {
		return nil, err
	}
	t := &Target{Name: built.Name, built: built, args: []string{built.Name}}
	replace := strings.NewReplacer("{addr}", address.String(), "{host}", address.Addr().String(),
		"{port}", fmt.Sprint(address.Port()))
	for _, arg := range args {
		t.args = append(t.args, replace.Replace(arg))
	}
	return t, nil
}

// Close removes what was built.
func (t *Target) Close() error {
	if t.built == nil {
		return nil
	}
	return t.built.Remove()
}

// Explore explores the target: see the function Explore.
func (t *Target) Explore(ctx context.Context, o Options) (*Report, error) {
	if err := t.choose(&o); err != nil {
		return nil, err
	}
	var r *Report
	var err error
	if t.built != nil {
		r, err = t.built.Explore(ctx, o, t.args)
	} else {
		r = Explore(ctx, t.program, o, nil)
	}
	if err != nil {
		return nil, err
	}
	t.complete(r)
	if r.Failure != nil {
		r.Replay = join(r.Scenario, o.Faults, r.Replay)
	}
	return r, nil
}

// complete adds to a report what only the target knows.
func (t *Target) complete(r *Report) {
	r.Target = t.Name
	r.Story.fold()
	if t.built != nil {
		r.source = t.built.source
	}
}

// choose completes the scenarios: all that may be asked of the target, unless some are named,
// and each with the number of clients that is wanted. Of all, those that have more are left out.
func (t *Target) choose(o *Options) error {
	wanted, named := o.Scenarios, len(o.Scenarios) > 0
	if !named {
		wanted = t.scenarios()
	}
	o.Scenarios = nil
	for _, s := range wanted {
		if !named && o.Clients > 0 && o.Clients < len(s.Clients) {
			continue
		}
		s, err := s.With(cmp.Or(o.Clients, len(s.Clients)))
		if err != nil {
			return err
		}
		o.Scenarios = append(o.Scenarios, s)
	}
	return nil
}

// scenarios returns those that may be asked of the target.
func (t *Target) scenarios() []Scenario {
	var asked []Scenario
	for _, s := range Scenarios() {
		if !s.SideBySide || !t.OneAtATime {
			asked = append(asked, s)
		}
	}
	return asked
}

// Replay plays an order again that Report.Replay names.
func (t *Target) Replay(ctx context.Context, text string) (*Report, error) {
	s, f, replay, err := split(text)
	if err != nil {
		return nil, err
	}
	var r *Report
	if t.built != nil {
		r, err = t.built.Replay(ctx, s, f, replay, t.args)
	} else {
		r, err = Replay(t.program, s, f, replay)
	}
	if err != nil {
		return nil, err
	}
	r.Replay = text
	t.complete(r)
	return r, nil
}

// DefaultFor is how long an exploration lasts if nothing is said.
const DefaultFor = 30 * time.Second
