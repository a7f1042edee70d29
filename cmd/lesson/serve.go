//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"lesson/internal/lesson"
	"lesson/internal/observe/trace"
	"lesson/internal/report"
	"lesson/internal/server"
)

// serveFlags are the flags that every lesson has.
type serveFlags struct {
	addr     string
	backlog  int
	timeout  time.Duration
	quiet    bool
	trace    bool
	events   string
	nodelay  bool
	cork     bool
	deferred bool

	loops    int // epoll and edgetriggered
	maxConns int // threaded
}

func addServeFlags(cmd *cobra.Command) *serveFlags {
	f := new(serveFlags)
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.addr, "addr", "127.0.0.1:8080",
		"listen on this `host:port`; port 0 lets the kernel choose, no host is every IPv4 address")
	flags.IntVar(&f.backlog, "backlog", 4096,
		"ask for an accept queue of `N` connections; the kernel allows net.core.somaxconn")
	flags.DurationVar(&f.timeout, "timeout", time.Minute,
		"close a connection whose request is not complete after this `time`; 0 waits for ever")
	flags.BoolVarP(&f.quiet, "quiet", "q", false,
		"do not print requests")
	flags.BoolVar(&f.trace, "trace", false,
		"print every system call as it is entered and left, to stderr")
	flags.StringVar(&f.events, "trace-json", "",
		"write every system call to `file`, when entered and when left, as lines of JSON")
	flags.BoolVar(&f.nodelay, "nodelay", false,
		"set TCP_NODELAY: send small segments at once (package net always does)")
	flags.BoolVar(&f.cork, "cork", false,
		"set TCP_CORK around the response: hold partial segments back")
	flags.BoolVar(&f.deferred, "defer-accept", false,
		"set TCP_DEFER_ACCEPT: accept a client only when it has sent something")
	return f
}

func addLoopsFlag(cmd *cobra.Command, f *serveFlags) {
	cmd.Flags().IntVar(&f.loops, "loops", 1,
		"run `N` event loops, each with a listener of its own on the same address (SO_REUSEPORT)")
}

// Bounds of the flags that count something.
const (
	mostThreads = 8000 // the Go runtime ends a program at 10,000
	mostLoops   = 256
)

func within(flag string, value, least, most int) error {
	if value < least || value > most {
		return usageError{fmt.Errorf("--%s must be from %d to %d, not %d", flag, least, most, value)}
	}
	return nil
}

// serve runs the lesson of that name with the flags of cmd.
func serve(cmd *cobra.Command, name string, f *serveFlags) error {
	if err := within("backlog", f.backlog, 0, 1<<30); err != nil {
		return err
	}
	if f.timeout < 0 {
		return usageError{errors.New("--timeout must not be negative; 0 waits for ever")}
	}
	l, err := lesson.Find(name)
	if err != nil {
		return err
	}
	if (f.trace || f.events != "") && l.Untraced {
		return usageError{errors.New("--trace sees the lesson's own calls, and with --netpoll" +
			" package net makes them; try: strace -f -e trace=network,read,write,epoll_pwait" +
			" lesson threaded --netpoll")}
	}
	run := lesson.Run{
		Lesson: l,
		Addr:   f.addr,
		Loops:  f.loops,
		Log:    cmd.ErrOrStderr(),
		Options: server.Options{
			Backlog:     f.backlog,
			Timeout:     f.timeout,
			MaxConns:    f.maxConns,
			NoDelay:     f.nodelay,
			Cork:        f.cork,
			DeferAccept: f.deferred,
		},
	}
	if !f.quiet {
		run.Options.Requests = os.Stdout // a server goes on when it cannot print: see server.Print
	}
	var observers trace.Several
	if f.trace {
		observers = append(observers,
			trace.New(cmd.ErrOrStderr(), report.Colour(cmd.ErrOrStderr())))
	}
	if f.events != "" {
		file, err := os.Create(f.events)
		if err != nil {
			return err
		}
		defer file.Close() // each line is written as it comes
		observers = append(observers, trace.NewJSON(file))
	}
	if len(observers) > 0 {
		run.Trace = observers
	}
	return run.Do()
}
