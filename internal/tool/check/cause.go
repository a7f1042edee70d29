//go:build linux

package check

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lesson/internal/play"
)

// A cause is named only when it follows from evidence: how the server has ended, what the
// client has received, what the kernel shows. What a case says of itself is the cause when
// a step that judges has failed, and nothing that was seen says otherwise. A step that
// only prepares the case has causes of its own.

// Causes that follow from what was seen, whichever case has failed.
const (
	// The client.
	firstRead = "The server treats whatever the first read returns as the request. Read on until the" +
		" end of the request."
	endAsEnd   = "The server treats end of file as the end of the request, which was not complete."
	closesFull = "close() with bytes in the receive buffer: the kernel then sends a reset instead of a" +
		" FIN. After the answer: shutdown(SHUT_WR), read on until end of file, then close."

	// The threads.
	poolUsedUp = "There is a fixed number of threads or processes, and each waits for a client of its" +
		" own: none is left for another client."
	someOnly = "The server holds a fixed number of clients at a time: a pool of threads, or a bound on" +
		" connections. The others wait."
	readBlocks = "A read that blocks: the server handles one client at a time, or a descriptor in its event" +
		" loop is blocking (accept4 with SOCK_NONBLOCK)."
	acceptorReads = "The thread that accepts connections also reads from them, and that read blocks."
	oneAtATime    = "The server handles one client at a time, and waits for that client's next bytes."
	writeBlocks   = "A write that blocks: the server waits for a client that does not read, and serves" +
		" no other client meanwhile."

	threadFailed = "A failure to create a thread (EAGAIN from pthread_create) is not handled, and ends the" +
		" server. Close that client's connection, or wait until another thread has ended."
	threadForgotten = "After a failure to create a thread, the connection is neither served nor closed:" +
		" its descriptor is lost."

	// The listener.
	oneAccept = "One accept for each event of an edge-triggered listener: the other clients wait until" +
		" one more connects. Accept until EAGAIN."
	listenerUnwatched = "The listener is not in the interest list, or its entry asks for nothing: new" +
		" connections are no longer reported."

	// The connection.
	leftBehindEdge = "Bytes are left in the receive buffer after an edge. Edge-triggered epoll does not" +
		" report them again: read until EAGAIN."
	endBehindEdge = "The server stops after a read that does not fill its buffer. The end of file" +
		" behind it has no edge of its own: read until EAGAIN or 0."
	unwatched = "The connection is not in the interest list, or its entry does not ask for EPOLLIN: its" +
		" bytes are not reported."
	endHidesRequest = "The server treats end of file as \"the client is gone\", although a whole request" +
		" came before it."
	keptAtEnd = "The server never reads end of file, or does not check for it, and keeps the connection."

	// The end of the server.
	abortsItself = "The server has aborted itself (SIGABRT): an assertion failed, or the allocator" +
		" found its memory damaged."
	wrongMemory = "The server has accessed memory that is not its own (SIGSEGV): an index out of" +
		" bounds, or a connection that had already been freed."

	endsByNumber = "The status is 128 and the number of the signal: a handler ends the server in this way," +
		" or its runtime does, as Java's after the shutdown hooks. End with status 0, or tell the service" +
		" manager that this status is no failure."

	// Descriptors and the accept queue.
	noneFree = "No descriptor is free: the server does not close those of clients that have gone, or" +
		" does not try accept again."
	shortQueue = "A small backlog in listen(2), or net.core.somaxconn below it."

	lostInFull = "EAGAIN from write is treated as success, or as an error. Keep what is unsent and" +
		" wait for EPOLLOUT."
	onlyLastRead = "The server searches only the bytes of the last read. Search them together with the" +
		" end of what came before."
)

// heard is what a client received in place of what it should have.
type heard uint8

const (
	heardNothing heard = iota // it still waits, or was not the one to ask
	heardAnswer               // the answer or a refusal, and then something else than end of file
	heardReset                // a reset, and not all of the answer
	heardEnd                  // end of file, and not all of the answer
	heardOther                // anything else
)

func (t *trial) hearing(got []byte, end error) heard {
	whole := t.answer.equal(got)
	switch {
	case errors.Is(end, play.ErrTimeout) && len(got) == 0:
		return heardNothing
	case errors.Is(end, play.ErrReset) && (whole || isRefusal(got)):
		return heardAnswer
	case errors.Is(end, play.ErrReset):
		return heardReset
	case end == nil && !whole && t.answer.begins(got):
		return heardEnd
	}
	return heardOther
}

// because returns the cause of a failure in a step of a case, "" if none follows.
func (t *trial) because(c Case, step int, f *failure, process []string) string {
	judges := t.judging(c.script, step)
	ended := t.server.Ended()
	if ended && t.endedBadly() && (f.cause == "" || !t.mayEnd) {
		if cause := telling(process); cause != "" {
			return cause
		}
	}
	switch {
	case f.cause != "":
		return f.cause
	case ended && !t.mayEnd && judges && c.ends:
		return c.Cause
	case ended && !t.mayEnd:
		return ""
	case c.when != nil && judges && c.when(f):
		return c.Cause
	}
	if f.seen != nil {
		if cause := f.seen.cause(t.model); cause != "" {
			return cause
		}
	}
	if f.heard == heardAnswer {
		return closesFull
	}
	if f.otherwise != "" {
		return f.otherwise
	}
	if c.when == nil && judges && f.known() {
		return c.Cause
	}
	if f.seen != nil && f.seen.link == endCame && !f.seen.spins {
		return keptAtEnd
	}
	return ""
}

// endedBadly reports whether a server that has ended was not meant to, or not in this way.
func (t *trial) endedBadly() bool {
	_, success := t.server.Proc.Status()
	return !t.mayEnd || !success
}

// known reports whether anything has been seen or received from which the cause that a
// case has for itself may follow: not where the server cannot be seen, and not where it
// has not come as far as the case assumes.
func (f *failure) known() bool {
	s := f.seen
	return f.heard != heardNothing || s == nil ||
		s.looked && s.link != queued && s.link != bytesUnread && s.link != endUnread
}

// What a case may ask of a failure before it names its cause.

// never leaves the cause to what was seen.
func never(*failure) bool { return false }

// inVain is a client that waits, and receives neither a byte nor the end.
func inVain(f *failure) bool { return f.heard == heardNothing }

// readInVain is one that waits although the server has read all it has sent.
func readInVain(f *failure) bool { return inVain(f) && (f.seen == nil || f.seen.link == allRead) }

// byReset is a client that received a reset, with or without the answer before it.
func byReset(f *failure) bool { return f.heard == heardAnswer || f.heard == heardReset }

// keptOpen is a client whose connection has not ended.
func keptOpen(f *failure) bool { return !endedWithout(f) && f.heard != heardAnswer }

// endedWithout is a client whose connection has ended without the answer.
func endedWithout(f *failure) bool { return f.heard == heardEnd || f.heard == heardReset }

// queueBehindEdge is an accept queue that an edge-triggered server does not empty.
func (s *sight) queueBehindEdge() bool {
	return s.queue > 0 && s.waiting && s.listener.edge() && !s.full
}

// withoutAnswer is a client whose connection has ended, in whatever way.
func withoutAnswer(f *failure) bool { return f.heard != heardNothing }

// inQueue is a client that is left in the accept queue by a server that waits, and not for
// another client.
func inQueue(f *failure) bool {
	s := f.seen
	return s != nil && s.link == queued && !s.spins && !f.later && len(s.reading)+len(s.writing) == 0
}

// behindEdge is a client whose bytes an edge-triggered server leaves unread.
func behindEdge(f *failure) bool {
	s := f.seen
	return s != nil && s.link == bytesUnread && s.connection.edge()
}

// endBehindIt is a client whose end of file an edge-triggered server leaves unread, as far
// as can be seen: a read that takes the last bytes takes notice of the end as well.
func endBehindIt(f *failure) bool {
	s := f.seen
	return s != nil && (s.link == endUnread || s.link == endCame) && s.connection.edge() && !s.spins
}

// leftWaiting is a client that a server which sleeps has not accepted, or not read from.
func (f *failure) leftWaiting() bool {
	s := f.seen
	return s != nil && (s.link == queued || s.link == bytesUnread) && !s.spins
}

// unseenSpin is a server whose calls cannot be traced.
func unseenSpin(f *failure) bool {
	return f.seen != nil && f.seen.spin != nil && f.seen.spin.err != nil
}

// waitsForOne is a server that accepts no client while another one sends nothing.
func waitsForOne(f *failure) bool {
	return inQueue(f) && !f.seen.listener.edge()
}

// judging reports whether a step, counted from 1, judges what the case is about: it does
// not only prepare it, and is not what comes after it.
func (t *trial) judging(script []step, number int) bool {
	s := script[number-1]
	if s.after {
		return !slices.ContainsFunc(script[:number-1], func(s step) bool { return !s.prepares })
	}
	return !s.prepares
}

// cause returns the cause that follows from what was seen alone, "" if none does.
func (s *sight) cause(m Model) string {
	switch {
	case !s.looked:
		return ""
	case s.spins:
		if s.spin == nil {
			return ""
		}
		return spinCauses[s.spin.kind]
	case s.queueBehindEdge():
		return oneAccept
	case s.link != queued && s.link != bytesUnread && s.link != endUnread:
		return ""
	case len(s.writing) > 0 && len(s.reading) == 0:
		return writeBlocks
	case len(s.reading) > 1:
		return poolUsedUp
	case len(s.reading) == 1 && !s.waiting:
		switch m {
		case Threaded:
			return acceptorReads
		case EventLoop:
			return readBlocks
		}
		return oneAtATime
	}
	if s.link == queued {
		return s.causeInQueue()
	}
	return s.causeUnread()
}

// causeInQueue is why a server that waits for events leaves a connection in the accept
// queue.
func (s *sight) causeInQueue() string {
	l := s.listener
	switch {
	case s.full:
		return noneFree
	case !s.waiting || !l.known || l.runtime:
		return ""
	case !l.watched, l.Events&unix.EPOLLIN == 0:
		return listenerUnwatched
	}
	return ""
}

// causeUnread is why a server that waits for events leaves bytes, or end of file, in the
// receive buffer of a connection.
func (s *sight) causeUnread() string {
	c := s.connection
	switch {
	case !s.waiting || !c.known || c.runtime:
		return ""
	case !c.watched, c.Events&unix.EPOLLIN == 0:
		return unwatched
	case c.edge() && s.link == endUnread:
		return endBehindEdge
	case c.edge():
		return leftBehindEdge
	}
	return ""
}

// telltales are ends and last lines of servers that say more about the cause than
// a case can know. The first that fits counts.
var telltales = []struct{ words, cause string }{
	{"nterrupted system call", "A signal interrupted a system call, and the error, EINTR, ended the" +
		" server: signal(7)."},
	{"roken pipe", "Writing to a client that is gone fails with EPIPE, and raises SIGPIPE, which ends" +
		" a program by default: send with MSG_NOSIGNAL, or ignore the signal."},
	{"onnection reset", "A client's reset, ECONNRESET, was not handled, and ended the server."},
	{"not connected", "shutdown failed with ENOTCONN, because the client was gone, and that ended the server."},
	{"oo many open files", "accept failed with EMFILE, because no descriptor was left, and that ended" +
		" the server."},
	{"UnicodeDecodeError", "Bytes that are not text were decoded as text, and the error ended the server."},
	{"signal: terminated", "There is no handler for SIGTERM: the signal itself ended the process, at once."},
	{"signal: interrupt", "There is no handler for SIGINT: the signal itself ended the process, at once."},
	{"exit status 143", endsByNumber},
	{"exit status 130", endsByNumber},
	{"signal: aborted", abortsItself},
	{"signal: segmentation fault", wrongMemory},
}

// withoutThread are the words for a thread that could not be created.
var withoutThread = []string{
	"pthread_create", "start new thread", "spawn thread", "create native thread",
}

// again are the words for EAGAIN.
var again = []string{"BlockingIOError", "EAGAIN", "esource temporarily unavailable"}

// telling is the cause that the end of a server tells, "" if it does not.
func telling(process []string) string {
	text := strings.Join(process, "\n")
	contains := func(words string) bool { return strings.Contains(text, words) }
	if slices.ContainsFunc(withoutThread, contains) {
		return threadFailed
	}
	if slices.ContainsFunc(again, contains) {
		return endedByAgain(text)
	}
	for _, t := range telltales {
		if strings.Contains(text, t.words) {
			return t.cause
		}
	}
	return ""
}

// endedByAgain is the cause when EAGAIN has ended a server, as its last lines tell.
func endedByAgain(words string) string {
	const handled = " was not handled, and ended the server: it means \"not now\". "
	switch {
	case strings.Contains(words, "send") || strings.Contains(words, "write"):
		return "EAGAIN from send" + handled + "Keep what is unsent, and wait for EPOLLOUT."
	case strings.Contains(words, "accept"):
		return "EAGAIN from accept" + handled + "Wait for the next event of the listener."
	}
	return "EAGAIN" + handled + "Wait for the next event."
}
