//go:build linux

package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
)

// The cases of this file arrange what hardly ever happens at a system call: an error that only
// a busy machine returns, and a signal just before the call.

// acceptErrors are errors of accept that pass. ENOBUFS and ENOMEM are left out: they end Go's
// net/http, and hardly anyone has ever met them.
var acceptErrors = []unix.Errno{unix.ECONNABORTED, unix.ENFILE}

var acceptFails = Case{
	Address: "limits/accept-errors", Severity: Must, Models: goingOn,
	ends:    true,
	Chapter: runsOut, Contract: "B8", FailedBy: []string{
		"07-one-accept-per-edge", "14-eintr", "ends when accept fails",
	},
	needs: toStart, long: true,
	Must: "The server continues after a temporary error of accept: ECONNABORTED or ENFILE.",
	Why: "The client that was to be accepted may have gone, and the whole machine may be short of" +
		" descriptors for a moment.",
	Cause: acceptErrorEnds,
	script: []step{
		preparing(own("the server's calls of accept are watched (ptrace)", (*trial).watchAccept)),
		own("accept fails once with each of these errors, and a client comes; it must be answered, if"+
			" need be after a pause, or its connection closed, and the next client answered",
			(*trial).failAccepts),
		next(),
	},
}

const acceptErrorEnds = "An error of accept ends the server, or the thread that accepts. Try again at once after" +
	" ECONNABORTED, and after a pause when descriptors are short."

const acceptNotRepeated = "After an error of accept, the server waits for an event of the listener." +
	" Edge-triggered epoll does not report the queue again: call accept until it returns EAGAIN."

// A faultyAccept is calls of accept that are made to fail.
type faultyAccept struct {
	with atomic.Int64 // the error of the next call, 0 for none
}

func (t *trial) watchAccept() error {
	if err := t.comesToRest(); err != nil {
		return err
	}
	f := &faultyAccept{}
	tracer, err := ptrace.Trace(func(s ptrace.Stop) {
		if s.Left || !strings.HasPrefix(s.Call(), "accept") {
			return
		}
		if with := f.with.Swap(0); with != 0 {
			if err := s.Fail(unix.Errno(with)); err != nil {
				f.with.Store(-1)
			}
		}
	}, t.server.Pids()...)
	if err != nil {
		return unable{fmt.Sprintf("its calls cannot be watched: %v", err)}
	}
	t.holds, t.failing = &holding{tracer: tracer}, f
	return nil
}

// failAccepts lets accept fail with one error after the other, and a client come each time: the
// error may meet the call that would accept it, or the one after.
func (t *trial) failAccepts() error {
	const mostClients = 3
	for _, with := range acceptErrors {
		t.failing.with.Store(int64(with))
		for n := 0; n < mostClients && t.failing.with.Load() > 0; n++ {
			if err := t.serveOneMore(); err != nil && !t.turnsAwayOne(err) {
				return afterError(err, with)
			}
		}
		if t.failing.with.Load() != 0 {
			return unable{"no call of accept could be made to fail"}
		}
		if err := t.serveAfterAll(mostClients); err != nil {
			return afterError(err, with)
		}
	}
	return nil
}

// serveAfterAll demands that one client is served. The server may still be turning away all
// that come: then some are, but not as many as most. A server that is traced is stopped again
// and again, so it cannot be seen when it rests: it is given a while.
func (t *trial) serveAfterAll(most int) error {
	for n := 1; ; n++ {
		if err := t.pause(lookEvery); err != nil {
			return err
		}
		err := t.serveOneMore()
		if err == nil || n == most || !t.turnsAwayOne(err) {
			return err
		}
	}
}

// turnsAwayOne reports whether a server that runs on has closed a client's connection, for
// which it had no descriptor.
func (t *trial) turnsAwayOne(err error) bool {
	var f *failure
	if !errors.As(err, &f) || f.heard != heardEnd && f.heard != heardReset || t.server.Ended() {
		return false
	}
	t.note(turnedAway)
	return true
}

// afterError adds the error with which accept has failed.
func afterError(err error, with unix.Errno) error {
	var f *failure
	if !errors.As(err, &f) {
		return err
	}
	f.got = fmt.Sprintf("after accept has failed with %s: %s", unix.ErrnoName(with), f.got)
	f.cause = acceptErrorEnds
	if f.seen != nil && f.seen.queueBehindEdge() {
		f.cause = acceptNotRepeated
	}
	return f
}

var signalBeforeWait = Case{
	Address: "signals/before-the-wait", Severity: Should, Models: []Model{EventLoop},
	Chapter: levelTriggered, Contract: "B12", FailedBy: []string{"looks at a flag, and then waits"},
	NoExercise: "The exercises are in Go, whose runtime wakes the program for every signal.",
	needs:      toStart,
	Must:       "SIGTERM ends the server even if it comes just before the server waits.",
	Why: "A busy server is seldom blocked in epoll_wait. A signal that comes between the check of a" +
		" flag and the wait interrupts nothing.",
	Cause: flagOnly,
	script: append(given(
		connect("a"), send("a", half), taken("a"),
		own("a sends another byte; when the server has read it, SIGTERM comes just before the server"+
			" waits again (ptrace)", (*trial).signalBeforeWait),
	), own("the server must end", endsUnwoken)),
}

// endsUnwoken demands that the server ends, in whatever way: traced, on a busy machine, it may
// take longer than it gives itself. One that ends when the signal comes again, in its
// wait, has a handler that only sets a flag.
func endsUnwoken(t *trial) error {
	err := ends(t)
	var f *failure
	if !errors.As(err, &f) || t.server.Ended() {
		return err
	}
	if err := t.server.Signal(unix.SIGTERM); err != nil {
		return err
	}
	if ends(t) != nil {
		return unable{"the server does not end on SIGTERM, whenever it comes"}
	}
	f.cause = flagOnly
	return f
}

const flagOnly = "The handler only sets a flag, which the loop checked just before. Make the signal an event:" +
	" signalfd, or a pipe that the handler writes to; or block the signal, and let epoll_pwait unblock it."

// signalBeforeWait sends SIGTERM to a thread that enters the call in which it waits, as if the
// signal had come before that. The threads are not let go: that would wake them.
func (t *trial) signalBeforeWait() error {
	var asked, armed, sent atomic.Bool
	var failed atomic.Pointer[error]
	reading := make(map[int]bool) // threads; of the tracer alone
	tracer, err := ptrace.Trace(func(s ptrace.Stop) {
		if s.Left {
			if reading[s.Thread] && s.Result > 0 && asked.CompareAndSwap(true, false) {
				armed.Store(true)
			}
			return
		}
		reading[s.Thread] = slices.Contains(readCalls, s.Call())
		if !slices.Contains(waitCalls, s.Call()) || !armed.CompareAndSwap(true, false) {
			return
		}
		if err := errors.Join(s.Again(), terminate(s.Thread)); err != nil {
			failed.Store(&err)
		}
		sent.Store(true)
	}, t.server.Pids()...)
	if err != nil {
		return unable{fmt.Sprintf("its calls cannot be watched: %v", err)}
	}
	t.holds = &holding{tracer: tracer}
	if err := t.comesToRest(); err != nil { // it was woken
		return err
	}
	t.mayEnd = true
	asked.Store(true)
	if err := t.sends("a", "x"); err != nil {
		return err
	}
	came, err := until(t.ctx, time.Second, func() (bool, error) { return sent.Load(), nil })
	switch {
	case err != nil:
		return err
	case !came:
		return unable{"it does not wait in epoll_wait, poll or select"}
	case failed.Load() != nil:
		return unable{fmt.Sprintf("the signal cannot be sent at that moment: %v", *failed.Load())}
	}
	return nil
}

// terminate sends SIGTERM to a thread, or to its process if the thread has blocked it.
func terminate(thread int) error {
	status, err := proc.ReadStatus(thread)
	if err != nil {
		return err
	}
	if status.Blocks(unix.SIGTERM) {
		return unix.Kill(status.Process, unix.SIGTERM)
	}
	return unix.Tgkill(status.Process, thread, unix.SIGTERM)
}
