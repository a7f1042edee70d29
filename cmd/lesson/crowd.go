//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lesson/internal/report"
	"lesson/internal/tool/crowd"
)

// crowdFlags are the flags of lesson crowd.
type crowdFlags struct {
	options crowd.Options
	only    []string
	also    []string
	html    string
	asJSON  bool
}

func newCrowd() *cobra.Command {
	var f crowdFlags
	cmd := &cobra.Command{
		Use:   "crowd",
		Short: "Measure what an idle connection costs a server",
		Long: `Connects clients that send nothing to each lesson, and measures what they cost:
memory of the server's process and of the kernel for each connection, threads,
processor time while nothing happens, and how long a client waits that sends a
request meanwhile. Every server is measured --rounds times, in turn.

A line through all measurements gives the cost of one connection, and the cost
of more connections than this machine can hold. The latter is marked as a
projection.

It takes about three minutes. After Ctrl-C it prints what it has measured. The
kernel's memory is measured for the whole machine, so run nothing else
meanwhile. See docs/crowd.md.`,
		Example: `  lesson crowd
  lesson crowd --only epoll,threaded --conns 500,1000,2000 --rounds 1
  lesson crowd --also 'mine=./server {addr}' --html crowd.html
  lesson crowd hold 127.0.0.1:8080 900     only the clients, until Ctrl-D`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntSliceVar(&f.options.Conns, "conns", nil, fmt.Sprintf(
		"numbers of connections: `sizes` (default %s, or as many as the machine has descriptors for)",
		strings.Trim(strings.Join(strings.Fields(fmt.Sprint(crowd.Usual)), ","), "[]")))
	flags.StringSliceVar(&f.only, "only", nil,
		"measure only these `lessons`, as in threaded,epoll; none leaves out all lessons")
	addAlso(cmd, &f.also)
	flags.IntVar(&f.options.Rounds, "rounds", 3, "measure every server `N` times")
	flags.DurationVar(&f.options.Idle, "idle", time.Second,
		"observe the idle connections for this `time`; below 1s, the kernel's memory is less certain")
	flags.StringVar(&f.html, "html", "", "also write a page with charts to `file`")
	flags.BoolVar(&f.asJSON, "json", false, "print the result as JSON")
	cmd.AddCommand(newCrowdHold(), newCrowdAccept())
	return cmd
}

func (f *crowdFlags) run(cmd *cobra.Command) (err error) {
	targets, err := f.targets()
	if err != nil {
		return usageError{err}
	}
	if err := cmp.Or(
		atLeast(cmd, "rounds", f.options.Rounds, 1),
		atLeast(cmd, "idle", f.options.Idle, time.Millisecond),
	); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f.options.Hold = []string{self, "crowd", "hold"}
	f.options.AcceptOnly = []string{self, "crowd", "accept"}
	page, err := report.Create(f.html)
	if err != nil {
		return err
	}
	defer finish(page, &err)
	ctx, cancel := untilSignal()
	defer cancel()
	status := report.NewStatus(cmd.ErrOrStderr())
	f.options.Progress = func(s crowd.Step) { status.Show("%s", s) }
	result, err := crowd.Run(ctx, targets, f.options)
	status.Wipe()
	if result == nil {
		return cannotRun{err}
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		err = errors.Join(err, report.JSON(out, result))
	} else {
		result.Print(out, report.Width(out))
	}
	return errors.Join(err, page.Write(result.Page().Write))
}

func (f *crowdFlags) targets() ([]crowd.Target, error) {
	var targets []crowd.Target
	if !noLessons(f.only) {
		lessons, err := crowd.Lessons(f.only)
		if err != nil {
			return nil, err
		}
		targets = lessons
	}
	programs, err := also(f.only, f.also)
	for _, program := range programs {
		targets = append(targets, crowd.Target{Program: program})
	}
	return targets, err
}

func newCrowdHold() *cobra.Command {
	var asJSON bool
	var first int
	cmd := &cobra.Command{
		Use:   "hold ADDR N",
		Short: "Connect N clients that send nothing, and hold them until Ctrl-D",
		Long: `Connects N clients to ADDR, prints how many are connected, and holds them until
standard input ends: Ctrl-D. They send nothing. To connect more, type how many
are to be connected. At the end it resets all connections, so that no port is
left in TIME_WAIT.

To a server on loopback, the clients connect from 127.1.0.1, 127.1.0.2 and so
on, 10000 from each, because one address has only about 28,000 ephemeral ports
for one server.`,
		Example: "  lesson crowd hold 127.0.0.1:8080 900",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := serverAt("ADDR", args[0])
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 0 || n > crowd.MostConns || first < 0 {
				return usageError{fmt.Errorf("not a number from 0 to %d: %q", crowd.MostConns, args[1])}
			}
			ctx, cancel := untilSignal()
			defer cancel()
			report := crowd.Told(cmd.OutOrStdout())
			if !asJSON {
				report = crowd.Said(cmd.OutOrStdout())
			}
			return crowd.Hold(ctx, crowd.NewSilent(addr, first), n, cmd.InOrStdin(), report)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print each number of connections as JSON")
	cmd.Flags().IntVar(&first, "first", 0, "number of the first client, if other processes hold some")
	if err := cmd.Flags().MarkHidden("first"); err != nil {
		panic(err) // there is no such flag
	}
	return cmd
}

// newCrowdAccept returns the command of the server with which all others are compared.
func newCrowdAccept() *cobra.Command {
	return &cobra.Command{
		Use:     "accept ADDR",
		Short:   "Accept connections, and do nothing else",
		Example: "  lesson crowd accept 127.0.0.1:8080",
		Hidden:  true, // for lesson crowd
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			addr, err := hostPort("ADDR", args[0])
			if err != nil {
				return err
			}
			return crowd.AcceptOnly(addr)
		},
	}
}
