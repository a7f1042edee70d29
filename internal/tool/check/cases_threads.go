//go:build linux

package check

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
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
