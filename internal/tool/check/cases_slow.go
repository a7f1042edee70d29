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
		Chapter: levelTriggered, Contract: "B10", FailedBy: []string{"15-blocking-call", "keeps requests in one place"},
		Must:  "Other clients are served between the bytes of a slow one, which is answered in the end.",
		Why:   "A slow line is not an attack.",
		Cause: "The server waits for the rest of a request that it has begun to read.",
		script: []step{
			connect("a"), own("a sends its request a byte at a time; after each the server must"+
				" read it, and another client must be answered", drips),
			drippedAnswered("a"),
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
		Chapter: levelTriggered, Contract: "B10", FailedBy: []string{
			"15-blocking-call", "25-taken-from-net", "blocks in a write, in one of its loops",
		},
		needs: toStart,
		Must:  "A client that does not read delays no other client.",
		Why:   "Its send buffer is full, and a write that blocks would stop the event loop.",
		Cause: "The descriptor is not non-blocking, or the server tries again and again until it has" +
			" sent everything.",
		script: []step{
			connectSmall("a"), send("a", half), taken("a"), fill("a"), send("a", rest), taken("a"),
			others(), others(), own(fmt.Sprintf("where several loops or threads"+
				" share the work: %d more, one after the other", aFew), othersOfAllLoops),
			beginsInTime(answered("a")),
		},
	},
	{
		Address: "slow/unread-answer-others", Severity: Must, Models: several,
		Chapter: levelTriggered, Contract: "B10", FailedBy: []string{"lets close block"},
		NoExercise: "The exercises do not set SO_LINGER.",
		needs:      toStart,
		Must:       "A client that does not read an answer which fits into the send buffer delays no other client.",
		Why:        "The answer is in the send buffer: neither send nor close has a reason to block.",
		Cause: "With SO_LINGER, close blocks until the client has taken the answer, or the time is over, even" +
			" on a non-blocking socket. Do not set it: wait for end of file after shutdown.",
		when: blockedInClose,
		script: append(given(
			tryOut(), connectSmall("a"), send("a", half), taken("a"), fillButAnswer("a"), send("a", rest),
			taken("a"),
		),
			own(fmt.Sprintf("for %v, or until the server has closed a's connection, other clients must be"+
				" answered, one after the other", unreadFor), othersUntilClosed),
			others()),
	},
	{
		Address: "slow/half-close-while-full", Severity: Must, Models: everyone,
		when:    endedWithout,
		Chapter: levelTriggered, Contract: "B4", FailedBy: []string{"drops the answer at end of file"},
		NoExercise: "It is the bug of a server for which a client that half-closes is gone.",
		needs:      toStart,
		Must:       "An answer that waits for room is sent even if the client half-closes meanwhile.",
		Why: "The client has sent all it has to send, and still reads. A slow client often half-closes" +
			" long before it has read the answer.",
		Cause: "While the answer waits for room, end of file is treated as \"the client is gone\", and the" +
			" connection closed. Send the answer first; if the client is gone, that fails.",
		script: append(given(
			connectSmall("a"), send("a", half), taken("a"), fill("a"), send("a", rest), taken("a"),
			beginsInTime(keepsConnection("a")), halfClose("a"),
		), preparing(own("the server is given time to see that", (*trial).comesToRest)),
			beginsInTime(answered("a")), next()),
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
		Chapter: levelTriggered, Contract: "B6", FailedBy: []string{
			"no timeout", "shuts down what is overdue",
		},
		NoExercise: "The exercises have no timeout.",
		needs:      aTimeout, long: true,
		Must:  "A request that is not complete in time is given up, and the connection closed.",
		Why:   "Each such request costs a descriptor, and many clients never finish.",
		Cause: noDeadline,
		script: []step{
			connect("a"), send("a", half), own("a must read end of file when the server's time is over, "+
				"and not before", timesOut),
			own("and the server must close its descriptor", timedOutCloses), next(),
		},
	},
	{
		Address: "slow/timeout-silent", Severity: Should, Models: several,
		when:    inVain,
		Chapter: levelTriggered, Contract: "B6", FailedBy: []string{
			"no timeout", "counts from the first byte", "sets its timer once",
		},
		NoExercise: "The exercises have no timeout.",
		needs:      aTimeout, long: true,
		Must:  "The time limit also holds for a client that sends nothing, and for one that comes later.",
		Why:   "A connection that sends nothing costs a descriptor as well.",
		Cause: "The time is counted from the first byte, which never comes: count it from accept.",
		script: []step{
			connect("a"), connect("b"), own("after "+later350.String()+" c connects, and sends half a request",
				connectsLater),
			own("a and b have sent nothing; c, a and b must read end of file when the server's time is over",
				timesOutSilent),
			next(),
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

// unreadFor is more than most servers linger.
const unreadFor = 2 * time.Second

// othersUntilClosed serves others until the server has closed a's connection, or has kept it
// for long.
func othersUntilClosed(t *trial) error {
	for began := time.Now(); time.Since(began) < unreadFor; {
		if open, err := t.stillOpen(t.clients["a"]); !open || err != nil {
			return err
		}
		if err := t.serveOneMore(); err != nil {
			return err
		}
		if err := t.pause(lookEvery); err != nil {
			return err
		}
	}
	return nil
}

// blockedInClose is a server of which a thread is blocked in close.
func blockedInClose(f *failure) bool { return f.seen != nil && f.seen.closing }

// othersOfAllLoops serves so many clients that each of several loops has one.
func othersOfAllLoops(t *trial) error {
	if t.model != EventLoops {
		return nil
	}
	err := t.serveMany(aFew)
	var f *failure
	if errors.As(err, &f) && len(t.crowd) == 0 && f.leftWaiting() {
		f.otherwise = writeBlocks
	}
	return err
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

// drippedAnswered demands the answer of a client that has dripped. If one that drips while no
// other is served gets it, others have cost it its bytes.
func drippedAnswered(name string) step {
	const alone = "alone"
	demand := answered(name)
	return step{text: demand.text, do: func(t *trial) error {
		err := demand.do(t)
		var f *failure
		if !errors.As(err, &f) || !readInVain(f) {
			return err
		}
		for _, s := range []step{connect(alone), sendEach(alone, short), answered(alone)} {
			if s.do(t) != nil {
				f.cause = onlyLastRead
				return f
			}
		}
		f.cause = oneBuffer
		return f
	}}
}

const oneBuffer = "What several clients send is kept in one place, such as a static buffer, where one overwrites" +
	" the bytes of another. Keep a buffer for each connection."

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

// timedOutCloses demands that a connection whose end the client has read does not keep its
// descriptor.
func timedOutCloses(t *trial) error {
	if !t.server.visible() || t.model == Blocking {
		return nil
	}
	err := t.givesUp("a", func() {})
	var f *failure
	if errors.As(err, &f) {
		f.cause = "The connection is shut down when its time is over, and not closed. The client may never" +
			" close its side: wait for it for a bounded time."
	}
	return err
}

const later350 = 350 * time.Millisecond

// connectsLater is a client whose time begins later than that of others.
func connectsLater(t *trial) error {
	if err := t.pause(later350); err != nil {
		return err
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	t.joins("c", c)
	return t.sends("c", half)
}

// timesOutSilent demands the end of all three. That c's does not come shows nothing about
// bytes.
func timesOutSilent(t *trial) error {
	within := t.timeout + t.patience
	for _, name := range []string{"c", "a", "b"} {
		_, end := t.clients[name].ReadAll(max(within-time.Since(t.born), lastRead))
		if !errors.Is(end, play.ErrTimeout) {
			continue
		}
		f := fails(fmt.Sprintf("%s is open after %v", name, time.Since(t.born).Round(time.Millisecond)),
			fmt.Sprintf("end of file after %v", t.timeout))
		if name == "c" {
			f.cause = noDeadline
			if ended, err := t.endedByServer("a"); err == nil && ended {
				f.cause = "A timer is set for the first connection, and when it is over not for the next one."
			}
		}
		return f
	}
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
