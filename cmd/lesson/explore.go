//go:build linux

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"lesson/internal/lesson"
	"lesson/internal/report"
	"lesson/internal/tool/exercise"
	"lesson/internal/tool/explore"
)

// exploreFlags are the flags of lesson explore.
type exploreFlags struct {
	options        explore.Options
	scenarios      []string
	faults, replay string
	html           string
	oneAtATime     bool
	list, asJSON   bool
}

func newExplore() *cobra.Command {
	var f exploreFlags
	cmd := &cobra.Command{
		Use:   "explore [flags] LESSON|EXERCISE|FOLDER [-- ARGUMENT…]",
		Short: "Find an order of events in which a server fails",
		Long: `Runs a server on a simulated kernel, in one order of events after another: which
client acts before which system call, where a request is cut into segments,
which call falls short or fails. If an order goes wrong, it prints that order
step by step, with the accept queue, the interest list and the ready list.

The server is a lesson, an exercise, or the folder of a Go program of your own
that makes its system calls through golang.org/x/sys/unix or syscall. The
program is built against a simulated x/sys, and is not changed. Its arguments
follow --; the default is {addr}.

It tries the plain order first, in which the clients act in turn and no call
fails. Then it tries all orders with one deviation from that, with two, and so
on up to --depth. For the rest of the time, it tries random orders. See
docs/14-every-order.md.

Exit status: 0 if no order goes wrong, 1 if one does, 2 if it cannot run.`,
		Example: `  lesson explore edgetriggered
  lesson explore 06-one-read-per-edge
  lesson explore ./my-server -- --listen {addr}
  lesson explore epoll --scenario half-request --clients 4
  lesson explore 6 --html story.html         walk through the story in a browser
  lesson explore 6 --replay one:all:i.1      play one order again`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.list {
				return cobra.NoArgs(cmd, args)
			}
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args = args[:dash]
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringSliceVar(&f.scenarios, "scenario", nil,
		"explore only these `scenarios`, as in one,half-request (default: all)")
	flags.IntVar(&f.options.Clients, "clients", 0,
		"explore each scenario with `N` clients: additional ones act like its last one"+
			" (default: as many as it has)")
	flags.StringVar(&f.faults, "faults", "all", "the `kind` of calls that may go wrong: none, short, errors or all")
	flags.IntVar(&f.options.Depth, "depth", 2, "try all orders with up to `N` deviations from the plain order")
	flags.DurationVar(&f.options.For, "for", explore.DefaultFor,
		"`time` to explore; 0 ends when all orders up to --depth are tried")
	flags.Uint64Var(&f.options.Seed, "seed", 0, "begin the random orders with seed `N`: the same seed gives the same orders (default 0)")
	flags.BoolVar(&f.oneAtATime, "one-at-a-time", false,
		"leave out scenarios in which one client waits for another:"+
			" the server of a FOLDER serves one at a time on purpose")
	flags.StringVar(&f.replay, "replay", "", "play this `order` again, which explore has printed after --replay")
	flags.BoolVar(&f.list, "list", false, "list the scenarios")
	flags.StringVar(&f.html, "html", "", "also write the story to this `file`, as a page to walk through")
	flags.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
	return cmd
}

func (f *exploreFlags) run(cmd *cobra.Command, args []string) (err error) {
	if f.list {
		all := explore.Scenarios()
		return printList(cmd, explore.Listing(all), f.asJSON, all)
	}
	if err := f.bounds(cmd); err != nil {
		return err
	}
	if f.options.Faults, err = explore.ParseFaults(f.faults); err != nil {
		return usageError{err}
	}
	for _, name := range f.scenarios {
		s, err := explore.FindScenario(name)
		if err != nil {
			return usageError{err}
		}
		f.options.Scenarios = append(f.options.Scenarios, s)
	}
	if err := f.checkClients(cmd); err != nil {
		return usageError{err}
	}
	page, err := report.Create(f.html)
	if err != nil {
		return cannotRun{err}
	}
	defer finish(page, &err)
	ctx, cancel := untilSignal()
	defer cancel()
	target, err := f.target(ctx, args)
	if err != nil {
		return cannotRun{err}
	}
	defer func() {
		if failed := target.Close(); failed != nil {
			err = errors.Join(err, failed)
		}
	}()

	var result *explore.Report
	if f.replay != "" {
		result, err = target.Replay(ctx, f.replay)
	} else {
		result, err = f.explore(ctx, cmd, target)
	}
	if err != nil {
		return cannotRun{err}
	}
	result.Target, result.Arguments = args[0], args[1:]
	if f.html != "" {
		if err := f.writePage(cmd, page, result); err != nil {
			return err
		}
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		err = report.JSON(out, result)
	} else {
		result.Print(out, report.Width(out))
	}
	if err == nil && result.Failure != nil {
		return errFails
	}
	return err
}

// bounds returns an error for values out of bounds, and for flags that --replay ignores.
func (f *exploreFlags) bounds(cmd *cobra.Command) error {
	return cmp.Or(
		exclude(cmd, "replay", "scenario", "clients", "faults", "depth", "for", "seed"),
		atLeast(cmd, "depth", f.options.Depth, 0),
		atLeast(cmd, "for", f.options.For, 0),
	)
}

// checkClients returns an error if there cannot be so many clients.
func (f *exploreFlags) checkClients(cmd *cobra.Command) error {
	if !cmd.Flags().Changed("clients") {
		return nil
	}
	for _, s := range append(f.options.Scenarios, explore.Scenarios()[0]) {
		if _, err := s.With(f.options.Clients); err != nil {
			return err
		}
	}
	return nil
}

// writePage writes the story as a page, if there is one. If there is none, the file keeps
// what is in it.
func (f *exploreFlags) writePage(cmd *cobra.Command, page *report.File, result *explore.Report) error {
	var story bytes.Buffer
	err := result.HTML(&story)
	if errors.Is(err, explore.ErrNoStory) {
		fmt.Fprintf(cmd.ErrOrStderr(), "lesson: %s is not written: %v\n", f.html, err)
		return nil
	}
	if err == nil {
		err = page.Write(func(w io.Writer) error {
			_, err := story.WriteTo(w)
			return err
		})
	}
	if err != nil {
		return cannotRun{err}
	}
	return nil
}

// explore explores, and shows the elapsed time meanwhile.
func (f *exploreFlags) explore(
	ctx context.Context, cmd *cobra.Command, target *explore.Target,
) (*explore.Report, error) {
	status := report.NewStatus(cmd.ErrOrStderr())
	limit := ""
	if f.options.For > 0 {
		limit = fmt.Sprintf(" of %v", f.options.For)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for began := time.Now(); ; {
			status.Show("exploring: %.0f s%s", time.Since(began).Seconds(), limit)
			select {
			case <-done:
				status.Wipe()
				return
			case <-time.After(time.Second):
			}
		}
	}()
	result, err := target.Explore(ctx, f.options)
	close(done)
	<-ended
	return result, err
}

// target returns what the first argument names: a lesson, a folder, or an exercise.
func (f *exploreFlags) target(ctx context.Context, args []string) (target *explore.Target, err error) {
	if l, err := lesson.Find(args[0]); err == nil {
		return explore.Lesson(l)
	}
	programArgs := args[1:]
	if len(programArgs) == 0 {
		programArgs = []string{"{addr}"}
	}
	if info, err := os.Stat(args[0]); err == nil && info.IsDir() {
		target, err := explore.Folder(ctx, args[0], programArgs)
		if err == nil {
			target.OneAtATime = f.oneAtATime
		}
		return target, err
	}
	folder, model, remove, err := exercise.Unpack(args[0], false)
	if err != nil {
		return nil, fmt.Errorf("%q is not a lesson or a folder, and there is %w", args[0], err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	target, err = explore.Folder(ctx, folder, programArgs)
	if err == nil {
		target.OneAtATime = model == lesson.Loop
	}
	return target, err
}
