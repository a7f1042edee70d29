//go:build linux

package check

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

// holders is how many clients use up the descriptors. Two more then wait in vain:
// as many as the shortest accept queue has room for.
const holders = 8

var limits = []Case{
	{
		Address: "limits/oversize", Severity: Should, Models: everyone,
		when:    readInVain,
		Chapter: oneClient, Contract: "B6", FailedBy: []string{"no bound", "does not read after a refusal"},
		Must: "A request that never ends is refused when it is too long.",
		Why:  "If the server does not decide how much memory a request may use, the client does.",
		Cause: "No limit on the size of a request. Answer 431 Request Header Fields Too Large, and" +
			" then linger before close.",
		script: []step{
			connect("a"), own(fmt.Sprintf("a sends a header line that never ends, in growing pieces; the"+
				" server must read each or refuse the request, at the latest after %d MiB",
				longestRequest>>20), sendsUntilRefused),
			refused("a"), maySend("a", "more"), endsInTime(calm()), next(),
		},
	},
	{
		Address: "limits/endless", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B6", FailedBy: []string{"no bound"},
		needs: toLook, alone: true,
		Must:  "A request that never ends does not fill the memory.",
		Why:   "One client must not be able to end the server, or the machine.",
		Cause: "The server keeps everything that comes until it finds the terminator.",
		script: []step{
			preparing(own("one client is served, if there can be more: all of the server has started",
				serveOneIfMore)),
			preparing(own("the server's memory is measured", (*trial).look)), connect("a"),
			preparing(own(fmt.Sprintf("a sends a header line of %d MiB, as far as the server lets it",
				endless>>20), sendsEndlessly)),
			own(fmt.Sprintf("the memory must not have grown by more than %d MiB", mostGrowth>>20),
				grownLittle),
		},
	},
	{
		Address: "limits/descriptors-survives", Severity: Must, Models: concurrent,
		ends:    true,
		Chapter: levelTriggered, Contract: "B8", FailedBy: []string{"ends without descriptors"},
		needs: toStart,
		Must:  "A server that runs out of descriptors continues to serve the clients that it has.",
		Why:   "EMFILE from accept means \"not now\", not \"never\".",
		Cause: "An error of accept ends the loop or the process.",
		script: starving(
			crowdSends(rest), crowdAnswered(),
		),
	},
	{
		Address: "limits/descriptors-calm", Severity: Should, Models: goingOn,
		Chapter: levelTriggered, Contract: "B8", FailedBy: []string{"spins without descriptors"},
		needs: toStart,
		Must:  "A server that runs out of descriptors sleeps until one is free.",
		Why: "The listener stays readable for as long as a client waits: accept fails, and" +
			" the next epoll_wait returns at once.",
		Cause: "accept is tried again at once after EMFILE, or the listener is still watched. Stop that" +
			" until a descriptor is free.",
		script: starving(calm()),
	},
	{
		Address: "limits/descriptors-recovers", Severity: Must, Models: goingOn,
		when:    inQueue,
		Chapter: edgeTriggered, Contract: "B8", FailedBy: []string{"gives up without descriptors", "tries accept forever"},
		needs: toStart,
		Must: "When descriptors are free again, the waiting clients are served, even if no other" +
			" client connects.",
		Why: "A server that has stopped accepting is not reminded of them, and edge-triggered epoll" +
			" reports the listener again only when another client connects.",
		Cause: "After EMFILE the server does not try again. Remember that there is more in the accept" +
			" queue, and try again when a connection is closed, and after a while.",
		script: starving(
			// In this order: an answer may need descriptors of its own, such as that of a file.
			preparing(own("the limit is raised again, and the clients that hold the descriptors reset",
				func(t *trial) error {
					if err := t.unlimitDescriptors(); err != nil {
						return err
					}
					for _, c := range t.crowd {
						if err := c.Reset(); err != nil {
							return err
						}
					}
					return nil
				})),
			waitersAnswered(), calmAgain(),
		),
	},
	{
		Address: "limits/descriptors-raised", Severity: Should, Models: goingOn,
		when:    inQueue,
		Chapter: edgeTriggered, Contract: "B8", FailedBy: []string{"gives up without descriptors"},
		needs: toStart,
		Must:  "When other programs free descriptors, the waiting clients are served.",
		Why: "ENFILE, ENOBUFS and ENOMEM are shortages of the machine: they can pass without any of" +
			" the server's own connections being closed.",
		Cause: "After the failure, the server tries accept again only when a connection is closed. Try" +
			" again after a while as well.",
		script: starving(
			preparing(own("the limit is raised again, and no client closes", (*trial).unlimitDescriptors)),
			waitersAnswered(),
		),
	},
	{
		Address: "limits/stale-event", Severity: Must, Models: concurrent,
		when:    withoutAnswer,
		Chapter: levelTriggered, Contract: "B11", FailedBy: []string{"13-stale-event"},
		needs: toStart,
		Must:  "A new connection does not get an event of the connection that had its descriptor before.",
		Why: "A batch may contain an event for a descriptor that was closed after epoll_wait returned," +
			" and accept reuses the lowest free number.",
		Cause: "Connections are closed and accepted in the middle of a batch. Accept when the batch is" +
			" done, or remember what each number meant when the batch came.",
		script: []step{
			leaveRoom(), fillRoom(), preparing(own("one process accepts, and has no descriptor left", exactlyFull)),
			stop(), connect("new"), send("new", whole),
			preparing(own("the oldest connection resets",
				func(t *trial) error { return t.crowd[0].Reset() })),
			goOn(), newAnswered(),
		},
	},
}

// starving is a server without descriptors and clients that wait for it. A
// server that serves one at a time is left none at all.
func starving(then ...step) []step {
	return append([]step{
		leaveRoom(), fillRoom(),
		connect("w1", "w2"), send("w1", whole), send("w2", whole),
		preparing(own("for these the server has no descriptor: the accept queue is not empty",
			(*trial).exhausted)),
	}, then...)
}

func (t *trial) room() int {
	switch t.model {
	case Loop, Blocking:
		return 0
	case Pool: // it may not have threads for more
		return 1
	}
	return holders
}

func leaveRoom() step {
	text := fmt.Sprintf("the server may open %d descriptors more"+
		" (none, if it serves one client at a time, and one is served if it is blocked in accept)",
		holders)
	return preparing(own(text, func(t *trial) error {
		if t.server.backEnd != nil {
			return unable{"a proxy needs more than one descriptor for each client"}
		}
		if err := t.countDescriptors(); err != nil { // it may still be setting up
			return err
		}
		if t.model == Pool {
			t.note("room for %d, since it is a pool", t.room())
		}
		if err := t.limitDescriptors(t.room()); err != nil || t.room() > 0 {
			return err
		}
		// accept takes its descriptor before it waits: a server that is blocked in it has
		// one already, and fails only the next time.
		if err := t.comesToRest(); err != nil {
			return err
		}
		call, err := proc.BlockedIn(t.server.Pid())
		if err != nil || strings.HasPrefix(call.Name(), "accept") {
			return t.serveOneMore()
		}
		return nil
	}))
}

func fillRoom() step {
	text := "as many clients connect and send half a request; the server must read it"
	return preparing(own(text, (*trial).fillRoom))
}

// fillRoom lets clients use up the descriptors. Where several processes accept, the kernel
// chooses which of them gets a connection: then clients connect until those that accept have
// none left, and no process accepts the last ones.
func (t *trial) fillRoom() error {
	if err := t.gather(min(t.room(), 1), half); err != nil {
		return err
	}
	most := t.room()
	if len(t.limits) > 1 {
		most *= len(t.limits) * mostUneven
	}
	for i := len(t.crowd); i < most; i++ {
		c, err := t.dial()
		if err != nil {
			return err
		}
		if err := c.Send([]byte(half)); err != nil {
			return sending(err)
		}
		if t.isAccepted(c) {
			t.crowd = append(t.crowd, c)
			continue
		}
		t.clients[fmt.Sprintf("beyond %d", i)] = c
		full, err := t.usedUp() // also where a connection takes more than one
		if full || err != nil {
			return errors.Join(err, t.takesAll())
		}
		if len(t.limits) == 1 {
			if err := t.waitAccepted(c); err != nil {
				return err
			}
		}
	}
	return t.takesAll()
}

// mostUneven is how many times its share of the connections a process may get.
const mostUneven = 4

// isAccepted waits until the server has accepted a connection, or sleeps and has not.
func (t *trial) isAccepted(c *play.Conn) bool {
	accepted := func() bool {
		theirs, err := t.theirs(c)
		return err == nil && theirs.Inode != 0
	}
	_ = t.comesToRest() // if it does not, it spins, and has had time to accept
	return accepted()
}

// exactlyFull makes sure that the descriptor which is freed next is the only one.
func exactlyFull(t *trial) error {
	if len(t.limits) == 1 && len(t.crowd) < t.room() {
		return unable{"a connection takes more than one descriptor"}
	}
	if full, err := t.usedUp(); err != nil || full && len(t.limits) == 1 {
		return err
	}
	return unable{"which of the server's processes gets a connection cannot be foreseen"}
}

// turnedAway is what is noted of a server that closes what it cannot hold.
const turnedAway = "the server closes a connection for which it has no descriptor"

// waitersAnswered demands an answer for the clients for which there was no descriptor.
func waitersAnswered() step {
	demand := answered("w1", "w2")
	text := demand.text + "; a server that has closed them must answer the next client"
	return step{text: text, do: func(t *trial) error {
		if t.turnsAway {
			return t.serveOneMore()
		}
		return demand.do(t)
	}}
}

// calmAgain demands that a shortage which is over has no consequences.
func calmAgain() step {
	demand := calm()
	return step{text: demand.text, do: func(t *trial) error {
		err := demand.do(t)
		var f *failure
		if errors.As(err, &f) && f.seen != nil && f.seen.spin.kind == spinsOnTimeout {
			f.cause = retriesForever
		}
		return err
	}}
}

const retriesForever = "The time at which accept is tried again stays when it has succeeded: the timeout of the" +
	" call that waits is 0 from then on."

// newAnswered demands that the new connection is answered, or closed because there is no
// descriptor for it: then the same happens to others.
func newAnswered() step {
	demand := answered("new")
	text := demand.text + ", unless the server closes whatever it has no descriptor for"
	return step{text: text, do: func(t *trial) error {
		err := demand.do(t)
		if err == nil || !t.areClosed("new") {
			return err
		}
		for i := range holders {
			name := fmt.Sprintf("beyond %d", i)
			for _, s := range []step{connect(name), send(name, half)} {
				if err := s.do(t); err != nil {
					return err
				}
			}
			switch {
			case t.isAccepted(t.clients[name]):
			case t.areClosed(name):
				t.note(turnedAway)
				return nil
			default:
				return err // it waits in the accept queue
			}
		}
		return err
	}}
}

const (
	endless    = 64 << 20
	mostGrowth = 8 << 20
	// leastSlow is more than most servers take by default: Go takes a header section of 1 MiB.
	leastSlow = 5 << 18
)

// look remembers what the server has used so far.
func (t *trial) look() error {
	var err error
	t.before, err = t.server.Used()
	if err != nil {
		return t.lost(err)
	}
	return nil
}

// endlessRequest begins a request whose end does not come.
const endlessRequest = "GET / HTTP/1.0\r\nX: "

// longestRequest is more than any server of today takes by default: Go takes a header
// section of 1 MiB.
const longestRequest = 2 << 20

// sendsUntilRefused sends a request piece by piece, each when the last has been read,
// until something comes back, and notes how long the request was then.
func sendsUntilRefused(t *trial) error {
	const least, share = 1 << 10, 8
	// Most servers have their bound between these two: it is found exactly, others roughly.
	const exactFrom, exactTo = 4 << 10, 16 << 10
	const longEnough = 10 * time.Second
	c := t.clients["a"]
	piece, began := []byte(endlessRequest), time.Now()
	for sent := 0; sent < longestRequest; sent += len(piece) {
		switch {
		case sent > exactTo || sent > 0 && sent < exactFrom:
			piece = bytes.Repeat([]byte("x"), max(least, sent))
		case sent > 0:
			piece = bytes.Repeat([]byte("x"), max(least, sent/share))
		}
		if time.Since(began) > longEnough && sent < leastSlow {
			return soSlowly(sent)
		}
		over := c.Send(piece) != nil // closed: what came before that is read in the next step
		if !over {
			if err := taken("a").do(t); err != nil {
				read, continues, _ := t.readsOn(sent + len(piece))
				switch {
				case !continues:
					return err
				case read < leastSlow:
					return soSlowly(read)
				}
				return unrefused(read)
			}
			var err error
			if over, err = t.hasAnswered(c); err != nil {
				return err
			}
		}
		if over {
			t.asked = time.Now() // what comes now is like what comes after a request
			t.note("the bound is between %d and %d bytes", sent, sent+len(piece))
			return nil
		}
	}
	return unrefused(longestRequest)
}

// unrefused is the failure of a server that has read so much of a request without an end.
func unrefused(read int) *failure {
	return fails(fmt.Sprintf("%d KiB were read, and nothing came back", read>>10),
		"a refusal, such as 431, or just the end of the connection")
}

// hasAnswered reports whether anything has come back to a client: a byte, end of file, or
// a reset.
func (t *trial) hasAnswered(c *play.Conn) (bool, error) {
	ours, err := sockets.Connection(c.LocalAddr(), t.server.Addr)
	if errors.Is(err, sockets.ErrNone) {
		return true, nil
	}
	return ours.State != sockets.Established || ours.Unread > 0, err
}

// sendsEndlessly sends for at most DefaultPatience, however short the client's own patience
// is: on a busy machine, a server has not read enough in a second to show that it keeps it.
func sendsEndlessly(t *trial) error {
	block := bytes.Repeat([]byte("x"), 64<<10)
	sent := 0
	if err := t.clients["a"].Send([]byte(endlessRequest)); err != nil {
		return sending(err)
	}
	for deadline := time.Now().Add(DefaultPatience); sent < endless; sent += len(block) {
		err := t.clients["a"].SendWithin(block, time.Until(deadline))
		if errors.Is(err, play.ErrTimeout) {
			read, continues, err := t.readsOn(sent)
			if err != nil {
				return err
			}
			if continues {
				t.slow = read
			}
			break
		}
		if errors.Is(err, play.ErrReset) {
			break // it does not take more, which is good
		}
		if err != nil {
			return err
		}
		// It fails then; the rest would only take time. To look takes longer than to send.
		if sent%(1<<20) != 0 {
			continue
		}
		if now, err := t.server.Used(); err == nil && now.Resident-t.before.Resident > 2*mostGrowth {
			break
		}
	}
	t.note("%d MiB sent", sent>>20)
	return nil
}

// readsOn returns how much of what a sent the server has read, and whether it continues to
// read.
func (t *trial) readsOn(sent int) (read int, continues bool, err error) {
	count := func() (int, error) {
		c := t.clients["a"]
		ours, err := sockets.Connection(c.LocalAddr(), t.server.Addr)
		if err != nil {
			return 0, ignoreNone(err)
		}
		theirs, err := t.theirs(c)
		return sent - int(ours.Unsent) - int(theirs.Unread), ignoreNone(err)
	}
	before, err := count()
	if err != nil {
		return 0, false, err
	}
	continues, err = until(t.ctx, time.Second, func() (bool, error) {
		read, err = count()
		return read > before, err
	})
	return read, continues, err
}

// soSlowly is why a request without an end cannot be judged.
func soSlowly(read int) error {
	return unable{fmt.Sprintf("the server reads so slowly that it has read only %d KiB", read>>10)}
}

func ignoreNone(err error) error {
	if errors.Is(err, sockets.ErrNone) {
		return nil
	}
	return err
}

func grownLittle(t *trial) error {
	after, err := t.server.Used()
	if err != nil && t.model == Blocking {
		return t.goodEnd() // it has refused its one client
	}
	if err != nil {
		return t.lost(err)
	}
	growth := after.Resident - t.before.Resident
	t.note("resident memory %d KiB before, %d KiB after", t.before.Resident>>10, after.Resident>>10)
	const bound = "a bound that does not depend on what clients send"
	if growth > mostGrowth {
		return fails(fmt.Sprintf("it has grown by %d MiB", growth>>20), bound)
	}
	if t.slow > 0 && t.slow < leastSlow {
		return soSlowly(t.slow)
	}
	if growth > int64(t.slow)/2 && t.slow > 0 {
		return fails(fmt.Sprintf("it has grown by %d KiB for the %d KiB that it has read, and continues to"+
			" read", growth>>10, t.slow>>10), bound)
	}
	return nil
}
