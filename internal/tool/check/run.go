//go:build linux

package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"lesson/internal/child"
	"lesson/internal/lesson"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

// Run judges the target. It returns an error when nothing can be judged: the
// server does not start, or no server listens there. When ctx ends, what has been
// decided so far is returned with its error.
func Run(ctx context.Context, target Target, o Options) (*Report, error) {
	cases, err := target.cases(o.Only)
	if err != nil {
		return nil, err
	}
	return run(ctx, target, o, plan{cases: cases})
}

// cases returns what to judge: what Select returns, but of all cases those of proxies only if
// the target is one.
func (target Target) cases(only []string) ([]Case, error) {
	cases, err := Select(only)
	if len(only) == 0 && !target.takesBackEnd() {
		cases = slices.DeleteFunc(cases, Case.OfProxies)
	}
	return cases, err
}

// A plan is what to judge.
type plan struct {
	cases []Case
	// skip, when not nil, is asked about each case before it begins and whenever another has
	// ended: true leaves it out.
	skip func(Case) bool
	// least, when not nil, is the least model as which the case judges the server.
	least func(Case) Model
}

// run judges what is planned, as Run does.
func run(ctx context.Context, target Target, o Options, p plan) (*Report, error) {
	began := time.Now()
	if o.Timeout%time.Second != 0 && slices.ContainsFunc(target.Command, hasSeconds) {
		return nil, fmt.Errorf("{seconds} cannot be %v: give a timeout of whole seconds", o.Timeout)
	}
	if o.Patience == 0 {
		o.Patience = DefaultPatience
	}
	if o.Jobs == 0 {
		o.Jobs = 2 * runtime.NumCPU()
	}
	if len(target.Command) == 0 || target.program(0, nil).ChoosesPort() {
		o.Jobs = 1 // they share a server, or a port
	}
	r := &runner{target: target, options: o, plan: p}
	var err error
	r.portrait, err = r.learn(ctx)
	if err != nil {
		return nil, err
	}
	report := &Report{
		Target: target.name(), Model: r.portrait.model, Guessed: o.Model == "",
		Seen: r.portrait.seen, Edge: r.portrait.edge, Calls: r.portrait.calls,
	}
	if o.Seen != nil {
		o.Seen(report)
	}
	report.Results, err = r.judgeAll(ctx, p.cases)
	report.Missing = len(p.cases) - len(report.Results)
	if trouble := report.nothingButTrouble(); err == nil && trouble != nil {
		return report, trouble
	}
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("interrupted: %d of %d cases have not been judged: %w",
			report.Missing, len(p.cases), err)
	}
	report.Took = time.Since(began)
	return report, err
}

// nothingButTrouble returns an error when no case has been judged, and one of them because
// of an error.
func (r *Report) nothingButTrouble() (trouble error) {
	for _, result := range r.Results {
		if result.Verdict != NotJudged {
			return nil
		}
		if result.troubled {
			trouble = cmp.Or(trouble, fmt.Errorf("nothing could be judged: %s", result.Reason))
		}
	}
	return trouble
}

func hasSeconds(arg string) bool { return strings.Contains(arg, "{seconds}") }

func (target Target) name() string {
	switch {
	case target.Name != "":
		return target.Name
	case len(target.Command) > 0:
		return strings.Join(target.Command, " ")
	}
	return target.Addr.String()
}

// A runner judges one target, case by case.
type runner struct {
	target   Target
	options  Options
	plan     plan
	portrait portrait
	shared   *server // the one that runs already, if it is not ours to start
	gone     string  // the case after which it was gone
	useless  string  // why nothing more is judged; "" if it is
}

// elsewhere is what {seconds} becomes where the server's timeout is not judged.
const elsewhere = time.Minute

// server is the server for one case.
func (r *runner) server(ctx context.Context, timeout time.Duration) (*server, error) {
	if len(r.target.Command) > 0 {
		return r.target.start(ctx, timeout)
	}
	if r.shared != nil {
		return r.shared, nil
	}
	s, err := attach(r.target.Addr)
	if err == nil {
		r.shared = s
	}
	return s, err
}

// judgeAll judges side by side what may be, and then the others one by one. The
// results are in the order of the cases; those that ctx has cut off are missing.
func (r *runner) judgeAll(ctx context.Context, cases []Case) ([]Result, error) {
	results := make([]Result, len(cases))
	var mu sync.Mutex // done, failed
	var failed error
	done := 0
	whole := ctx
	ctx, enough := context.WithCancel(ctx) // by Options.First
	defer enough()
	left := make([]context.CancelFunc, len(cases)) // by plan.skip, after they have begun
	contexts := make([]context.Context, len(cases))
	for i := range cases {
		contexts[i], left[i] = context.WithCancel(ctx)
		defer left[i]()
	}
	one := func(i int) {
		result, err := r.judge(contexts[i], cases[i])
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil && whole.Err() == nil {
			return // another case has failed
		}
		if contexts[i].Err() != nil && ctx.Err() == nil {
			result, err = Result{Case: cases[i], Verdict: NotJudged, Reason: afterFailure}, nil
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", cases[i].Address, err))
			return
		}
		results[i] = result
		done++
		if r.options.Progress != nil {
			r.options.Progress(done, len(cases), result)
		}
		if r.options.First && result.Verdict == Fails {
			enough()
		}
		for j, c := range cases {
			if r.leftOut(c) {
				left[j]()
			}
		}
	}
	stopped := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return failed != nil || ctx.Err() != nil
	}

	// Without an answer to a whole request, nothing else can be judged.
	if i := slices.IndexFunc(cases, isWhole); i >= 0 && r.plan.skip == nil {
		if one(i); results[i].Verdict == Fails && results[i].Step < len(cases[i].script) {
			r.useless = servesOne + " fails: a server that does not serve one client is not judged any further"
		}
	}
	begun := func(c Case) bool { return isWhole(c) && r.plan.skip == nil }

	var side sync.WaitGroup
	places := make(chan struct{}, r.options.Jobs)
	beside := r.options.Jobs > 1
	for i, c := range cases {
		if c.long && beside && !begun(c) {
			side.Go(func() { one(i) })
		}
	}
	for i, c := range cases {
		if (c.alone || c.long) && beside || begun(c) {
			continue
		}
		places <- struct{}{}
		if stopped() {
			break
		}
		side.Go(func() {
			one(i)
			<-places
		})
	}
	side.Wait()
	for i, c := range cases {
		if c.alone && beside && !stopped() {
			one(i)
		}
	}

	decided := results[:0]
	for _, result := range results {
		if result.Verdict != "" {
			decided = append(decided, result)
		}
	}
	if whole.Err() != nil {
		return decided, whole.Err()
	}
	return decided, failed
}

const servesOne = "requests/whole"

func isWhole(c Case) bool { return c.Address == servesOne }

// judge plays one case. An error is one of ours: not the server's.
func (r *runner) judge(ctx context.Context, c Case) (Result, error) {
	began := time.Now()
	result := Result{Case: c, Script: c.Script(r.model(c))}
	if reason := r.notJudged(c); reason != "" {
		result.Verdict, result.Reason = NotJudged, reason
		return result, nil
	}
	return inTime(func(last bool) (Result, error) {
		played, err := r.played(ctx, c, result, last)
		played.Took = time.Since(began)
		return played, err
	})
}

// played plays one case, and adds to the result what it has come to. The error is errMissed if
// the case has missed what it is about; the last try does not.
func (r *runner) played(ctx context.Context, c Case, result Result, last bool) (Result, error) {
	timeout := elsewhere
	if c.needs == aTimeout {
		timeout = r.options.Timeout
	}
	s, err := r.server(ctx, timeout)
	if err != nil {
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
		return result.trouble(fmt.Errorf("the server could not be started: %w", err)), nil
	}
	t := r.trial(ctx, s)
	t.model, t.last = r.model(c), last
	step, err := t.play(c.script)
	if errors.Is(err, proc.ErrGone) || errors.Is(err, sockets.ErrNone) {
		err = t.vanished(err)
	}
	result.Notes = t.notes

	var failed *failure
	var cannot unable
	switch {
	case err == nil:
		result.Verdict = Holds
	case errors.As(err, &failed):
		result.Verdict, result.Step = Fails, step
		result.Got, result.Want = failed.got, failed.want
		if result.Process, err = t.server.obituary(ctx, failed.inSight()); err != nil {
			break
		}
		result.Cause = t.because(c, step, failed, result.Process)
		if s.Proc == nil && !listening(s.Addr) {
			r.gone = c.Address
			result.Process = append(result.Process, "the port is closed: the server has ended")
		}
	case errors.As(err, &cannot):
		result.Verdict, result.Reason = NotJudged, cannot.reason
		err = nil
	}
	err = errors.Join(err, t.close())
	switch {
	case err == nil:
	case errors.Is(err, errMissed):
		return result, err
	case ctx.Err() != nil:
		return result, ctx.Err()
	case result.Verdict == "":
		result = result.trouble(err)
	default:
		result.Notes = append(result.Notes, err.Error())
	}
	return result, nil
}

// trouble is the result of a case that could not be judged because of an error that is
// neither the server's nor the machine's. It costs no other case its verdict.
func (r Result) trouble(err error) Result {
	r.Verdict, r.Reason, r.troubled = NotJudged, err.Error(), true
	return r
}

// vanished is the failure of a server that has no process or no listener any more.
func (t *trial) vanished(err error) error {
	if errors.Is(err, proc.ErrGone) || t.server.Ended() {
		return fails("the server's process has ended", "it keeps running")
	}
	return fails("the server does not listen any more", "it listens")
}

// model returns as what the case judges the server.
func (r *runner) model(c Case) Model {
	model := r.portrait.model
	if r.plan.least == nil {
		return model
	}
	if least := r.plan.least(c); rank(model) < rank(least) {
		return least
	}
	return model
}

// rank orders the models by what a server of each can do at the same time.
func rank(m Model) int { return slices.Index(lesson.Models(), m) }

func (r *runner) trial(ctx context.Context, s *server) *trial {
	return &trial{
		ctx: ctx, server: s, model: r.portrait.model,
		patience: r.options.Patience, timeout: r.options.Timeout, answer: &r.portrait.answer,
		clients: map[string]*play.Conn{}, filled: map[string]int{},
		sent: map[string]string{}, early: map[string]bool{}, answersEarly: r.portrait.early,
		restart: func() (*server, error) { return r.target.startAt(ctx, s, elsewhere) },
	}
}

// play does step after step, and says which one failed, from 1.
func (t *trial) play(script []step) (failed int, err error) {
	for i, s := range script {
		if err := s.do(t); err != nil {
			if t.ctx.Err() != nil {
				err = t.ctx.Err()
			}
			return i + 1, err
		}
	}
	if t.model != Blocking && !t.mayEnd && t.server.Ended() {
		return len(script), fails("the server's process has ended", "it keeps running")
	}
	return 0, nil
}

// leftOut reports whether the plan leaves a case out.
func (r *runner) leftOut(c Case) bool { return r.plan.skip != nil && r.plan.skip(c) }

// notJudged says why a case is left out, if it is.
func (r *runner) notJudged(c Case) string {
	switch {
	case r.useless != "":
		return r.useless
	case r.leftOut(c):
		return afterFailure
	case !c.askedOf(r.model(c)):
		return "for servers of another model"
	case c.needs == aTimeout && r.options.Timeout == 0:
		return "give the server's own timeout for unfinished requests with --timeout"
	case c.needs == toStart && len(r.target.Command) == 0:
		return "needs a server that the check starts itself: lesson check -- COMMAND"
	case c.needs == aBackEnd && !r.target.takesBackEnd():
		return "needs a proxy, which the check gives a back end: lesson check -- COMMAND {port} {backend}"
	case c.needs == toLook && !r.portrait.visible:
		return "needs to see the server's process: same machine, same user"
	case r.gone != "":
		return "the server has ended, in " + r.gone
	}
	return ""
}

// listening reports whether a server listens there. A connection is only tried where
// the kernel cannot be asked: it would be one more client for the server.
func listening(addr netip.AddrPort) bool {
	if _, err := listenerAt(addr); err == nil {
		return true
	}
	if addr.Addr().IsLoopback() {
		return false
	}
	c, err := play.Dial(addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// dyingWithin is how long a program that has had its turn takes to say what has ended it;
// dyingMost, one that does not listen any more.
const (
	dyingWithin = 300 * time.Millisecond
	dyingMost   = 3 * time.Second
)

// obituary says how a server of ours has ended, if it has, and what it wrote. One that has
// just been seen waiting or spinning is not about to end.
func (s *server) obituary(ctx context.Context, inSight bool) ([]string, error) {
	if s.Proc == nil || inSight && !s.Ended() {
		return nil, nil
	}
	within := dyingWithin
	if _, err := listenerAt(s.Addr); errors.Is(err, sockets.ErrNone) {
		within = dyingMost
	}
	began := time.Now()
	var turn turn
	over := func() bool { return time.Since(began) > within && turn.over(s) }
	ended, err := poll(ctx, over, func() (bool, error) { return s.Ended(), nil })
	if err != nil || !ended {
		return nil, err
	}
	how, _ := s.Proc.Status()
	lines := []string{"the server has ended: " + how}
	if words := child.LastWords(s.Proc.Output()); words != "" {
		lines = append(lines, "its last lines: "+words)
	}
	return lines, nil
}
