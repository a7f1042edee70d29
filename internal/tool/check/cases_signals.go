//go:build linux

package check

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/report"
)

const (
	leavesListener = "A process that the server started has inherited the listener: create the" +
		" listener with SOCK_CLOEXEC, or close it in that process."
	doesNotEnd = "The handler only sets a flag, while the server is blocked in a call that continues" +
		" or is restarted; or the server waits for its clients."
)

var signals = []Case{
	{
		Address: "signals/terminate", Severity: Should, Models: everyone,
		Chapter: acceptLoop, Contract: "B12",
		FailedBy: []string{
			"deaf to SIGTERM", "leaves its listener to a helper", "no handler of signals",
		},
		needs: toStart,
		Must:  "SIGTERM ends the server in an orderly way: soon, and with status 0.",
		Why:   "A service manager sends SIGTERM first, and SIGKILL if the server has not ended after a while.",
		Cause: "No handler, or one that sets a flag while the server is blocked in a call that continues.",
		script: []step{
			preparing(own("one client is served, if there can be more", serveOneIfMore)),
			signalled(unix.SIGTERM), endsWell(),
		},
	},
	{
		Address: "signals/interrupt", Severity: Should, Models: everyone,
		Chapter: acceptLoop, Contract: "B12",
		FailedBy: []string{"fails on SIGINT", "no handler of signals"},
		needs:    toStart,
		Must:     "SIGINT, which is Ctrl-C, ends the server in an orderly way: soon, and with status 0.",
		Why:      "People who try a server end it in this way.",
		Cause:    "No handler; or the language turns the signal into an exception, and prints a traceback.",
		script:   []step{signalled(unix.SIGINT), endsWell()},
	},
	{
		Address: "signals/terminate-half-request", Severity: Should, Models: everyone,
		Chapter: acceptLoop, Contract: "B12",
		FailedBy: []string{"deaf to SIGTERM", "waits for its clients", "waits for lingering clients"},
		needs:    toStart,
		Must:     "SIGTERM ends the server even while requests are unfinished.",
		Why:      "The rest of them may never come.",
		Cause:    "The server waits for its clients, or is blocked in a read that no signal ends.",
		script: []step{
			connect("a"), send("a", half), taken("a"),
			preparing(own("if the server serves several at the same time, b is answered, and does not close",
				answeredAndOpen)),
			signalled(unix.SIGTERM), endsWell(),
		},
	},
	{
		Address: "signals/terminate-answers", Severity: Should, Models: everyone,
		Chapter: acceptLoop, Contract: "B12", FailedBy: []string{"no handler of signals"},
		needs: toStart,
		Must:  "A request that has come whole before SIGTERM is answered before the server ends.",
		Why:   "Its client has done all it could; no client should notice a restart.",
		Cause: "The process ends in the signal handler, or the loop ends before it looks at its connections.",
		script: []step{
			connect("a"), send("a", half), taken("a"), stop(), send("a", rest),
			signalled(unix.SIGTERM), goOn(), answeredOrRefused("a"), endsWell(),
		},
	},
	{
		Address: "signals/terminate-unsent", Severity: Should, Models: several,
		when:    endedWithout,
		Chapter: acceptLoop, Contract: "B12", FailedBy: []string{
			"14-eintr", "18-sigterm-drops", "drops unsent answers",
		},
		needs: toStart,
		Must:  "An answer that waits for room when SIGTERM comes is sent before the server ends.",
		Why:   "Its client has done all it could; no client should notice a restart.",
		Cause: "The loop ends without sending what it has kept for clients that read slowly. Send it first," +
			" for a bounded time.",
		script: append(given(
			connectSmall("a"), send("a", half), taken("a"), fill("a"), send("a", rest), taken("a"),
			beginsInTime(keepsConnection("a")),
		), signalled(unix.SIGTERM), preparing(own("the server is given time to see that", (*trial).comesToRest)),
			beginsInTime(answered("a")), endsWell()),
	},
	{
		Address: "signals/stop-and-continue", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: levelTriggered, Contract: "B7", FailedBy: []string{"14-eintr"},
		needs: toStart,
		Must:  "SIGSTOP and SIGCONT (Ctrl-Z and fg) do the server no harm.",
		Why:   "epoll_wait then returns EINTR, even without a handler: signal(7).",
		Cause: "EINTR is treated as an error that ends the loop.",
		script: []step{
			connect("a"), send("a", half), taken("a"), stop(), goOn(), stop(), goOn(), send("a", rest),
			answered("a"), next(),
		},
	},
	{
		Address: "signals/restart", Severity: Should, Models: everyone,
		Chapter: oneClient, Contract: "B12", FailedBy: []string{
			"no SO_REUSEADDR", "leaves its listener to a child",
		},
		NoExercise: "One socket option is missing, and the error message leads to it.",
		needs:      toStart,
		Must:       "The server can be started again at once on the same port.",
		Why: "The server closed first, so its end of the connection is in TIME_WAIT for a minute, and" +
			" bind fails with EADDRINUSE.",
		Cause: "SO_REUSEADDR is not set before bind.",
		script: []step{
			connect("a"), send("a", whole), answered("a"),
			preparing(own(fmt.Sprintf("if it serves more, further clients are answered until one of its"+
				" connections is in TIME_WAIT, at most %d", aFew), leavesTimeWait)),
			signalled(unix.SIGTERM),
			preparing(own("its process ends", endsItself)),
			own("it is started again beside what is left, and must listen", startsAgain),
			own(fmt.Sprintf("%d clients must be answered (one, if it serves no more)", aFew),
				servesAfterRestart),
		},
	},
}

// answeredAndOpen leaves the server a client for which it may linger.
func answeredAndOpen(t *trial) error {
	if !slices.Contains(concurrent, t.model) {
		return nil
	}
	for _, s := range given(connect("b"), send("b", whole), reads("b")) {
		if err := s.do(t); err != nil {
			return err
		}
	}
	return nil
}

func serveOneIfMore(t *trial) error {
	if t.model == Blocking {
		return nil
	}
	return t.serveOneMore()
}

func signalled(signal unix.Signal) step {
	return preparing(own(unix.SignalName(signal)+" is sent", func(t *trial) error {
		t.mayEnd = true
		if err := t.comesToRest(); err != nil {
			return err
		}
		return t.server.Signal(signal)
	}))
}

// endsWell demands an end with status 0. A server that was started by another
// program (go run, a shell) is only seen to end.
func endsWell() step {
	return own("the server must end, with status 0", func(t *trial) error {
		began := time.Now()
		if err := ends(t); err != nil {
			return err
		}
		t.note("ended within %v", time.Since(began).Round(time.Millisecond))
		if !slices.Contains(t.server.Pids(), t.server.Proc.Pid()) {
			return nil
		}
		if how, ok := t.server.Proc.Status(); !ok {
			return fails(how, "exit status 0")
		}
		return nil
	})
}

func ends(t *trial) error {
	ended, err := t.until(func() (bool, error) {
		_, err := t.server.Used()
		return errors.Is(err, proc.ErrGone), nil
	})
	if err != nil || ended {
		return err
	}
	if t.server.Ended() {
		return &failure{
			got: fmt.Sprintf("its process has ended, and after %v another still has its listener",
				t.waited()),
			want:  "it ends",
			cause: leavesListener,
		}
	}
	f := fails(fmt.Sprintf("it still runs after %v", t.waited()), "it ends").seeing(t, nil)
	f.otherwise = doesNotEnd
	return f
}

// endsItself waits until the process that was started has ended. What it has left behind is
// not waited for: an administrator who starts a server again does not look for that.
func endsItself(t *trial) error {
	ended, err := t.until(func() (bool, error) {
		if t.server.Ended() {
			return true, nil
		}
		_, err := t.server.Used()
		return errors.Is(err, proc.ErrGone), nil
	})
	if err == nil && !ended {
		return ends(t) // which says what it does instead
	}
	return err
}

// leavesTimeWait serves clients until a connection of the server is in TIME_WAIT: where the
// machine already has the most that it keeps, a connection just ends.
func leavesTimeWait(t *trial) error {
	for range aFew {
		waiting, err := sockets.InState(t.server.Addr.Port(), sockets.TimeWait)
		if err != nil || len(waiting) > 0 || t.model == Blocking {
			return err
		}
		if err := t.serveOneMore(); err != nil {
			return err
		}
	}
	return nil
}

func startsAgain(t *trial) error {
	const soon = time.Second
	port := t.server.Addr.Port()
	waiting, err := sockets.InState(port, sockets.TimeWait)
	if err != nil {
		return err
	}
	// A helper of a moment may have the listener, too, and end by itself.
	_, err = until(t.ctx, soon, func() (bool, error) {
		var err error
		t.left.holders, err = t.listenerHolders()
		return len(t.left.holders) == 0, err
	})
	if err != nil {
		return err
	}
	if len(waiting) == 0 && len(t.left.holders) == 0 {
		return unable{noTimeWait}
	}
	t.note("%s in TIME_WAIT", report.Plural(len(waiting), "connection", "connections"))
	t.ended = t.server
	again, err := t.restart()
	if err != nil {
		return t.blameLeft(fails(err.Error(), "it listens again"))
	}
	t.server = again
	return nil
}

const noTimeWait = "no connection of the server is in TIME_WAIT: there is nothing in its way." +
	" See whether the machine has the most that it keeps: sysctl net.ipv4.tcp_max_tw_buckets"

// listenerHolders returns the processes that have the server's listener.
func (t *trial) listenerHolders() ([]int, error) {
	listeners, err := sockets.ListenersAt(t.server.Addr)
	if err != nil {
		return nil, err
	}
	var holders []int
	for _, l := range listeners {
		some, err := proc.Holders(l.Inode)
		if err != nil {
			return nil, err
		}
		holders = append(holders, some...)
	}
	return holders, nil
}

// servesAfterRestart demands that clients reach the new server. With SO_REUSEPORT a listener
// that was left behind gets some of them.
func servesAfterRestart(t *trial) error {
	for range aFew {
		err := t.serveOneMore()
		var f *failure
		if errors.As(err, &f) {
			return t.blameLeft(f)
		}
		if err != nil || t.model == Blocking {
			return err
		}
	}
	return nil
}

// blameLeft adds which process was left with the listener, if one was.
func (t *trial) blameLeft(f *failure) *failure {
	if len(t.left.holders) == 0 {
		return f
	}
	f.got = fmt.Sprintf("process %d, which was left, still has the listener: %s", t.left.holders[0], f.got)
	f.cause = leavesListener
	return f
}
