//go:build linux

package check

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

const (
	// stackless is how much more memory a server may map when it is to run out of room for
	// stacks. A stack has 8 MiB by default: setrlimit(2), RLIMIT_STACK.
	stackless = 4 << 20
	// mostThreads is how many clients come until one of them gets no thread, also where a
	// stack is as small as 64 KiB.
	mostThreads = 64
)

// endedByRuntime is why a program in Go is not judged.
const endedByRuntime = "the runtime of Go ends a program that cannot create a thread: bound the number of" +
	" threads instead"

// noThread is about a shortage that ends many a server with a thread for each connection.
var noThread = Case{
	Address: "limits/no-thread", Severity: Must, Models: []Model{Threaded},
	ends:    true,
	Chapter: goroutineEach, Contract: "B15",
	FailedBy: []string{"ends without a thread", "keeps a client without a thread"},
	NoExercise: "The exercises are in Go, whose runtime ends a program that cannot create a" +
		" thread.",
	needs: toStart,
	Must: "When no thread can be created, the server continues, and the client that needed it is" +
		" closed, or served later.",
	Why: "The bounds on threads and on memory are reached on the busiest day. A server that then ends" +
		" drops all of its clients.",
	Cause: threadFailed,
	script: []step{
		preparing(own(fmt.Sprintf("the server may map only %d MiB more memory: a stack of 8 MiB has no room",
			stackless>>20), (*trial).limitMemory)),
		own(fmt.Sprintf("clients connect and send half a request, until there is no thread for one (at"+
			" most %d); the server must continue", mostThreads), (*trial).useUpThreads),
		preparing(own("the limit is raised again, and each of them sends the rest",
			func(t *trial) error {
				for _, c := range t.crowd {
					_ = c.Send([]byte(rest)) // fails where the server has closed
				}
				return t.unlimitMemory()
			})),
		own("each of them must be answered, or its connection closed", (*trial).crowdAnsweredOrClosed),
		next(),
	},
}

// staleThread is about several threads that wait on one interest list: each has a batch of its
// own, and no order of work in one of them protects the events of another.
var staleThread = Case{
	Address: "slow/stale-thread", Severity: Must, Models: []Model{EventLoops},
	Chapter: manyCores, Contract: "B11", FailedBy: []string{"28-another-thread"},
	needs: toStart, long: true,
	Must: "An event that one thread still has in its hands when another closes the connection does" +
		" not end the next connection.",
	Why: "A thread may be delayed between epoll_wait and the work on an event. Meanwhile the number" +
		" of the descriptor can be closed, and given to the next client.",
	Cause: "Another thread, such as that of a timer, closes a connection whose event has been" +
		" reported. Let it only call shutdown, and let the thread that has the event close.",
	script: []step{
		preparing(own("two threads or more must wait on one list, which has the connections", sharesList)),
		connect("a"), send("a", whole),
		preparing(own("a must be answered, and leaves its connection open", answeredAndStays)),
		preparing(own("a resets; the thread to which epoll_wait reports that is held there (ptrace)",
			(*trial).holdThread)),
		preparing(own(fmt.Sprintf("for %v at most: another thread closes the server's end", closesWithin),
			(*trial).awaitClose)),
		connect("b"), send("b", half), taken("b"),
		preparing(own("the thread is let go, and waits again", (*trial).letGo)),
		maySend("b", rest), answered("b"), next(),
	},
}

// closesWithin bounds the wait for another thread. It is more than the time for which servers
// commonly linger here, which is a second.
const closesWithin = 3 * time.Second

// A holding is a thread that is held where epoll_wait has returned an event.
type holding struct {
	tracer *ptrace.Tracer
	thread atomic.Int64 // 0 before there is one
}

// sharesList makes sure that several threads of a process wait on one list.
func sharesList(t *trial) error {
	for _, pid := range t.server.Pids() {
		waiting := map[int]int{} // threads, by list
		shared, err := t.until(func() (bool, error) {
			clear(waiting)
			for _, thread := range proc.ThreadIDs(pid) {
				if call, err := proc.ThreadBlockedIn(thread); err == nil && isEpollWait(call.Name()) {
					waiting[call.Descriptor()]++
				}
			}
			return len(waiting) > 0 && slices.Max(slices.Collect(maps.Values(waiting))) > 1, nil
		})
		if shared || err != nil {
			return err
		}
	}
	return unable{"each of its event loops has a list of its own"}
}

func isEpollWait(call string) bool {
	return call == "epoll_wait" || call == "epoll_pwait" || call == "epoll_pwait2"
}

// answeredAndStays lets a read the answer and the end of file, and remembers the socket that
// the server has for it.
func answeredAndStays(t *trial) error {
	if err := t.expectAnswer("a"); err != nil {
		return err
	}
	theirs, err := t.theirs(t.clients["a"])
	if errors.Is(err, sockets.ErrNone) {
		return unable{"the server closes without waiting for the client's end of file"}
	}
	t.socket = theirs.Inode
	return err
}

// holdThread resets a's connection, and holds the first thread to which that is reported.
func (t *trial) holdThread() error {
	h := new(holding)
	waits := map[int]bool{} // by thread: is it in epoll_wait?
	var armed atomic.Bool
	var err error
	h.tracer, err = ptrace.Hold(func(s ptrace.Stop) bool {
		if !s.Left {
			waits[s.Thread] = isEpollWait(s.Call())
			return false
		}
		return armed.Load() && waits[s.Thread] && s.Result > 0 &&
			h.thread.CompareAndSwap(0, int64(s.Thread))
	}, t.server.Pids()...)
	if err != nil {
		return unable{fmt.Sprintf("its threads cannot be held: %v", err)}
	}
	t.holds = h
	armed.Store(true)
	if err := t.clients["a"].Reset(); err != nil {
		return err
	}
	held, err := t.until(func() (bool, error) { return h.thread.Load() != 0, nil })
	if err == nil && !held {
		return unable{"the reset is reported to no thread"}
	}
	return err
}

// awaitClose waits until no process has a's connection open, or has had long enough.
func (t *trial) awaitClose() error {
	closed, err := until(t.ctx, closesWithin, func() (bool, error) {
		for _, pid := range t.server.Pids() {
			_, open, err := proc.DescriptorOf(pid, t.socket)
			if open || err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err == nil && !closed {
		t.note("no other thread has closed it")
	}
	return err
}

// letGo lets the held thread continue, and waits until it has done what it has to do.
func (t *trial) letGo() error {
	thread := int(t.holds.thread.Load())
	if err := t.holds.tracer.Detach(); err != nil {
		return err
	}
	_, err := t.until(func() (bool, error) {
		call, err := proc.ThreadBlockedIn(thread)
		return errors.Is(err, proc.ErrGone) || err == nil && isEpollWait(call.Name()), nil
	})
	return err
}

// limitMemory leaves the server's processes no room for the stack of another thread. Only the
// soft limit is lowered, so that it can be raised again.
func (t *trial) limitMemory() error {
	if err := t.serveOneMore(); err != nil { // all of the server has started
		return err
	}
	for _, pid := range t.server.Pids() {
		if isGo(pid) {
			return unable{endedByRuntime}
		}
		mapped, err := proc.Mapped(pid)
		if err != nil {
			return t.lost(err)
		}
		if err := t.setMemoryLimit(pid, uint64(mapped)+stackless); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) unlimitMemory() error {
	for _, pid := range t.server.Pids() {
		if err := t.setMemoryLimit(pid, unix.RLIM_INFINITY); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) setMemoryLimit(pid int, soft uint64) error {
	var limit unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_AS, nil, &limit); err != nil {
		return limitError(err)
	}
	limit.Cur = min(soft, limit.Max)
	return limitError(unix.Prlimit(pid, unix.RLIMIT_AS, &limit, nil))
}

// useUpThreads lets clients come, each when the server has done what it does about the last,
// until no thread was created for one.
func (t *trial) useUpThreads() error {
	threads, err := t.settledThreads()
	if err != nil {
		return err
	}
	for range mostThreads {
		if err := t.queue(1, half); err != nil {
			return err
		}
		has := func() (bool, error) {
			now, err := t.threads()
			return now > threads || t.server.Ended(), err
		}
		grown, err := until(t.ctx, time.Second, has)
		if err == nil && !grown { // on a busy machine, it may not have run
			if err = t.comesToRest(); err == nil {
				grown, err = has()
			}
		}
		if err != nil {
			return err
		}
		if t.server.Ended() {
			return fails("the server's process has ended", "it keeps running")
		}
		if !grown {
			t.note("there is no thread for client %d", len(t.crowd))
			return nil
		}
		threads++
	}
	return unable{fmt.Sprintf("the server has found room for %d more threads", mostThreads)}
}

// settledThreads waits until the threads of those that were served before have ended, and
// counts the others.
func (t *trial) settledThreads() (int, error) {
	const unchanged = 100 * time.Millisecond
	last, since := -1, time.Now()
	_, err := t.until(func() (bool, error) {
		n, err := t.threads()
		if n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > unchanged, err
	})
	return last, err
}

// threads counts the threads of the server; 0 when it has ended.
func (t *trial) threads() (int, error) {
	used, err := t.server.Used()
	if errors.Is(err, proc.ErrGone) {
		return 0, nil
	}
	return len(used.Threads), err
}

// crowdAnsweredOrClosed demands that no client waits in vain.
func (t *trial) crowdAnsweredOrClosed() error {
	for i, c := range t.crowd {
		got, end := t.readAll(c)
		if !errors.Is(end, play.ErrTimeout) {
			_ = c.Close()
			continue
		}
		f := t.hears(c, got, end, "an answer, or the end of the connection")
		f.got = fmt.Sprintf("client %d of %d: %s", i+1, len(t.crowd), f.got)
		if f.seen.link == bytesUnread || f.seen.link == allRead {
			f.cause = threadForgotten
		}
		return f
	}
	return nil
}
