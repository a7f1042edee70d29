//go:build linux

package race

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/child"
	"lesson/internal/lesson"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
)

// A runner is one server in the race.
type runner struct {
	lesson lesson.Lesson
	server *child.Server
	trace  string // the file; "" for none
	record play.Record
	frozen time.Duration
	ended  bool
}

// Run starts the lessons, lets the same clients play against all of them at the
// same time, and stops them. When ctx ends, it returns what has been seen so far,
// marked as interrupted, and no error. An error beside a report is about servers
// that could not be started, or whose trace could not be read.
func Run(ctx context.Context, o Options) (*Report, error) {
	lessons, err := lesson.FindAll(o.Only)
	if err != nil {
		return nil, err
	}
	report := &Report{Scenario: o.Scenario}
	if report.Machine, err = proc.This(); err != nil {
		return nil, err
	}
	dir, err := child.Temporary("lesson-race")
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Remove() }() // what is left of it, the next start removes

	runners, failed := start(ctx, lessons, dir.Path)
	if ctx.Err() != nil {
		report.Interrupted = true
		return report, end(runners)
	}
	playAll(ctx, runners, o)
	report.Interrupted = ctx.Err() != nil
	failed = errors.Join(failed, end(runners))
	for _, r := range runners {
		s, err := r.seen()
		failed = errors.Join(failed, err)
		report.Servers = append(report.Servers, s)
		report.Lasted = max(report.Lasted, s.Lasted)
	}
	return report, failed
}

// start starts a process for each lesson, side by side.
func start(ctx context.Context, lessons []lesson.Lesson, dir string) ([]*runner, error) {
	started := make([]*runner, len(lessons))
	failed := make([]error, len(lessons))
	var starting sync.WaitGroup
	for i, l := range lessons {
		starting.Go(func() {
			r := &runner{lesson: l}
			flags := []string{"--quiet"}
			if !l.Untraced {
				r.trace = filepath.Join(dir, fmt.Sprintf("%d-%s.json", i, l.Name))
				flags = append(flags, "--trace-json", r.trace)
			}
			program, err := child.Lesson(l.Name, flags...)
			if err == nil {
				r.server, err = program.Start(ctx)
			}
			if err != nil {
				failed[i] = err
				return
			}
			started[i] = r
		})
	}
	starting.Wait()
	var runners []*runner
	for _, r := range started {
		if r != nil {
			runners = append(runners, r)
		}
	}
	return runners, errors.Join(failed...)
}

// playAll lets the clients play against all servers, and tells of the progress.
func playAll(ctx context.Context, runners []*runner, o Options) {
	if o.Scenario.Frozen > 0 {
		for _, r := range runners {
			r.freeze(ctx)
		}
	}
	var playing sync.WaitGroup
	var done atomic.Int64
	for _, r := range runners {
		playing.Go(func() {
			r.play(ctx, o.Scenario)
			done.Add(1)
		})
	}
	over := make(chan struct{})
	go func() {
		playing.Wait()
		close(over)
	}()
	began := time.Now()
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	for {
		if o.Progress != nil {
			o.Progress(time.Since(began), int(done.Load()), len(runners))
		}
		select {
		case <-over:
			return
		case <-ticks.C:
		}
	}
}

// play lets the clients act at one server.
func (r *runner) play(ctx context.Context, s play.Scenario) {
	clients := play.NewClients(play.Options{
		Addr:    func() netip.AddrPort { return r.server.Addr },
		Clients: s.Clients, Patience: s.Lasts,
	})
	defer clients.Close()
	if s.Frozen == 0 {
		r.record = clients.Play(ctx, s)
	} else {
		var thawing sync.WaitGroup
		over := make(chan struct{})
		thawing.Go(func() { r.thaw(s, clients, over) })
		r.record = clients.Play(ctx, s)
		close(over)
		thawing.Wait()
	}
	r.ended = r.hasEnded() // before Close ends it
}

// hasEnded reports whether the server has exited by itself: no socket listens at its
// address. The process may take a moment longer.
func (r *runner) hasEnded() bool {
	if r.server.Ended() {
		return true
	}
	listeners, err := sockets.ListenersAt(r.server.Addr)
	return err == nil && len(listeners) == 0
}

// freeze stops the server, and returns when all of its threads are stopped.
func (r *runner) freeze(ctx context.Context) {
	_ = r.server.Signal(unix.SIGSTOP) // if it has gone, Stopped fails
	for ctx.Err() == nil {
		if stopped, err := r.server.Stopped(); stopped || err != nil {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// lateThaw bounds how much later than in the scenario a server continues.
const lateThaw = 2 * time.Second

// thaw lets the server continue when its time has come and every client has made its
// acts until then: on a busy machine this can be later, and with a short accept queue
// some clients cannot before.
func (r *runner) thaw(s play.Scenario, clients *play.Clients, over <-chan struct{}) {
	due := 0
	for _, a := range s.Acts {
		if a.At < s.Frozen {
			due++
		}
	}
	for {
		record, done := clients.Record(), 0
		for _, c := range record.Clients {
			done += len(c.Acts)
		}
		if record.Lasted >= s.Frozen && done >= due || record.Lasted >= s.Frozen+lateThaw {
			break
		}
		select {
		case <-over:
		case <-time.After(5 * time.Millisecond):
			continue
		}
		break
	}
	r.frozen = clients.Record().Lasted
	_ = r.server.Signal(unix.SIGCONT) // one that is gone will be found out
}

// end stops all servers. That one had to be killed is an error; that it had ended
// by itself is not.
func end(runners []*runner) error {
	failed := make([]error, len(runners))
	var ending sync.WaitGroup
	for i, r := range runners {
		ending.Go(func() {
			if r.ended {
				failed[i] = r.server.End()
				return
			}
			if err := r.server.Stop(); err != nil {
				failed[i] = fmt.Errorf("%s: %w", r.lesson.Name, err)
			}
		})
	}
	ending.Wait()
	return errors.Join(failed...)
}

// seen is what happened at one server.
func (r *runner) seen() (Server, error) {
	l := r.lesson
	s := Server{
		Name: l.Name, Title: l.Title, Command: l.Command, Chapter: l.Chapter,
		Untraced: l.Untraced, Lasted: r.record.Lasted, Frozen: r.frozen, Ended: r.ended,
	}
	var events []trace.Event
	var err error
	if r.trace != "" {
		if events, err = readTrace(r.trace); err != nil {
			err = fmt.Errorf("%s: its trace: %w", l.Name, err)
		}
	}
	newView(r.record, events, !l.Untraced, r.frozen).fill(&s)
	return s, err
}

// fill says of a server all that can be seen.
func (v *view) fill(s *Server) {
	for _, c := range v.record.Clients {
		s.Rows = append(s.Rows, v.row(c))
	}
	s.Lanes, s.Stood, s.Kept = v.lanes(), v.stood(), v.kept()
	s.Sentence = v.sentence(s)
}

// readTrace reads the events of a trace. Its last line may not be whole: then the
// server was killed while it wrote.
func readTrace(name string) ([]trace.Event, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var events []trace.Event
	lines := json.NewDecoder(bufio.NewReader(file))
	for {
		var e trace.Event
		err := lines.Decode(&e)
		switch {
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF):
			return events, nil
		case err != nil:
			return events, err
		}
		events = append(events, e)
	}
}
