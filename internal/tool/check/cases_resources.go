//go:build linux

package check

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/play"
)

const (
	noBound   = "Lingering close has no time limit."
	boundAnew = "The time limit of lingering close begins again with each byte."
)

// rounds is how many clients come where something could add up.
const rounds = 200

var resources = []Case{
	{
		Address: "resources/descriptors-answered", Severity: Must, Models: goingOn,
		Chapter: acceptLoop, Contract: "B3", FailedBy: []string{"keeps every descriptor"},
		NoExercise: "The server never closes anything, which is easy to see. In exercise 12 the missing close is" +
			" hidden.",
		needs:  toLook,
		Must:   "Answered clients leave no descriptor behind.",
		Why:    "If each client leaves one, the server cannot accept any more after a thousand or so.",
		Cause:  "The connection is shut down, but not closed.",
		script: noMoreDescriptors(rounds, "are answered", (*trial).serveOneMore),
	},
	{
		Address: "resources/descriptors-reset", Severity: Must, Models: goingOn,
		Chapter: edgeTriggered, Contract: "B5", FailedBy: []string{"12-leak-on-reset"},
		needs:  toLook,
		Must:   "Clients that reset leave no descriptor behind.",
		Why:    "The path that is taken rarely is the one that leaks.",
		Cause:  "The error is noticed and the connection forgotten, without close.",
		script: noMoreDescriptors(rounds, "send half a request and reset", halfAndReset),
	},
	{
		Address: "resources/descriptors-end-of-file", Severity: Must, Models: goingOn,
		Chapter: oneClient, Contract: "B4", FailedBy: []string{"02-end-of-file-spin"},
		needs:  toLook,
		Must:   "Clients that leave in the middle of their request leave no descriptor behind.",
		Why:    "There are many of them: every user who presses Stop.",
		Cause:  "The server does not check for end of file, so the connection stays in CLOSE_WAIT forever.",
		script: noMoreDescriptors(rounds, "send half a request and close", halfAndClose),
	},
	{
		Address: "resources/descriptors-unsent", Severity: Must, Models: goingOn,
		when:    unseen,
		Chapter: acceptLoop, Contract: "B5", FailedBy: []string{
			"leaks when it cannot send", "loses a thread when it cannot send", "loses a worker when it cannot send",
			"07-one-accept-per-edge", "14-eintr", "15-blocking-call", "25-taken-from-net", "26-one-per-wake-up",
		},
		needs: toStart,
		Must: "Clients that reset between request and answer leave no descriptor behind, end no thread," +
			" and disturb no other client.",
		Why: "Each costs the server little: a descriptor, a thread of a pool, a process that is started" +
			" again. After a few hundred, nothing is left to serve with.",
		Cause: "When an answer cannot be sent, the connection is forgotten without close.",
		script: []step{
			preparing(own(fmt.Sprintf("%d clients connect and send half a request, if the server can hold them",
				holders), (*trial).gatherWitnesses)),
			preparing(own(fmt.Sprintf("%d clients send a whole request and reset, half of them after a"+
				" half-close, while the server is stopped (SIGSTOP); it continues", unsentBatch),
				(*trial).unsent)),
			preparing(own("the server's open descriptors are counted", (*trial).countDescriptors)),
			preparing(own(fmt.Sprintf("%d times as many do the same", unsentRounds),
				repeated(unsentRounds, (*trial).unsent))),
			own("it must have no more descriptors open than before", func(t *trial) error {
				return t.descriptorsBack(t.held + descriptorSlack)
			}),
			own("the clients that hold half a request send the rest, and must be answered",
				(*trial).witnessesAnswered),
			own("the next two clients must be answered", (*trial).servesAfterUnsent),
		},
	},
	{
		Address: "resources/descriptors-never-closes", Severity: Should, Models: goingOn,
		Chapter: oneClient, Contract: "B3", FailedBy: []string{"lingers forever"},
		NoExercise: "A bound is missing, and a constant fixes it.",
		needs:      toLook,
		Must:       "A client that does not close after its answer does not keep its descriptor forever.",
		Why:        "Lingering close waits for the client to close, and some clients never do.",
		Cause:      noBound,
		script: []step{
			connect("a"), send("a", whole), preparing(reads("a")),
			own("a does not close; still the server must give up its descriptor", func(t *trial) error {
				return t.givesUp("a", func() {})
			}),
		},
	},
	{
		Address: "resources/descriptors-keeps-sending", Severity: Should, Models: goingOn,
		Chapter: oneClient, Contract: "B3",
		FailedBy:   []string{"lingers forever", "lingers again with each byte"},
		NoExercise: "A bound is missing, and a constant fixes it.",
		needs:      toLook,
		Must:       "A client that never stops sending after its answer does not keep its descriptor forever.",
		Why:        "A byte now and then is cheap for the client; a descriptor is not for the server.",
		Cause:      boundAnew,
		script: []step{
			connect("a"), send("a", whole), preparing(reads("a")),
			own("a sends a byte every 100 ms; still the server must give up its descriptor", keepsSending),
		},
	},
	{
		Address: "resources/idle", Severity: Should, Models: everyone,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"polls"},
		NoExercise: "A server that polls does so on purpose. Exercises 2, 5 and 11 hide the spin.",
		needs:      toLook,
		Must:       "Without clients, the server sleeps.",
		Why: "The kernel waits for the server at no cost; asking it again and again costs" +
			" processor time.",
		Cause:  "A timeout of a few milliseconds, or of 0, in the call that waits.",
		script: []step{calm()},
	},
	{
		Address: "resources/idle-half-request", Severity: Must, Models: everyone,
		when:    unseenSpin,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"polls", "asks for urgent data"},
		needs: toLook,
		Must:  "While it waits for the rest of a request, the server sleeps.",
		Why: "A send buffer nearly always has room: level-triggered epoll reports EPOLLOUT for as long" +
			" as the interest includes it.",
		Cause: "Interest in EPOLLOUT without anything to send, or a read that is tried again and again.",
		script: []step{
			connect("a"), send("a", half), taken("a"), calm(), sendUrgent("a"), calm(),
		},
	},
	{
		Address: "resources/idle-end-of-file", Severity: Must, Models: goingOn,
		when:    unseenSpin,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"02-end-of-file-spin"},
		needs: toLook,
		Must:  "After end of file in the middle of a request, the server sleeps.",
		Why:   "A descriptor at end of file is readable forever.",
		Cause: "Read returned 0, and the server treats that as \"nothing yet\".",
		script: []step{
			connect("a"), send("a", half), taken("a"), halfClose("a"), calm(), next(),
		},
	},
	{
		Address: "resources/idle-after-answer", Severity: Must, Models: goingOn,
		when:    unseenSpin,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"05-standing-epollout"},
		needs: toLook,
		Must:  "While it waits for an answered client to close, the server sleeps.",
		Why:   "Events that mattered before the answer may not matter after it.",
		Cause: "Interest in EPOLLOUT that was never removed, or bytes that the server does not read.",
		script: []step{
			connect("a"), send("a", whole+half), preparing(reads("a")), endsInTime(calm()),
		},
	},
	{
		Address: "resources/idle-reset", Severity: Must, Models: goingOn,
		when:    unseenSpin,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"03-reset-ends-it"},
		needs: toLook,
		Must:  "After a reset, the server sleeps.",
		Why:   "EPOLLHUP and EPOLLERR are reported with any interest, until the descriptor is closed.",
		Cause: "The server ignores the error, and the descriptor stays in the interest list.",
		script: []step{
			connect("a"), send("a", half), taken("a"), resets("a"), calm(), next(),
		},
	},
	{
		Address: "resources/idle-full-send-buffer", Severity: Must, Models: goingOn,
		when:    unseenSpin,
		Chapter: levelTriggered, Contract: "B9", FailedBy: []string{"tries again and again"},
		needs: toStart,
		Must:  "While an answer waits for room in the send buffer, the server sleeps.",
		Why:   "The kernel reports when there is room.",
		Cause: "The write is tried again and again instead of waiting for EPOLLOUT.",
		script: []step{
			connectSmall("a"), send("a", half), taken("a"), fill("a"), send("a", rest), taken("a"),
			calm(),
		},
	},
	{
		Address: "resources/threads", Severity: Should, Models: eventLoop,
		Chapter: levelTriggered, Contract: "B15", FailedBy: []string{"one thread each"},
		needs: toLook,
		Must:  "A hundred connections cost an event loop no threads.",
		Why:   "An event loop exists to do without a thread for each connection.",
		Cause: "A thread or process for each connection: then the model is another one; give --model threaded.",
		script: []step{
			preparing(own(fmt.Sprintf("%d clients are served, and the server's threads counted", aFew),
				func(t *trial) error {
					if err := t.serveMany(aFew); err != nil {
						return err
					}
					return t.look()
				})),
			many(crowdSize, half), allTaken(),
			own(fmt.Sprintf("there must be at most %d more threads", threadSlack), fewThreads),
			crowdSends(rest), crowdAnswered(),
		},
	},
	{
		Address: "resources/memory", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B6", FailedBy: []string{"keeps every request"},
		NoExercise: "A Go server keeps every request only on purpose.",
		needs:      toLook, alone: true,
		Must:  "Memory does not grow with the number of clients that have been served.",
		Why:   "A little for each client is much after a week.",
		Cause: "Something is kept for each client: an entry of a table, a buffer, a log in memory.",
		script: []step{
			preparing(own(fmt.Sprintf("%d clients are served, and the server's memory is measured", rounds),
				func(t *trial) error { return t.serveMany(rounds) })),
			preparing(own("the server's memory is measured", (*trial).look)),
			preparing(own(fmt.Sprintf("%d more clients are served, or as many as are in %v", manyRounds,
				servesFor), (*trial).serveForAWhile)),
			levelsOff((*trial).serveForAWhile),
		},
	},
	{
		Address: "resources/memory-of-leavers", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B4", FailedBy: []string{"keeps what leavers sent"},
		needs: toLook, alone: true,
		Must:   "Memory does not grow with the number of clients that have left in the middle of their request.",
		Why:    "Everything that belongs to a connection must be freed with it, however it ends.",
		Cause:  "The path for end of file closes the descriptor, but does not free the buffer.",
		script: freedAfter("close", (*trial).leavers),
	},
	{
		Address: "resources/memory-of-resets", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B5", FailedBy: []string{
			"03-reset-ends-it", "15-blocking-call", "keeps the memory of resets",
		},
		needs: toLook, alone: true,
		Must:   "Memory does not grow with the number of clients that have reset in the middle of their request.",
		Why:    "Everything that belongs to a connection must be freed with it, however it ends.",
		Cause:  "The path for ECONNRESET closes the descriptor, but does not free the buffer.",
		script: freedAfter("reset", (*trial).resetters),
	},
}

// freedAfter returns the steps of many clients that end in the middle of their request: memory
// must not grow with their number. how says what they do, and play plays that many of them.
func freedAfter(how string, play func(*trial, int) error) []step {
	many := func(t *trial) error { return play(t, manyRounds) }
	return []step{
		preparing(own(fmt.Sprintf("%d clients send half a request and %s", rounds, how),
			func(t *trial) error { return play(t, rounds) })),
		preparing(own("the server's memory is measured", (*trial).look)),
		preparing(own(fmt.Sprintf("%d more clients send half a request and %s", manyRounds, how), many)),
		levelsOff(many),
	}
}

// So many clients whose answers cannot be sent come at the same time, and so often.
const (
	unsentBatch  = 20
	unsentRounds = 10
)

// unsent is clients that reset before the server has come to answer them. After an end of file
// the reset shows in write, which raises SIGPIPE.
func (t *trial) unsent() error {
	if err := stop().do(t); err != nil {
		return err
	}
	l, err := t.listener()
	if err != nil {
		return err
	}
	for i := range min(unsentBatch, int(l.Unsent)+1) {
		c, err := t.dial()
		if err != nil {
			return err
		}
		if err := c.Send([]byte(whole)); err != nil {
			return sending(err)
		}
		if i%2 == 1 {
			if err := c.HalfClose(); err != nil {
				return err
			}
		}
		if err := c.Reset(); err != nil {
			return err
		}
	}
	if err := goOn().do(t); err != nil {
		return err
	}
	return t.comesToRest()
}

// gatherWitnesses lets clients wait that an error of another connection must not cost.
func (t *trial) gatherWitnesses() error {
	if !slices.Contains(concurrent, t.model) {
		return nil
	}
	if err := t.gather(holders, half); err != nil {
		return err
	}
	return t.takesAll()
}

// witnessesAnswered demands that they are answered.
func (t *trial) witnessesAnswered() error {
	for _, c := range t.crowd {
		if err := c.Send([]byte(rest)); err != nil {
			return t.lostWorker(sending(err))
		}
	}
	return t.lostWorker(crowdAnswered().do(t))
}

// lostWorker adds the cause of clients that another connection has cost their own.
func (t *trial) lostWorker(err error) error {
	var f *failure
	if !errors.As(err, &f) || t.server.Ended() {
		return err
	}
	switch {
	case f.heard == heardReset || f.heard == heardEnd:
		f.cause = workerLost
	case t.model == EventLoops && f.seen != nil && f.seen.accepting:
		f.cause = listenerBlocks
	}
	return err
}

// unseen is a failure that is not about what a client waits for.
func unseen(f *failure) bool { return f.seen == nil && f.heard == heardNothing }

const listenerBlocks = "The listener is blocking. Several loops are woken for one connection: one accepts it, and" +
	" the others are blocked in accept, while their clients wait. Create the listener with SOCK_NONBLOCK."

const workerLost = "A process of the server has ended, and all its clients with it, when it wrote to a client" +
	" that was gone (SIGPIPE, or an error that is not handled): send with MSG_NOSIGNAL, and close only that" +
	" client's connection."

// servesAfterUnsent demands that there is something left to serve with.
func (t *trial) servesAfterUnsent() error {
	err := t.serveMany(2)
	var f *failure
	if errors.As(err, &f) && t.model == Pool && f.leftWaiting() {
		f.cause = threadLost
	}
	return err
}

const threadLost = "A thread of the pool ends when an answer cannot be sent, and no other takes its place: handle" +
	" every error of a connection in the loop of the thread."

// manyRounds times the smallest leak worth its name, a buffer of 8 KiB, is more
// than mostGrowth. Each of these clients leaves a connection in TIME_WAIT for a minute, of
// which a machine keeps only so many: tcp_max_tw_buckets in tcp(7).
const manyRounds = 1500

// servesFor bounds the time for so many clients, of a server that takes long for each.
const servesFor = 15 * time.Second

func (t *trial) serveForAWhile() error {
	n, err := t.serveWithin(manyRounds, servesFor)
	if n < manyRounds {
		t.note("only %d clients have been served in %v", n, servesFor)
	}
	return err
}

// laterRounds is how often a server whose memory has grown may show that it does not go on
// growing: a cache fills up, a heap grows until it is collected.
const laterRounds = 2

// levelsOff demands that the memory has grown little, or does so when as many clients come
// again.
func levelsOff(again func(*trial) error) step {
	text := fmt.Sprintf("the memory must not have grown by more than %d MiB; if it has, as many clients"+
		" come again, at most %d times, until it levels off", mostGrowth>>20, laterRounds)
	return own(text, func(t *trial) error {
		err := grownLittle(t)
		for range laterRounds {
			var f *failure
			if !errors.As(err, &f) {
				return err
			}
			if err := t.look(); err != nil {
				return err
			}
			if err := again(t); err != nil {
				return err
			}
			err = grownLittle(t)
		}
		var f *failure
		if errors.As(err, &f) && t.collectsLate() {
			return unable{"the heap of its runtime grows until it is collected, and so many clients do not" +
				" cause that: limit the heap (-Xmx of Java)"}
		}
		return err
	})
}

// collectsLate reports whether the server runs on a virtual machine that collects its heap only
// when a share of the machine's memory is full: that of Java or of .NET.
func (t *trial) collectsLate() bool {
	return slices.ContainsFunc(t.server.Pids(), func(pid int) bool {
		for _, library := range []string{"libjvm.so", "libcoreclr.so"} {
			if maps, err := proc.Maps(pid, library); err == nil && maps {
				return true
			}
		}
		return false
	})
}

// threadSlack is what a runtime may start for its own purposes.
const threadSlack = 16

func halfAndReset(t *trial) error { return t.halfAnd(resets) }

func halfAndClose(t *trial) error {
	return t.halfAnd(func(names ...string) step { return closes(names[0]) })
}

func (t *trial) halfAnd(leave func(...string) step) error {
	const name = "one of many"
	for _, s := range []step{connect(name), send(name, half)} {
		if err := s.do(t); err != nil {
			return err
		}
	}
	if err := t.waitTaken(name); err != nil {
		return err
	}
	return leave(name).do(t)
}

// leavers are clients that send half a request and close: a hundred at a time,
// or one where the server takes no more.
func (t *trial) leavers(n int) error { return t.leave(n, (*play.Conn).Close) }

// resetters are clients that reset instead.
func (t *trial) resetters(n int) error { return t.leave(n, (*play.Conn).Reset) }

func (t *trial) leave(n int, leave func(*play.Conn) error) error {
	batch := crowdSize
	if t.model == Loop || t.model == Pool {
		batch = 1
	}
	for ; n > 0; n -= batch {
		if err := t.gather(batch, half); err != nil {
			return err
		}
		if err := t.takesAll(); err != nil {
			return err
		}
		for _, c := range t.crowd {
			if err := leave(c); err != nil {
				return err
			}
		}
		t.crowd = t.crowd[:0]
	}
	return nil
}

func keepsSending(t *trial) error {
	const every = 100 * time.Millisecond
	last, longest := time.Now(), time.Duration(0)
	err := t.givesUp("a", func() {
		if since := time.Since(last); since > every {
			last, longest = time.Now(), max(longest, since)
			_ = t.clients["a"].Send([]byte("x")) // fails when the server has closed
		}
	})
	if err == nil && longest > stays { // for so long, it sent nothing
		return t.miss()
	}
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	if f.cause = noBound; t.givesUp("a", func() {}) == nil {
		f.cause = boundAnew
		f.got += fmt.Sprintf("; closed %v after a has stopped", t.waited())
	} else {
		f.got += fmt.Sprintf(", and %v after a has stopped", t.waited())
	}
	return f
}

// givesUp demands that the server closes its end of a client's connection, whatever the
// client does meanwhile.
func (t *trial) givesUp(name string, meanwhile func()) error {
	closed, err := t.until(func() (bool, error) {
		meanwhile()
		open, err := t.stillOpen(t.clients[name])
		return !open, err
	})
	if err != nil {
		return err
	}
	if !closed {
		return fails(fmt.Sprintf("open after %v", t.waited()), "closed after a while")
	}
	t.note("closed after %v", t.waited())
	return nil
}

func fewThreads(t *trial) error {
	usage, err := t.server.Used()
	if err != nil {
		return t.lost(err)
	}
	before, now := len(t.before.Threads), len(usage.Threads)
	t.note("%d threads before, %d with %d connections", before, now, crowdSize)
	if now > before+threadSlack {
		return fails(fmt.Sprintf("%d before, %d now", before, now), fmt.Sprintf("about %d", before))
	}
	return nil
}

func (t *trial) serveMany(n int) error {
	for range n {
		if err := t.serveOneMore(); err != nil {
			return err
		}
	}
	return nil
}
