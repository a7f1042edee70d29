//go:build linux

package check

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
)

// children are cases about the processes and threads that a server starts.
var children = []Case{
	{
		Address: "resources/zombies", Severity: Should, Models: goingOn,
		Chapter: goroutineEach, Contract: "B15", FailedBy: []string{
			"does not wait for its helpers", "does not wait for its processes", "does not join its threads",
			"waits for one process for each signal",
		},
		NoExercise: "The exercises start no process.",
		needs:      toLook,
		Must:       "Processes and threads that served clients leave nothing behind.",
		Why: "A process that has ended stays in the process table until its parent waits for it, and" +
			" the stack of a thread stays until the thread is joined, unless it was detached.",
		Cause: "The server does not wait for processes that have ended: call waitpid with WNOHANG, or ignore" +
			" SIGCHLD.",
		script: []step{
			servesAFew(),
			own("the server's processes that have ended, and its mappings of memory, are counted",
				(*trial).countRemains),
			own(fmt.Sprintf("%d more clients are served", rounds), func(t *trial) error {
				return t.serveMany(rounds)
			}),
			own(fmt.Sprintf("if a process serves each client: the processes of %d more end while the one that"+
				" started them is stopped (SIGSTOP)", aFew), (*trial).endTogether),
			own("there must be no more of them than before", (*trial).remainsBack),
		},
	},
	{
		Address: "resources/inherited-connections", Severity: Should, Models: several,
		Chapter: oneClient, Contract: "B3", FailedBy: []string{"leaves connections to a child"},
		NoExercise: "The exercises start no process.",
		needs:      toLook,
		Must:       "No process that the server has started keeps a connection of a client that is gone.",
		Why: "A connection is open for as long as any process has a descriptor for it: the client may" +
			" wait for its end forever.",
		Cause: "A process that was started while the client was connected has inherited the descriptor:" +
			" accept4 with SOCK_CLOEXEC.",
		script: append(given(
			connect("a"), send("a", half), taken("a"), noteSocket("a"),
			servesAFew(),
			send("a", rest), answered("a"),
		), own("no process must have that socket any more", socketGone)),
	},
}

// remains is what is left of processes and threads that have ended.
type remains struct {
	zombies  int   // processes that have ended and were not waited for
	mappings int   // of memory: two for each thread that was not joined, its stack and a guard
	holders  []int // processes that have the listener after the server has ended
}

const waitsOnce = "The server waits for one process for each SIGCHLD. Signals of one kind do not queue: when" +
	" several processes end at the same time, there is one signal. Call waitpid with WNOHANG until it returns 0."

// remains counts what is left now.
func (t *trial) remains() (r remains, err error) {
	all, err := proc.All()
	if err != nil {
		return r, err
	}
	tree := t.server.Pids()
	if t.server.Proc != nil {
		if tree, err = t.server.Proc.Tree(); err != nil {
			return r, err
		}
	}
	for _, p := range all {
		if p.Zombie && slices.Contains(tree, p.Parent) {
			r.zombies++
		}
	}
	err = t.server.Each(func(pid int) error {
		n, err := proc.Mappings(pid)
		r.mappings += n
		return err
	})
	if err != nil {
		return r, t.lost(err)
	}
	return r, nil
}

func (t *trial) countRemains() (err error) {
	t.left, err = t.remains()
	return err
}

func (t *trial) remainsBack() error {
	var now remains
	ok, err := t.until(func() (bool, error) {
		var err error
		now, err = t.remains()
		return now.zombies <= t.left.zombies+descriptorSlack &&
			now.mappings < t.left.mappings+rounds, err
	})
	if err != nil {
		return err
	}
	t.note("%d zombies and %d mappings before, %d and %d after", t.left.zombies, t.left.mappings,
		now.zombies, now.mappings)
	switch {
	case ok:
		return nil
	case now.zombies > t.left.zombies+descriptorSlack:
		f := fails(fmt.Sprintf("%d zombies before, %d after", t.left.zombies, now.zombies),
			"each process that has ended is waited for")
		if t.together && now.zombies < rounds {
			f.cause = waitsOnce
		}
		return f
	}
	return &failure{
		got:  fmt.Sprintf("%d mappings of memory before, %d after", t.left.mappings, now.mappings),
		want: fmt.Sprintf("about %d", t.left.mappings),
		cause: "Threads that have ended are neither joined nor detached, so each leaves its stack:" +
			" pthread_detach(3).",
	}
}

// endTogether lets processes that serve clients end at the same time: their parent then gets
// fewer signals than it has children.
func (t *trial) endTogether() error {
	if t.model != Threaded || t.server.Proc == nil {
		return nil
	}
	if err := t.gather(aFew, half); err != nil {
		return err
	}
	if err := t.takesAll(); err != nil || len(t.server.Pids()) < aFew {
		return err // these are threads
	}
	parent := t.server.Pid()
	if err := unix.Kill(parent, unix.SIGSTOP); err != nil {
		return err
	}
	t.together = true
	defer func() { _ = unix.Kill(parent, unix.SIGCONT) }()
	if err := crowdSends(rest).do(t); err != nil {
		return err
	}
	if err := crowdAnswered().do(t); err != nil {
		return err
	}
	_, err := until(t.ctx, time.Second, func() (bool, error) {
		now, err := t.remains()
		return now.zombies >= t.left.zombies+aFew, err
	})
	return err
}

// noteSocket remembers which socket the server has for a client.
func noteSocket(name string) step {
	return own("the server's socket for "+name+" is looked up", func(t *trial) error {
		theirs, err := t.theirs(t.clients[name])
		if errors.Is(err, sockets.ErrNone) {
			return answeredEarly
		}
		t.socket = theirs.Inode
		return err
	})
}

// socketGone demands that no process has that socket any more. (A connection that has ended
// is no longer among those of the kernel, but its descriptor can be seen.)
func socketGone(t *trial) error {
	var holders []int
	gone, err := t.until(func() (bool, error) {
		var err error
		if holders, err = proc.Holders(t.socket, t.server.Pids()...); err != nil {
			return false, err
		}
		return len(holders) == 0, nil
	})
	if err != nil || gone {
		return err
	}
	f := fails(fmt.Sprintf("process %d still has it after %v", holders[0], t.waited()),
		"every descriptor for it is closed")
	if len(holders) == 1 && holders[0] == t.server.Pid() {
		f.cause = "The connection is not closed."
	}
	return f
}
