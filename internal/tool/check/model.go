//go:build linux

package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
	"lesson/internal/protocol"
	"lesson/internal/report"
)

// A portrait is what a server looks like from outside.
type portrait struct {
	model   Model
	answer  answer // to a whole request
	visible bool   // its process can be seen
	seen    string // in words
	edge    bool   // its connections are watched with EPOLLET
	calls   map[string]float64
	returns map[ptrace.Outcome]float64 // outcomes of the calls of one request
	early   bool                       // half a request is answered
}

// sitters is how many clients hold half a request while the portrait is drawn.
const sitters = 8

// secondWithin is how long a second client waits while the first holds half a
// request, before the server is taken for one that serves one at a time.
const secondWithin = time.Second

// learn looks at one instance of the server: how it waits, and what it answers.
func (r *runner) learn(ctx context.Context) (p portrait, err error) {
	s, err := r.server(ctx, elsewhere)
	if err != nil {
		return p, err
	}
	if s.Proc == nil && !listening(s.Addr) {
		return p, fmt.Errorf("no server listens on %v; start the server first, or let the check start it:"+
			" lesson check -- COMMAND {port}", s.Addr)
	}
	t := r.trial(ctx, s)
	defer func() { err = errors.Join(err, t.close()) }()
	p.visible = s.visible()
	p.answer.bytes = protocol.Response

	var words []string
	guess, words, err := t.guess(&p)
	if err != nil {
		return p, err
	}
	t.answer = &p.answer
	p.edge = slices.Contains(words, edgeTriggeredEpoll)
	if guess != Blocking {
		t.learnAnswer()
	}
	p.model = r.options.Model
	if p.model == "" {
		p.model = guess
	}
	if l, err := t.listener(); err == nil {
		words = append(words, fmt.Sprintf("an accept queue for %d", l.Unsent))
	}
	p.seen = strings.Join(words, ", ")
	if p.model != Blocking && s.Proc != nil {
		err := t.countCalls(&p)
		p.seen += "\n" + p.callsInWords(err)
	}
	return p, nil
}

// learnAnswer asks once more, to learn what varies in the answer. If it does not come,
// the cases will say so.
func (t *trial) learnAnswer() {
	for _, c := range t.crowd { // or a server that takes one at a time waits for them
		_ = c.Close()
	}
	c, err := t.dial()
	if err != nil {
		return
	}
	defer c.Close()
	if err := c.Send([]byte(whole)); err != nil {
		return
	}
	if got, end := t.readWithin(c, secondWithin); end == nil {
		t.answer.learn(got)
	}
}

// The system calls are counted over so many requests, or over as many as a server that
// takes long for each answers in that time.
const (
	counted     = 100
	countWithin = time.Second
)

// countCalls counts the system calls of a request, by name and by what they return. Those
// of a thousand waiting clients are others than those of one: here they come one by one.
func (t *trial) countCalls(p *portrait) error {
	counter, err := ptrace.Count(t.server.Pids()...)
	if err != nil {
		return err
	}
	_, err = t.serveSome(aFew)
	before, returned := counter.Counts(), counter.Outcomes()
	requests := 0
	if err == nil {
		requests, err = t.serveSome(counted)
	}
	after, returns := counter.Counts(), counter.Outcomes()
	if err := errors.Join(err, counter.Detach()); err != nil {
		return err
	}
	p.calls = each(after, before, requests)
	p.returns = each(returns, returned, requests)
	return nil
}

// serveSome serves at least one client, and returns how many it has served: most of them,
// if that takes no longer than countWithin.
func (t *trial) serveSome(most int) (n int, err error) { return t.serveWithin(most, countWithin) }

// serveWithin is serveSome for another time.
func (t *trial) serveWithin(most int, within time.Duration) (n int, err error) {
	for end := time.Now().Add(within); n == 0 || n < most && time.Now().Before(end); n++ {
		if err := t.serveOneMore(); err != nil {
			return n, err
		}
	}
	return n, nil
}

// each returns what was added to counts for each of the requests.
func each[K comparable](after, before map[K]int64, requests int) map[K]float64 {
	added := map[K]float64{}
	for key, n := range after {
		if each := float64(n-before[key]) / float64(requests); each >= 0.01 {
			added[key] = each
		}
	}
	return added
}

// runtimes is the calls that a language's runtime makes for its own purposes:
// threads, memory, signals.
var runtimes = []string{
	"clock_nanosleep", "clone", "clone3", "exit", "futex", "getpid", "gettid", "madvise", "mmap",
	"mprotect", "munmap", "nanosleep", "rseq", "rt_sigprocmask", "rt_sigreturn", "sched_yield",
	"set_robust_list", "sigaltstack", "tgkill",
}

// callsInWords is the calls of a request, the most frequent first.
func (p *portrait) callsInWords(err error) string {
	calls := p.calls
	var failed *failure
	switch {
	case errors.As(err, &failed):
		return "system calls not counted: a client was not answered meanwhile"
	case err != nil:
		return fmt.Sprintf("system calls not counted: %v", err)
	}
	// In the same order each time: a request that came in two pieces now and then does not matter.
	names := slices.SortedFunc(maps.Keys(calls), func(a, b string) int {
		return cmp.Or(cmp.Compare(math.Round(calls[b]), math.Round(calls[a])), cmp.Compare(a, b))
	})
	sum, others := 0.0, 0.0
	var each []string
	for _, name := range names {
		if slices.Contains(runtimes, name) {
			others += calls[name]
			continue
		}
		sum += calls[name]
		each = append(each, fmt.Sprintf("%s %.3g", name, calls[name]))
	}
	words := fmt.Sprintf("%.3g system calls per request: %s", sum, strings.Join(each, ", "))
	if others >= 0.1 {
		words += fmt.Sprintf("; and %.1f of its runtime's own", others)
	}
	return words + p.atEndInWords()
}

// atEndInWords says how often a request is read at its end, if that is too often: once is
// enough to know of the end.
func (p *portrait) atEndInWords() string {
	const often = 2
	ends, name := 0.0, ""
	for o, n := range p.returns {
		if slices.Contains(readCalls, o.Call) && o.Result == 0 {
			ends, name = ends+n, o.Call
		}
	}
	if ends < often {
		return ""
	}
	return fmt.Sprintf("\n%s returned 0, %.3g times for each request: it spins at end of file", name, ends)
}

// guess finds out how the server waits: what a second client sees while the
// first holds half a request, and what /proc shows meanwhile.
func (t *trial) guess(p *portrait) (Model, []string, error) {
	first, err := t.dial()
	if err != nil {
		return "", nil, unreachable(err)
	}
	t.crowd = append(t.crowd, first)
	if err := first.Send([]byte(half)); err != nil {
		return "", nil, err
	}
	t.clients["first"] = first
	if err := t.waitTaken("first"); isOurs(err) {
		return "", nil, err
	}
	if err := t.comesToRest(); err != nil { // one that answers half a request has done so
		return "", nil, err
	}

	held := half // by the first client
	if got, err := first.Read(1, lastRead); len(got) > 0 || !errors.Is(err, play.ErrTimeout) {
		// The server does not wait for the rest: let a client connect and send nothing.
		more, _ := t.readAll(first)
		if got = append(got, more...); len(got) > 0 {
			p.answer.bytes, p.early = got, true
		}
		if gone, err := until(t.ctx, dyingWithin, t.gone); gone || err != nil {
			return Blocking, []string{"one client, and then it ends"}, err
		}
		if first, err = t.dial(); err != nil {
			return "", nil, unreachable(err)
		}
		held = ""
		t.crowd = append(t.crowd, first)
		t.clients["first"] = first
	}

	second, err := t.dial()
	if err != nil {
		return "", nil, unreachable(err)
	}
	t.crowd = append(t.crowd, second)
	if err := second.Send([]byte(whole)); err != nil {
		return "", nil, err
	}
	got, end := t.readWithin(second, secondWithin)
	if len(got) > 0 || end == nil { // answered, or at least noticed
		if len(got) > 0 {
			p.answer.bytes = got
		}
		model, words := t.concurrency(held)
		return model, words, nil
	}

	how, missing := t.watched(), rest // of the request
	if held == "" {
		missing = whole
	}
	if err := first.Send([]byte(missing)); err == nil {
		if got, _ := t.readAll(first); len(got) > 0 {
			p.answer.bytes = got
		}
	}
	if how != "" {
		return EventLoop, []string{"event loop, " + how + ", that a slow client blocks"}, nil
	}

	// One at a time. Is the first the only one?
	model, words := Loop, []string{"one client at a time"}
	if err := first.Close(); err != nil {
		return "", nil, err
	}
	if got, _ := t.readAll(second); len(got) == 0 {
		gone, err := t.until(t.gone)
		if err != nil {
			return "", nil, err
		}
		if gone {
			model, words = Blocking, []string{"one client, and then it ends"}
		}
	}
	return model, words, nil
}

// unreachable is why a server has no portrait, without what it should have done.
func unreachable(err error) error {
	if f, ok := err.(*failure); ok {
		return errors.New(f.got)
	}
	return err
}

// isOurs tells an error of ours from a failure of the server's, which is not
// what the portrait is about.
func isOurs(err error) bool {
	var f *failure
	return err != nil && !errors.As(err, &f)
}

// gone reports whether the server has ended.
func (t *trial) gone() (bool, error) {
	if t.server.Proc != nil {
		return t.server.Ended(), nil
	}
	return !listening(t.server.Addr), nil
}

// concurrency tells an event loop from threads, by what it holds while several
// clients do not finish.
func (t *trial) concurrency(held string) (Model, []string) {
	few, _ := t.server.Used() // nothing when it cannot be seen
	if !t.server.visible() {
		return EventLoop, []string{"serves several clients at the same time (its process cannot be seen:" +
			" it is judged as an event loop; change that with --model)"}
	}
	taken := t.gather(sitters, held)
	if taken == nil {
		taken = t.takesAll() // if it does not take them all, the cases will say so
	}
	now, err := t.server.Used()
	if err != nil {
		return EventLoop, []string{"serves several clients at the same time"}
	}
	tree := t.server.Pids()
	threads := report.Plural(len(now.Threads), "thread", "threads")
	grown := len(now.Threads) - len(few.Threads)
	waits := t.waitingThreads(tree)
	switch how := t.watched(); {
	case how != "" && waits.loops > 1:
		return EventLoops, []string{fmt.Sprintf("%d event loops", waits.loops),
			report.Plural(len(tree), "process", "processes"), threads, how}
	case how != "":
		return EventLoop, []string{"event loop", threads, how}
	case taken == nil && grown >= sitters/2 && len(tree) >= sitters:
		return Threaded, []string{"a process for each connection",
			report.Plural(len(tree), "process", "processes")}
	case taken == nil && grown >= sitters/2:
		return Threaded, []string{"a thread for each connection",
			fmt.Sprintf("%s with %d connections", threads, len(t.crowd)-1)}
	case waits.single > 1:
		return Pool, []string{fmt.Sprintf("a pool of %d that serve one client each", waits.single),
			report.Plural(len(tree), "process", "processes"), threads}
	}
	return EventLoop, []string{"event loop", threads, "without epoll (select or poll)"}
}

// waiting is how the threads of a server wait.
type waiting struct {
	loops  int // threads in epoll_wait for connections or the listener
	single int // threads in a call that waits for one client
}

// waitingThreads counts the threads that are blocked while nothing happens.
func (t *trial) waitingThreads(pids []int) (w waiting) {
	_ = t.comesToRest() // one that runs is not counted
	own := t.ownLinks()
	for _, pid := range pids {
		descriptors, err := proc.Descriptors(pid)
		if err != nil {
			continue // it has ended, or may not be looked at
		}
		for _, thread := range proc.ThreadIDs(pid) {
			call, err := proc.ThreadBlockedIn(thread)
			if err != nil {
				continue
			}
			switch call.Name() {
			case "epoll_wait", "epoll_pwait", "epoll_pwait2":
				list, err := proc.Interests(pid, call.Descriptor())
				if err == nil && slices.ContainsFunc(list, func(in proc.Interest) bool {
					return own[descriptors[in.FD]]
				}) {
					w.loops++
				}
			case "read", "readv", "recvfrom", "recvmsg", "accept", "accept4":
				if own[descriptors[call.Descriptor()]] {
					w.single++
				}
			case "poll", "ppoll":
				w.single++
			}
		}
	}
	return w
}

// ownLinks returns the sockets on the server's port, as links of /proc/PID/fd.
func (t *trial) ownLinks() map[string]bool {
	open, err := sockets.Open(t.server.Addr.Port())
	if err != nil {
		return nil
	}
	links := map[string]bool{}
	for _, s := range open {
		if s.Inode != 0 {
			links[proc.SocketLink(s.Inode)] = true
		}
	}
	return links
}

const edgeTriggeredEpoll = "edge-triggered epoll"

// watched says how epoll watches the first client's connection, "" if it does
// not.
func (t *trial) watched() string {
	theirs, err := t.theirs(t.clients["first"])
	if err != nil {
		return ""
	}
	for _, pid := range t.server.Pids() {
		interest, ok := interestIn(pid, theirs)
		if !ok {
			continue
		}
		if interest.Events&unix.EPOLLET != 0 {
			return edgeTriggeredEpoll
		}
		return "level-triggered epoll"
	}
	return ""
}

// interestIn returns how a process of the server watches a connection, if it does.
func interestIn(pid int, socket sockets.Socket) (watched proc.Interest, ok bool) {
	fd, open, err := proc.DescriptorOf(pid, socket.Inode)
	if err != nil || !open {
		return watched, false
	}
	list, err := proc.InterestsWith(pid, fd)
	i := slices.IndexFunc(list, func(in proc.Interest) bool { return in.FD == fd })
	if err != nil || i < 0 {
		return watched, false
	}
	return list[i], true
}
