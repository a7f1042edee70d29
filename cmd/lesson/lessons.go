//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lesson/internal/lesson"
	"lesson/internal/observe/trace"
	"lesson/internal/report"
)

// newLessons returns a command for each lesson of the registry that has one.
func newLessons() []*cobra.Command {
	var commands []*cobra.Command
	for _, l := range lesson.All() {
		if l.About != "" {
			commands = append(commands, newLesson(l))
		}
	}
	return commands
}

func newLesson(l lesson.Lesson) *cobra.Command {
	f := new(serveFlags)
	instead := make(map[*bool]lesson.Lesson) // by the flag that starts another lesson
	cmd := &cobra.Command{
		Use:     l.Name,
		Short:   fmt.Sprintf("Run step %d: %s", l.Step, l.Title),
		Example: l.Examples,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for wanted, other := range instead {
				if *wanted {
					return f.serve(cmd, other)
				}
			}
			return f.serve(cmd, l)
		},
	}
	f.add(cmd, l)
	chapters := []string{l.Chapter}
	for _, other := range lesson.All() {
		if flag, ok := strings.CutPrefix(other.Flag, l.Name+" --"); ok {
			usage := fmt.Sprintf("run %s instead: %s", other.Name, other.Title)
			instead[cmd.Flags().Bool(flag, false, usage)] = other
			chapters = append(chapters, other.Chapter)
		}
	}
	cmd.Long = l.About + "\n\nSee " + strings.Join(chapters, " and ") + "."
	return cmd
}

// defaultAddr is where a lesson listens, and where a command looks for one.
const defaultAddr = "127.0.0.1:8080"

// serveFlags are the flags of the lessons.
type serveFlags struct {
	run    lesson.Run
	addr   string
	quiet  bool
	trace  bool
	events string
}

// add adds the flags that a lesson has to its command.
func (f *serveFlags) add(cmd *cobra.Command, l lesson.Lesson) {
	flags, o := cmd.Flags(), &f.run.Options
	flags.SortFlags = false
	flags.StringVar(&f.addr, "addr", defaultAddr,
		"listen on this `host:port`; port 0 lets the kernel choose, and an empty host is every IPv4 address")
	flags.IntVar(&o.Backlog, "backlog", 4096,
		"ask for an accept queue of `N` connections; the kernel allows at most net.core.somaxconn")
	flags.DurationVar(&o.Timeout, "timeout", time.Minute,
		"close a connection whose request is not complete after this `time`; 0 waits forever")
	flags.BoolVarP(&f.quiet, "quiet", "q", false,
		"do not print requests")
	flags.BoolVar(&f.trace, "trace", false,
		"print every system call to stderr, when it is entered and when it returns")
	flags.StringVar(&f.events, "trace-json", "",
		"write every system call to `file` as JSON lines, when it is entered and when it returns")
	flags.BoolVar(&o.NoDelay, "nodelay", false,
		"set TCP_NODELAY: send small segments at once (package net always does)")
	flags.BoolVar(&o.Cork, "cork", false,
		"set TCP_CORK around the response: hold back segments that are not full")
	flags.BoolVar(&o.DeferAccept, "defer-accept", false,
		"set TCP_DEFER_ACCEPT: accept a client only when it has sent something")
	switch {
	case l.Model == lesson.Threaded:
		flags.IntVar(&o.MaxConns, "max-conns", 1000,
			"serve at most `N` connections at a time, each on a thread")
	case l.Waits != "":
		flags.IntVar(&f.run.Loops, "loops", 1,
			"run `N` event loops, each with a listener of its own on the same address (SO_REUSEPORT)")
	}
}

// check looks for values out of bounds, and for flags that l does not have: it may be
// started by the command of another lesson.
func (f *serveFlags) check(cmd *cobra.Command, l lesson.Lesson) error {
	const mostLoops = 256
	switch o := f.run.Options; {
	case o.Backlog < 0 || o.Backlog > 1<<30:
		return outside("backlog", o.Backlog, 0, 1<<30)
	case o.Timeout < 0:
		return usageError{errors.New("--timeout must not be negative; 0 waits forever")}
	case cmd.Flags().Changed("max-conns") && l.Model != lesson.Threaded:
		return usageError{fmt.Errorf("--max-conns limits threads, and a connection of %s has none;"+
			" leave --max-conns out", l.Name)}
	case l.Model == lesson.Threaded && (o.MaxConns < 1 || o.MaxConns > lesson.MostThreads):
		return outside("max-conns", o.MaxConns, 1, lesson.MostThreads)
	case l.Waits != "" && (f.run.Loops < 1 || f.run.Loops > mostLoops):
		return outside("loops", f.run.Loops, 1, mostLoops)
	case l.Untraced && (f.trace || f.events != ""):
		return usageError{fmt.Errorf("package net makes the system calls of %s, and --trace"+
			" does not see them; try: strace -f -e trace=network,read,write,epoll_pwait %s", l.Name, l.Command)}
	}
	return nil
}

// serve runs a lesson with the flags of cmd.
func (f *serveFlags) serve(cmd *cobra.Command, l lesson.Lesson) error {
	if err := f.check(cmd, l); err != nil {
		return err
	}
	addr, err := lesson.ParseAddr("--addr", f.addr)
	if err != nil {
		return err
	}
	run := f.run
	run.Lesson, run.Log, run.Options.Addr = l, cmd.ErrOrStderr(), addr
	if !f.quiet {
		run.Options.Requests = os.Stdout // a server continues when it cannot print: see server.Print
	}
	var emit []func(trace.Event)
	if f.trace {
		emit = append(emit, trace.Print(cmd.ErrOrStderr(), report.Colour(cmd.ErrOrStderr())))
	}
	if f.events != "" {
		file, err := os.Create(f.events)
		if err != nil {
			return report.WithHint(f.events, err)
		}
		defer file.Close() // each line is written as it comes
		emit = append(emit, trace.JSON(file))
	}
	if len(emit) > 0 {
		run.Trace = trace.NewRecorder(emit...)
	}
	return run.Do()
}
