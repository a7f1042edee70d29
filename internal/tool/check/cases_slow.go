//go:build linux

package check

import (
	"errors"
	"fmt"
	"time"

	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

const noDeadline = "There is no deadline, or it is not checked while no events come."

var slow = []Case{
	{
		Address: "slow/half-request", Severity: Must, Models: several,
		Chapter: acceptLoop, Contract: "B10", FailedBy: []string{"15-blocking-call"},
		Must: "A client that holds half a request delays no other client.",
		Why:  "Threads and event loops exist to prevent this.",
		Cause: "A read that blocks: one client at a time, or a descriptor in the event loop that is" +
			" not non-blocking (accept4 with SOCK_NONBLOCK).",
		script: []step{
			connect("a"), send("a", half), taken("a"), others(), others(),
			send("a", rest), answered("a"),
		},
	},
	{
		Address: "slow/many-half-requests", Severity: Must, Models: several,
		Chapter: goroutineEach, Contract: "B10", FailedBy: []string{"a small pool"},
		Must:  "Fifty clients that hold half a request delay no other client.",
		Why:   "A pool of threads is used up by as many slow clients as it has threads.",
		Cause: "A fixed, small number of threads or processes.",
		script: []step{
			many(50, half), allTaken(), others(), crowdSends(rest), crowdAnswered(),
		},
	},
	{
		Address: "slow/silent-client", Severity: Must, Models: several,
		when:    waitsForOne,
		Chapter: acceptLoop, Contract: "B10", FailedBy: []string{"reads where it accepts"},
		NoExercise: "It is the bug of exercise 15, at another call: a first read that blocks.",
		Must:       "A client that connects and sends nothing delays no other client.",
		Why:        "Browsers open connections before they need them.",
		Cause:      "A blocking read right after accept, on the thread that accepts.",
		script:     []step{connect("a"), accepted("a"), others(), send("a", whole), answered("a")},
	},
	{
		Address: "slow/dripping", Severity: Must, Models: several,
		Chapter: levelTriggered, Contract: "B10", FailedBy: []string{"15-blocking-call"},
		Must:  "Other clients are served between the bytes of a slow one, which is answered in the end.",
		Why:   "A slow line is not an attack.",
		Cause: "The server waits for the rest of a request that it has begun to read.",
		script: []step{
			connect("a"), own("a sends its request a byte at a time; after each the server must"+
				" read it, and another client must be answered", drips),
			answered("a"),
		},
	},
	{
		Address: "slow/full-send-buffer", Severity: Must, Models: everyone,
		Chapter: levelTriggered, Contract: "B7", FailedBy: []string{"04-short-write"},
		needs: toStart,
		Must:  "An answer that finds no room in the send buffer is sent when there is room.",
		Why:   "A client that reads slowly leaves the send buffer full; write then returns EAGAIN, or blocks.",
		Cause: lostInFull,
		script: []step{
			connectSmall("a"), send("a", half), taken("a"), fill("a"), send("a", rest), taken("a"),
			beginsInTime(answered("a")), next(),
		},
	},
	{
		Address: "slow/short-write", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B7", FailedBy: []string{"04-short-write"},
		needs: toStart,
		Must:  "An answer that fits into the send buffer only in part is sent whole.",
		Why:   "write takes what fits, and returns how much that was.",
		Cause: "The server ignores what write returns: the rest of the answer is lost.",
		script: []step{
			tryOut(), connectSmall("a"), send("a", half), taken("a"), fillBut("a"), send("a", rest),
			taken("a"), beginsInTime(answered("a")), next(),
		},
	},
	{
		Address: "slow/full-send-buffer-others", Severity: Must, Models: several,
		Chapter: levelTriggered, Contract: "B10", FailedBy: []string{"15-blocking-call", "25-taken-from-net"},
		needs: toStart,
		Must:  "A client that does not read delays no other client.",
		Why:   "Its send buffer is full, and a write that blocks would stop the event loop.",
		Cause: "The descriptor is not non-blocking, or the server tries again and again until it has" +
			" sent everything.",
		script: []step{
			connectSmall("a"), send("a", half), taken("a"), fill("a"), send("a", rest), taken("a"),
			others(), others(), beginsInTime(answered("a")),
		},
	},
	{
		Address: "slow/room-and-bytes", Severity: Must, Models: several,
		when:    keptOpen,
		Chapter: edgeTriggered, Contract: "B7", FailedBy: []string{"reads or writes"},
		needs: toStart,
		Must:  "An answer is sent when there is room, even if bytes come at the same time.",
		Why: "One event can report EPOLLIN and EPOLLOUT. An edge is reported once: what is not done then" +
			" is never done.",
		Cause: "\"if EPOLLIN … else if EPOLLOUT …\": of two events in one, only the first is handled. Test" +
			" each bit by itself.",
		script: append(given(
			connectSmall("a"), send("a", half), taken("a"), fill("a"), send("a", rest), taken("a"),
			beginsInTime(keepsConnection("a")), stop(),
			own("a reads what is in the send buffer, so that there is room, and sends an"+
				" empty line",
				readsFillingAndSends),
		), beginsInTime(goOn()), behindBytes(reads("a")), next()),
	},
	{
		Address: "slow/timeout", Severity: Should, Models: everyone,
		when:    inVain,
		Chapter: levelTriggered, Contract: "B6", FailedBy: []string{"no timeout"},
		NoExercise: "The exercises have no timeout.",
		needs:      aTimeout, long: true,
		Must:  "A request that is not complete in time is given up, and the connection closed.",
		Why:   "Each such request costs a descriptor, and many clients never finish.",
		Cause: noDeadline,
		script: []step{
			connect("a"), send("a", half), own("a must read end of file when the server's time is over, "+
				"and not before", timesOut), next(),
		},
	},
	{
		Address: "slow/timeout-dripping", Severity: Should, Models: everyone,
		Chapter: levelTriggered, Contract: "B6",
		FailedBy:   []string{"no timeout", "dripping extends the timeout"},
		NoExercise: "The exercises have no timeout.",
		needs:      aTimeout, long: true,
		Must:  "A byte now and then does not extend the time limit.",
		Why:   "That is the attack called slowloris: a byte before each deadline holds a connection forever.",
		Cause: "The deadline is counted from the last byte, and not from the first.",
		script: []step{
			connect("a"), send("a", half), own("a sends a byte ten times in each time limit, and must"+
				" still read end of file before two of them are over", timesOutDripping), next(),
		},
	},
}

// behindBytes explains a reset after bytes that the server has not read.
func behindBytes(s step) step {
	do := s.do
	s.do = func(t *trial) error {
		err := do(t)
		var f *failure
		if errors.As(err, &f) && f.heard == heardReset {
			f.otherwise = closesFull
		}
		return err
	}
	return s
}

func drips(t *trial) error {
	for i := range len(short) {
		if err := t.sends("a", short[i:i+1]); err != nil {
			return err
		}
		if i == len(short)-1 {
			return nil
		}
		if err := taken("a").do(t); err != nil {
			return err
		}
		if err := t.serveOneMore(); err != nil {
			return err
		}
	}
	return nil
}

// early is how much before its time a server may close: its clock and ours
// began a moment apart.
const early = 50 * time.Millisecond

func timesOut(t *trial) error {
	_, end := t.clients["a"].ReadAll(t.timeout + t.patience)
	took := time.Since(t.born) // the server's time cannot have begun before
	if errors.Is(end, play.ErrTimeout) {
		return fails(
			fmt.Sprintf("open after %v", took.Round(time.Millisecond)),
			fmt.Sprintf("end of file after %v", t.timeout),
		)
	}
	if took < t.timeout-early {
		return &failure{
			got:   fmt.Sprintf("closed after %v", took.Round(time.Millisecond)),
			want:  fmt.Sprintf("end of file after %v", t.timeout),
			heard: heardEnd,
		}
	}
	t.note("closed after %v", took.Round(time.Millisecond))
	return nil
}

func timesOutDripping(t *trial) error {
	c := t.clients["a"]
	var longest time.Duration // between two bytes
	var turn turn
	began, last := time.Now(), time.Now()
	for over := false; !over; {
		over = time.Since(began) > 2*t.timeout && turn.over(t.server) // then it is looked at once more
		longest, last = max(longest, time.Since(last)), time.Now()
		err := c.Send([]byte("x"))
		if err == nil {
			_, err = c.Read(1, t.timeout/10)
		}
		switch {
		case errors.Is(err, play.ErrTimeout):
		case max(longest, time.Since(last)) > t.timeout*3/4:
			return t.miss() // the server may have closed because no byte came
		default:
			return nil // closed: it lets nothing more come
		}
	}
	f := fails(
		fmt.Sprintf("open after %v", 2*t.timeout),
		fmt.Sprintf("end of file after %v, counted from the beginning", t.timeout),
	)
	if _, err := c.Read(1, 2*t.timeout); errors.Is(err, play.ErrTimeout) {
		f.got += fmt.Sprintf("; a then sends nothing more, and it is open %v later", 2*t.timeout)
		f.cause = noDeadline
	}
	return f
}

// keepsConnection demands that the server has not given up the answer that does not fit.
func keepsConnection(name string) step {
	return own("the server keeps the connection", func(t *trial) error {
		theirs, err := t.theirs(t.clients[name])
		if errors.Is(err, sockets.ErrNone) || err == nil && theirs.State != sockets.Established {
			return answeredEarly
		}
		return err
	})
}

// readsFillingAndSends empties the send buffer of a's connection while the server is
// stopped: to the server, room and bytes come at the same time.
func readsFillingAndSends(t *trial) error {
	const name = "a"
	c := t.clients[name]
	if got, err := c.Read(t.filled[name], t.patience); err != nil {
		return unable{fmt.Sprintf("the client has read %d bytes of %d: %v", len(got), t.filled[name], err)}
	}
	t.filled[name] = 0
	if err := c.Send([]byte(emptyLine)); err != nil {
		return sending(err)
	}
	arrived, err := until(t.ctx, t.patience, func() (bool, error) {
		theirs, err := t.theirs(c)
		if errors.Is(err, sockets.ErrNone) {
			return false, answeredEarly
		}
		return err == nil && theirs.Unread > 0 && theirs.Unsent == 0, err
	})
	if err == nil && !arrived {
		return unable{"the bytes do not arrive at the server"}
	}
	return err
}
