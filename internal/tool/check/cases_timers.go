//go:build linux

package check

import (
	"fmt"
	"time"

	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

// timers are cases about the time limits of a server: under load, and after the client
// that they were meant for has left.
var timers = []Case{
	{
		Address: "slow/timeout-under-load", Severity: Should, Models: several,
		Chapter: levelTriggered, Contract: "B6", FailedBy: []string{"looks at its timers only when idle"},
		NoExercise: "The exercises have no timeout.",
		needs:      aTimeout, long: true,
		Must: "The time limit of a request also holds while other clients are served.",
		Why:  "A busy server can least spare the descriptors that slow clients hold for too long.",
		Cause: "Deadlines are checked only when epoll_wait times out and returns 0: while events come," +
			" it never does. Check them after each batch of events.",
		script: []step{
			connect("a"), send("a", half), taken("a"),
			flooding("are served", converses),
			own("a must read end of file when the server's time is over", timesOutUnderLoad),
		},
	},
	{
		Address: "slow/stale-timer", Severity: Must, Models: concurrent,
		Chapter: levelTriggered, Contract: "B11", FailedBy: []string{"keeps lingering by descriptor"},
		NoExercise: "The exercises store each deadline in its connection, so no timer can belong to an earlier one.",
		needs:      toLook, long: true,
		Must:  "The timer of an answered client does not end the next connection that has the same descriptor.",
		Why:   "A descriptor is only a number, and accept hands out the lowest that is free.",
		Cause: staleTimer,
		script: append(given(
			connect("witness"), send("witness", half), taken("witness"),
			own(fmt.Sprintf("%d clients connect, are answered and close; the server closes, too",
				successors), (*trial).predecessors),
			many(successors, half), allTaken(),
		),
			beginsInTime(own(fmt.Sprintf("for %v, none of them may read end of file before witness, which is older",
				watchFor), notEndedEarly)),
			crowdSends(rest), crowdAnswered()),
	},
	{
		Address: "slow/stale-timeout", Severity: Must, Models: concurrent,
		Chapter: levelTriggered, Contract: "B11", FailedBy: []string{"keeps deadlines by descriptor"},
		NoExercise: "The exercises have no timeout.",
		needs:      aTimeout, long: true,
		Must: "The deadline of an answered client does not end the next connection that has the same" +
			" descriptor.",
		Why:   "A descriptor is only a number, and accept hands out the lowest that is free.",
		Cause: staleTimer,
		script: append(given(
			own(fmt.Sprintf("%d clients connect, are answered and close; the server closes, too",
				successors), (*trial).predecessors),
			own("half of the server's time for a request passes", func(t *trial) error {
				defer func() { t.born = time.Now() }()
				return t.pause(t.timeout / 2)
			}),
			many(successors, half),
		), own("none of them may read end of file for three quarters of that time", notTimedOutEarly)),
	},
}

const staleTimer = "A timer is kept by descriptor, and keeps running when its connection is closed." +
	" Keep it in the connection, or cancel it when the connection is closed."

// successors is how many clients come after as many have left, so that each gets a
// descriptor of one of those.
const successors = 8

// predecessors are answered clients of which the server has closed every descriptor.
func (t *trial) predecessors() error {
	t.asked = time.Now()
	if err := t.gather(successors, whole); err != nil {
		return err
	}
	if err := crowdAnswered().do(t); err != nil {
		return err
	}
	left := t.crowd
	t.crowd = nil
	closed, err := t.until(func() (bool, error) {
		for _, c := range left {
			if open, err := t.stillOpen(c); open || err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err == nil && !closed {
		return unable{"the server keeps the descriptors of clients that have closed"}
	}
	return err
}

// stillOpen reports whether a process has a descriptor for the server's end of a
// connection.
func (t *trial) stillOpen(c *play.Conn) (bool, error) {
	theirs, err := sockets.Connection(t.server.Addr, c.LocalAddr())
	if err == sockets.ErrNone {
		return false, nil
	}
	return theirs.Inode != 0, err
}

// notEndedEarly watches the crowd beside an older connection of the same kind: a server
// that ends that one too has a time limit of its own.
func notEndedEarly(t *trial) error {
	witness := t.clients["witness"]
	for began := time.Now(); time.Since(began) < watchFor; {
		ended, err := t.someEnded()
		if err != nil {
			return err
		}
		open, err := t.stillOpen(witness)
		if err != nil {
			return err
		}
		if !open {
			return unable{"the server's time for a request is too short"}
		}
		if ended > 0 {
			return fails(fmt.Sprintf("after %v, %d of them; the one that is older is open",
				time.Since(began).Round(lookEvery), ended), "all of them are open")
		}
		if err := t.pause(lookEvery); err != nil {
			return err
		}
	}
	return nil
}

func notTimedOutEarly(t *trial) error {
	var looked time.Duration // the age at which they were all there
	for {
		ended, err := t.someEnded()
		age := time.Since(t.born) // of the oldest, or a little more
		switch {
		case err != nil:
			return err
		case age > t.timeout*3/4 && looked < t.timeout*5/8:
			return t.miss() // the deadlines of those that have left were over by then
		case age > t.timeout*3/4:
			return nil
		case ended > 0:
			return fails(fmt.Sprintf("%d of them after %v, of %v", ended, age.Round(time.Millisecond),
				t.timeout), "all of them are open")
		}
		looked = age
		if err := t.pause(lookEvery / 4); err != nil {
			return err
		}
	}
}

// someEnded returns how many of the crowd the server has ended.
func (t *trial) someEnded() (int, error) {
	n := 0
	for _, c := range t.crowd {
		open, err := t.stillOpen(c)
		if err != nil {
			return 0, err
		}
		if !open {
			n++
		}
	}
	return n, nil
}

// pause waits, unless the run ends.
func (t *trial) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}

// endsWithoutLoad returns the failure, if the connection ends when there is no load: otherwise
// the server has no time limit, which is what another case is about.
func (t *trial) endsWithoutLoad(f *failure) error {
	t.flood.stop()
	ended, err := t.until(t.gaveUp("a"))
	if err != nil {
		return err
	}
	if !ended {
		return unable{"the server has no time limit for requests, even without load"}
	}
	return f
}

// converses is a client of a flood that is served as any other.
func converses(f *flood, c *play.Conn) error {
	const apart = 5 * time.Millisecond // or it would take the processors from other cases
	defer time.Sleep(apart)
	if err := c.Send([]byte(whole)); err != nil {
		return err
	}
	_, err := c.ReadAll(DefaultPatience)
	if err == nil {
		f.served.Add(1)
	}
	return err
}

func timesOutUnderLoad(t *trial) error {
	const (
		grace  = time.Second // after the time limit: some servers look once a second
		enough = 20          // clients served after it: so the server has had its turns
	)
	began, inTime := time.Now(), int64(0)
	for {
		ended, err := t.endedByServer("a")
		took := time.Since(began)
		late := t.flood.served.Load() - inTime
		switch {
		case err != nil:
			return err
		case ended && t.server.Ended():
			return fails("the server's process has ended", "it keeps running")
		case ended:
			t.note("closed after %v, beside %d other clients", took.Round(time.Millisecond),
				t.flood.served.Load())
			return nil
		case took < t.timeout+grace:
			inTime += late
		case late >= enough:
			return t.endsWithoutLoad(fails(
				fmt.Sprintf("open after %v; %d others have been answered more than %v after its time was over",
					took.Round(lookEvery), late, grace), fmt.Sprintf("end of file after %v", t.timeout)))
		case took > t.timeout+grace+t.patience:
			f := fails(fmt.Sprintf("open after %v, and the others are not answered", took.Round(lookEvery)),
				fmt.Sprintf("end of file after %v", t.timeout))
			f.cause = oneAtATime
			return f
		}
		if err := t.pause(lookEvery / 4); err != nil {
			return err
		}
	}
}
