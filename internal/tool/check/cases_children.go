//go:build linux

package check

import (
	"errors"
	"fmt"
	"slices"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
)

// children are cases about the processes and threads that a server starts.
var children = []Case{
	{
		Address: "resources/zombies", Severity: Should, Models: goingOn,
		Chapter: goroutineEach, Contract: "B15", FailedBy: []string{
			"does not wait for its helpers", "does not wait for its processes", "does not join its threads",
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
		return fails(fmt.Sprintf("%d zombies before, %d after", t.left.zombies, now.zombies),
			"each process that has ended is waited for")
	}
	return &failure{
		got:  fmt.Sprintf("%d mappings of memory before, %d after", t.left.mappings, now.mappings),
		want: fmt.Sprintf("about %d", t.left.mappings),
		cause: "Threads that have ended are neither joined nor detached, so each leaves its stack:" +
			" pthread_detach(3).",
	}
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
