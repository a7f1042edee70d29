//go:build linux

package check

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
)

// idles are cases about a server that has nothing to do and still runs: some begin to
// spin only after a client has left, or some seconds later.
var idles = []Case{
	{
		Address: "resources/idle-after-close", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"24-paused", "passes over EPOLLHUP"},
		needs: toLook,
		Must:  "After an answered client has closed, the server sleeps.",
		Why: "When both sides have ended, EPOLLHUP is reported until the descriptor is closed, even if" +
			" the interest is 0.",
		Cause: "The connection is kept until a timer ends it, with an interest of 0, or with events" +
			" that the server ignores. Close it when EPOLLHUP comes, or remove it from the interest list.",
		script: []step{
			connect("a"), send("a", whole), preparing(answered("a")), endsInTime(calm()), next(),
		},
	},
	{
		Address: "resources/idle-reset-after-answer", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"24-paused", "passes over EPOLLHUP"},
		needs: toLook,
		Must:  "After an answered client has reset, the server sleeps.",
		Why: "EPOLLHUP and EPOLLERR are reported until the descriptor is closed, even if the interest" +
			" is 0.",
		Cause: "The connection is kept until a timer ends it, with an interest of 0, or with events" +
			" that the server ignores. Close it when EPOLLERR or EPOLLHUP comes.",
		// A reset before the server has shut down fails the shutdown: that is another case.
		script: append(given(connect("a"), send("a", whole), reads("a"), readToEnd("a")),
			resets("a"), endsInTime(calm()), next()),
	},
	{
		Address: "resources/idle-unread-answer", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{
			"21-duplicate", "passes over end of file", "passes over bytes",
		},
		needs: toStart,
		Must: "While an answer waits for room in the send buffer, the server sleeps, whatever else the" +
			" client does.",
		Why: "Unread bytes and an end of file are reported by every epoll_wait, as long as the" +
			" interest includes them.",
		Cause: "Interest in EPOLLIN or EPOLLRDHUP while the server acts only on EPOLLOUT; or EPOLLHUP" +
			" is ignored after the reset; or a descriptor was closed without EPOLL_CTL_DEL while a" +
			" duplicate of it is open.",
		// Servers keep such a client for a second or so: each of three has the time for itself.
		script: slices.Concat(
			unreadAnswer("a"), []step{resets("a")},
			unreadAnswer("b", halfClose("b")), []step{resets("b")},
			unreadAnswer("c", halfClose("c"), resets("c")), []step{next()},
		),
	},
	{
		Address: "resources/idle-lingering", Severity: Should, Models: goingOn,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"rounds its time limits down"},
		needs: toLook, long: true,
		Must: "While it waits for an answered client to close, the server sleeps until it gives up.",
		Why:  "The server must also sleep in the last second of a wait.",
		Cause: "The time that is left is rounded down to whole seconds, so that the timeout of epoll_wait" +
			" is 0 in the last one. Round up.",
		script: []step{
			connect("a"), send("a", whole), preparing(reads("a")), later("a"),
			own(fmt.Sprintf("a does not close; the server must sleep until it does, watched for at most %v",
				watchFor), func(t *trial) error { return t.sleepsUntil(watchFor, t.gaveUp("a")) }),
			calm(),
		},
	},
	{
		Address: "resources/idle-until-timeout", Severity: Should, Models: goingOn,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"rounds its time limits down"},
		NoExercise: "The exercises have no timeout.",
		needs:      aTimeout, long: true,
		Must: "Until the time for a request is over, the server sleeps.",
		Why:  "The server must also sleep in the last second of a wait.",
		Cause: "The time that is left is rounded down to whole seconds, so that the timeout of epoll_wait" +
			" is 0 in the last one. Round up.",
		script: []step{
			preparing(own("if the server serves several at the same time, b connects, and is silent", silentToo)),
			connect("a"), send("a", half), taken("a"), later("a"),
			own("the server must sleep until its time is over", (*trial).sleepsUntilTimeout),
			calm(), // also when it is over
		},
	},
	{
		Address: "resources/idle-for-long", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"never removes a deadline"},
		NoExercise: "A spin that begins only after some seconds takes a long time to find.",
		needs:      toLook, long: true,
		Must: fmt.Sprintf("A server that has served clients, and then has nothing to do, sleeps for all of %v.",
			watchFor),
		Why:   "A spin that begins seconds after the last client is easy to miss.",
		Cause: staysOverdue,
		script: []step{
			servesAFew(),
			own(fmt.Sprintf("no client comes; after %v, the server must sleep for %v", settling,
				watchFor), func(t *trial) error {
				if err := t.pause(settling); err != nil {
					return err
				}
				return t.sleepsUntil(watchFor, func() (bool, error) { return false, nil })
			}),
			next(),
		},
	},
}

const staysOverdue = "A deadline that has passed is never removed: the timeout of epoll_wait is 0 from then on."

// silentToo lets b connect, unless the server would then not come to serve a.
func silentToo(t *trial) error {
	if !slices.Contains(concurrent, t.model) {
		return nil
	}
	return connect("b").do(t)
}

// sleepsUntilTimeout demands that the server sleeps until the time of two clients is over. One
// that spins earlier than in the last second of it has another deadline.
func (t *trial) sleepsUntilTimeout() error {
	const last = time.Second
	err := t.sleepsUntil(t.timeout+watchFor, t.gaveUp("a"))
	var f *failure
	if errors.As(err, &f) && f.cause == "" && t.timeout-time.Since(t.born) > last {
		f.cause = staysOverdue
	}
	return err
}

// unreadAnswer is a client whose answer finds no room, and what it does then.
func unreadAnswer(name string, then ...step) []step {
	steps := given(
		connectSmall(name), send(name, half), taken(name), fill(name), send(name, rest), taken(name),
		beginsInTime(keepsConnection(name)),
	)
	steps = append(append(steps, send(name, emptyLine)), then...)
	return append(steps, endsInTime(calm()))
}

// watchFor is longer than most servers wait for a client that does not close.
const watchFor = 4 * time.Second

// settling is how long a server may be busy with clients that have left: other cases are
// about those.
const settling = time.Second

// later sends a byte after a fraction of a second: the time that is left then is not one of
// whole seconds.
func later(name string) step {
	const fraction = 350 * time.Millisecond
	s := maySend(name, "x")
	return own(fmt.Sprintf("after %v %s", fraction, s.text), func(t *trial) error {
		if err := t.pause(fraction); err != nil {
			return err
		}
		return s.do(t)
	})
}

// gaveUp returns a condition: the server has ended a client's connection.
func (t *trial) gaveUp(name string) func() (bool, error) {
	return func() (bool, error) { return t.endedByServer(name) }
}

// endedByServer reports whether the server has closed a client's connection, or has ended
// itself.
func (t *trial) endedByServer(name string) (bool, error) {
	_, err := t.theirs(t.clients[name])
	if errors.Is(err, sockets.ErrNone) {
		return true, nil
	}
	return t.server.Ended(), err
}

// sleepsUntil demands that the server does not spin until over, or for that long. It
// fails after two short times in which a thread never sleeps. When the checker itself did not
// run for as long as the shortest spin, it may have missed that.
func (t *trial) sleepsUntil(most time.Duration, over func() (bool, error)) error {
	const window, shortest = 100 * time.Millisecond, 400 * time.Millisecond
	began, spun := time.Now(), 0
	for time.Since(began) < most {
		looked := time.Now()
		spins, err := t.spinsFor(window)
		if err != nil {
			return err
		}
		if !spins && time.Since(looked) > window+shortest {
			if err := t.miss(); err != nil {
				return err
			}
		}
		watched := time.Since(began).Round(window)
		ended, err := over()
		if err != nil {
			return err
		}
		if ended {
			t.note("it slept until its end after %v", watched)
			return nil
		}
		if spins {
			spun++
		}
		if spun == spinTries {
			f := fails(fmt.Sprintf("%v later it never sleeps", watched-spinTries*window),
				"no work where there is nothing to do")
			if watched <= (spinTries+1)*window {
				f.cause = "It does not begin to sleep: a timeout of 0 in the call that waits, or an" +
					" event that is never handled."
			}
			return f
		}
	}
	t.note("it slept for %v", most)
	return nil
}

// spinsFor watches the server for that long, and reports whether a thread ran and never
// slept meanwhile. However busy the machine is, a thread that has only waited for its turn
// has not run, and one that had something to do sleeps after it.
func (t *trial) spinsFor(window time.Duration) (bool, error) {
	const aMoment = time.Millisecond
	before, err := t.server.Used()
	if err != nil {
		return false, t.lost(err)
	}
	awake := map[int]bool{}
	for thread := range before.Threads {
		awake[thread] = runs(thread)
	}
	if err := t.pause(window); err != nil {
		return false, err
	}
	for thread := range before.Threads {
		awake[thread] = awake[thread] && runs(thread)
	}
	after, err := t.server.Used()
	if err != nil {
		return false, t.lost(err)
	}
	for thread, now := range after.Threads {
		then := before.Threads[thread]
		if awake[thread] && now.Sleeps == then.Sleeps && now.Ran-then.Ran > aMoment {
			return true, nil
		}
	}
	return false, nil
}

// runs reports whether a thread runs, or waits for a processor.
func runs(thread int) bool {
	status, err := proc.ReadStatus(thread)
	return err == nil && status.State == 'R' // else it sleeps, or has ended
}
