//go:build linux

package check

import (
	"fmt"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

// crowdSize is how many clients make a crowd.
const crowdSize = 100

var crowds = []Case{
	{
		Address: "crowds/hundred", Severity: Must, Models: goingOn,
		Chapter: acceptLoop, Contract: "B10", FailedBy: []string{"forgets the fiftieth"},
		alone: true,
		Must:  "A hundred clients that come at the same time are all answered.",
		Why:   "Clients do not wait for each other before they connect; the accept queue holds them.",
		Cause: "A short backlog (clients then try again after a second, or later), or connections that" +
			" are accepted and forgotten.",
		script: []step{atOnce(crowdSize)},
	},
	{
		Address: "crowds/burst", Severity: Must, Models: goingOn,
		when:    never,
		Chapter: edgeTriggered, Contract: "B10", FailedBy: []string{"07-one-accept-per-edge"},
		needs: toStart, alone: true,
		Must:  "Every client that is in the accept queue when the server accepts is served.",
		Why:   "However many clients connect, there is one edge, and no other until the next one connects.",
		Cause: oneAccept,
		script: []step{
			stop(),
			preparing(own("as many as the accept queue holds, at most 200, connect and send a whole request",
				func(t *trial) error { return t.fillQueue(whole) })),
			goOn(), crowdAnswered(),
		},
	},
	{
		Address: "crowds/burst-of-silent", Severity: Must, Models: concurrent,
		when:    never,
		Chapter: edgeTriggered, Contract: "B10", FailedBy: []string{"07-one-accept-per-edge"},
		needs: toStart, alone: true,
		Must:  "Every queued connection is accepted, even one that has sent nothing.",
		Why:   "A connection in the accept queue is not served.",
		Cause: oneAccept,
		script: []step{
			stop(), preparing(own("as many as the accept queue holds, at most 200, connect",
				func(t *trial) error { return t.fillQueue("") })),
			goOn(), own("the server must accept them all", (*trial).takesAll),
			crowdSends(whole), crowdAnswered(),
		},
	},
	{
		Address: "crowds/accept-queue", Severity: Should, Models: goingOn,
		Chapter: acceptLoop, Contract: "B10", FailedBy: []string{"19-short-queue"},
		needs: toStart, alone: true,
		Must:  fmt.Sprintf("The accept queue has room for %d.", crowdSize),
		Why:   "A SYN that finds it full is ignored, and the client tries again after a second, or later.",
		Cause: shortQueue,
		script: []step{
			stop(), own(fmt.Sprintf("%d clients connect at the same time; each must find room",
				crowdSize), queueHolds),
		},
	},
	{
		Address: "crowds/beyond-1024", Severity: Must, Models: eventLoop,
		ends:    true,
		when:    inQueue,
		Chapter: levelTriggered, Contract: "B10", FailedBy: []string{"20-select-1024"},
		needs: toStart, alone: true,
		Must: "With 1,100 idle connections, the server continues to serve.",
		Why: "select(2) cannot watch descriptors from 1,024 on; a program that adds one writes" +
			" beyond the array.",
		Cause: "select(2), or a limit on connections that the server reaches silently.",
		script: []step{
			preparing(own("the server may open as many descriptors as the system allows it",
				(*trial).roomForMany)),
			own("1100 clients connect, and the server must accept them", func(t *trial) error {
				const beyond = 1100
				return t.gather(beyond, "")
			}),
			others(), own("the last of them sends a whole request, and must be answered", lastAsks),
		},
	},
	{
		Address: "crowds/mixed", Severity: Must, Models: goingOn,
		ends:    true,
		Chapter: levelTriggered, Contract: "B10", FailedBy: []string{"ends on a reset"},
		needs: toStart, alone: true,
		Must: "Among clients that reset, leave and half-close, those that ask are answered.",
		Why:  "All kinds come in one batch of events; handling one must not lose another.",
		Cause: "An error of one connection ends the handling of the batch, or an event for a" +
			" descriptor that was closed in the batch is applied to its successor.",
		script: []step{
			stop(),
			preparing(own("25 clients ask; between them 25 each leave, reset, half-close mid-request",
				mixedCrowd)),
			goOn(), crowdAnswered(), next(),
		},
	},
	{
		Address: "crowds/patient", Severity: Must, Models: concurrent,
		Chapter: levelTriggered, Contract: "B10",
		FailedBy: []string{"25-taken-from-net", "a small pool", "closes the idle"},
		alone:    true,
		Must:     "Two hundred idle connections are all answered when they finally send a request.",
		Why:      "Idle clients are the common case; none may be forgotten.",
		Cause: "A limit on connections, a very short timeout, or an interest list that has lost" +
			" some of them.",
		script: []step{
			many(200, ""), others(), crowdSends(whole), crowdAnswered(),
		},
	},
}

// fillQueue lets so many clients connect as there is room for in the accept
// queue, so that none is turned away. The kernel lets one more in than the
// backlog says.
func (t *trial) fillQueue(text string) error {
	const most = 200
	l, err := t.listener()
	if err != nil {
		return err
	}
	n := min(most, int(l.Unsent)+1)
	t.note("%d clients; the backlog is %d", n, l.Unsent)
	return t.queue(n, text)
}

// queueHolds connects more clients than some accept queues hold, while the server
// does not accept. Those that find it full would block in connect: the kernel's
// own count shows them, at once.
func queueHolds(t *trial) error {
	type dialed struct {
		c   *play.Conn
		err error
	}
	results := make(chan dialed, crowdSize)
	for range crowdSize {
		go func() {
			c, err := play.Dial(t.server.Addr)
			results <- dialed{c, err}
		}()
	}
	// However this ends, all dials end: with the server, if not before.
	defer func() {
		go func() {
			for range crowdSize {
				if d := <-results; d.err == nil {
					_ = d.c.Close()
				}
			}
		}()
	}()

	var l sockets.Socket
	settled, err := t.until(func() (bool, error) {
		var err error
		l, err = t.listener()
		return l.Unread >= crowdSize || l.Unread > l.Unsent, err
	})
	if err != nil {
		return err
	}
	t.note("the backlog is %d", l.Unsent)
	if settled && l.Unread >= crowdSize {
		return nil
	}
	return fails(
		fmt.Sprintf("%d in the accept queue, which is full (backlog %d); the others are ignored",
			l.Unread, l.Unsent),
		fmt.Sprintf("%d in the accept queue", crowdSize),
	)
}

func (t *trial) roomForMany() error {
	const enough = 1300
	for _, pid := range t.server.Pids() {
		var limit unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limit); err != nil {
			return limitError(err)
		}
		if limit.Max < enough {
			return unable{fmt.Sprintf("the system allows it %d descriptors only", limit.Max)}
		}
	}
	return t.unlimitDescriptors()
}

func lastAsks(t *trial) error {
	c := t.crowd[len(t.crowd)-1]
	if err := c.Send([]byte(whole)); err != nil {
		return sending(err)
	}
	got, end := t.readAll(c)
	return t.judgeAnswer(c, got, end)
}

// mixedCrowd leaves those that are to be answered in t.crowd.
func mixedCrowd(t *trial) error {
	l, err := t.listener()
	if err != nil {
		return err
	}
	rounds := min(25, int(l.Unsent+1)/4)
	for i := range rounds {
		if err := t.queue(1, whole); err != nil {
			return err
		}
		for j, leave := range []func(*play.Conn) error{
			(*play.Conn).Close, (*play.Conn).Reset, (*play.Conn).HalfClose,
		} {
			c, err := t.dial()
			if err != nil {
				return err
			}
			t.clients[fmt.Sprintf("leaver %d of round %d", j, i)] = c // to be closed in the end
			if err := c.Send([]byte(half)); err != nil {
				return sending(err)
			}
			if err := leave(c); err != nil {
				return err
			}
		}
	}
	if rounds == 0 { // the backlog is too short for a crowd
		return unable{fmt.Sprintf("the accept queue holds %d only", l.Unsent+1)}
	}
	t.note("%d of each kind", rounds)
	return nil
}
