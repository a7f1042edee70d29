//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"lesson/internal/lesson"
	"lesson/internal/progress"
	"lesson/internal/report"
	"lesson/internal/tool/check"
)

// checkFlags are the flags of lesson check.
type checkFlags struct {
	options check.Options
	only    []string
	model   string
	addr    string
	lesson  string
	command []string

	list, explain, watch, asJSON, verbose bool

	stages bool
	to     int

	junit string
}

func newCheck() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [flags] [CASE…] {--addr ADDR | --lesson NAME | -- COMMAND…}",
		Short: "Judge any server, in any language, case by case",
		Long: `Plays clients of all kinds against a server, case by case. For each case that
fails it prints the rule, what was sent, what came back, and what should have
come back.

With a command after --, it starts the server for each case, and ends it
afterwards. Some cases need that: they suspend the server, send it a signal, or
use up its descriptors. In the command, {port}, {addr} and {host} are replaced.
Without {port} and {addr}, the server must choose a port itself, and the cases
run one after the other. {seconds} is replaced by the time of --timeout in the
cases that judge it, and by 60 in the others. For a proxy, {backend} is replaced
by the address of a back end that the check runs.

With --addr, it judges a server that already runs. The cases that need its
process are left out, unless the process runs on this machine as the same user.

A CASE is the name of a case or of a group, as --list shows them.

With --stages, it judges a server that is being written: stage by stage, up to
the first stage that fails. It prints the first failing case of that stage, and
a hint. The stages are in docs/13-write-your-own.md.

Exit status: 0 if all cases hold, 1 if some fail, 2 if it cannot run. See
docs/check.md.`,
		Example: `  lesson check -- python3 my_server.py {port}
  lesson check --addr 127.0.0.1:8080
  lesson check --lesson epoll
  lesson check slow requests/whole -- ./server {addr}
  lesson check slow/short-write --explain
  lesson check --stages -- python3 my_server.py {port}
  lesson check proxy -- ./my_proxy {port} {backend}
  lesson check --watch -- go run ./server {addr}`,
		ValidArgsFunction: completeCases,
		RunE: func(cmd *cobra.Command, args []string) error {
			cases := args
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				cases, f.command = args[:dash], args[dash:]
			}
			f.options.Only = append(f.only, cases...)
			return f.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.addr, "addr", "", "judge the server that listens on this `host:port`")
	flags.StringVar(&f.lesson, "lesson", "", "judge one of the lessons, by `name`")
	flags.StringSliceVar(&f.only, "only", nil, "judge only these `cases` or groups, as in slow,requests/whole: the same as CASE")
	flags.StringVar(&f.model, "model", "",
		"judge it as this `model` of server: "+models()+" (default: guessed)")
	flags.DurationVar(&f.options.Timeout, "timeout", 0,
		"the `time` after which the server closes unfinished requests, as in 10s"+
			" (default: not judged; with --lesson 1s)")
	flags.DurationVar(&f.options.Patience, "patience", check.DefaultPatience,
		"`time` that a client waits for an answer")
	flags.IntVar(&f.options.Jobs, "jobs", 0, "judge `N` cases at the same time (default: two for each processor)")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "print a line for every case, with what was measured")
	flags.BoolVar(&f.watch, "watch", false, "judge again whenever a file of the command changes")
	flags.BoolVar(&f.stages, "stages", false, "judge stage by stage, and stop at the first stage that fails")
	flags.IntVar(&f.to, "to", len(check.Stages()), "with --stages: end with stage `N`")
	flags.BoolVar(&f.options.First, "first", false, "stop at the first case that fails")
	flags.BoolVar(&f.list, "list", false, "list the cases")
	flags.BoolVar(&f.explain, "explain", false, "print what the cases do, and judge nothing")
	flags.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
	flags.StringVar(&f.junit, "junit", "", "also write the report to `file`, as JUnit XML")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command) (err error) {
	cases, err := check.Select(f.options.Only)
	if err != nil {
		return usageError{err}
	}
	switch {
	case f.list:
		return printList(cmd, check.Listing(cases), f.asJSON, cases)
	case f.explain:
		return explainCases(cmd.OutOrStdout(), cases)
	}
	if err := f.bounds(cmd); err != nil {
		return err
	}
	target, err := f.target()
	if err != nil {
		return usageError{err}
	}
	f.options.Model = check.Model(f.model)
	if f.model != "" && !slices.Contains(lesson.Models(), f.options.Model) {
		return usageError{fmt.Errorf("no model %q; there are %s", f.model, models())}
	}

	junit, err := report.Create(f.junit)
	if err != nil {
		return cannotRun{err}
	}
	defer finish(junit, &err)
	ctx, cancel := untilSignal()
	defer cancel()
	f.options.Progress = checkProgress(cmd.ErrOrStderr())
	judge := func(ctx context.Context) (show func() error) {
		result, err := check.Run(ctx, target, f.options)
		return func() error { return f.show(cmd, result, junit, err) }
	}
	if !f.asJSON && !f.watch && !f.stages {
		judge = f.judgeLive(cmd, target, junit)
	}
	if f.stages {
		judge = func(ctx context.Context) (show func() error) {
			result, err := check.RunStages(ctx, target, f.options, f.to)
			return func() error { return f.showStages(cmd, result, err) }
		}
	}
	if f.watch {
		return watchOver(ctx, cmd, target, judge)
	}
	return judge(ctx)()
}

// models returns the names of the models, for a sentence.
func models() string {
	var names []string
	for _, m := range lesson.Models() {
		names = append(names, string(m))
	}
	return strings.Join(names, ", ")
}

// bounds returns an error for values out of bounds, and for flags that exclude each other.
func (f *checkFlags) bounds(cmd *cobra.Command) error {
	if f.stages && len(f.options.Only) > 0 {
		return usageError{fmt.Errorf("--stages judges the cases of each stage, so leave out %q;"+
			" --to ends with a stage", f.options.Only)}
	}
	if most := len(check.Stages()); f.to < 1 || f.to > most {
		return outside("to", f.to, 1, most)
	}
	return cmp.Or(
		exclude(cmd, "stages", "junit"),
		needs(cmd, "to", "stages"),
		atLeast(cmd, "timeout", f.options.Timeout, time.Millisecond),
		atLeast(cmd, "patience", f.options.Patience, time.Millisecond),
		atLeast(cmd, "jobs", f.options.Jobs, 1),
	)
}

// showStages shows how far the server has come, remembers it, and makes an exit status
// of it.
func (f *checkFlags) showStages(cmd *cobra.Command, result *check.StageReport, err error) error {
	if err != nil {
		return cannotRun{err}
	}
	file, err := progress.Default()
	if err == nil {
		err = result.Remember(file)
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		err = errors.Join(err, report.JSON(out, result))
	} else {
		result.Print(out, printOptions(out, f.verbose))
	}
	switch {
	case err != nil:
		return cannotRun{err}
	case result.Reached < f.to:
		return errFails
	}
	return nil
}

// target returns the one server that is named, in one of the three ways.
func (f *checkFlags) target() (check.Target, error) {
	var target check.Target
	ways := 0
	if len(f.command) > 0 {
		ways++
		target.Command = f.command
	}
	if f.addr != "" {
		ways++
		var err error
		if target.Addr, err = serverAt("--addr", f.addr); err != nil {
			return target, err
		}
	}
	if f.lesson != "" {
		ways++
		var err error
		if target, err = check.Lesson(f.lesson); err != nil {
			return target, err
		}
		if f.options.Timeout == 0 {
			f.options.Timeout = time.Second // a lesson's deadline is ours to choose
		}
	}
	if ways != 1 {
		return target, errors.New("name one server: --addr ADDR, --lesson NAME, or -- COMMAND;" +
			" for example: lesson check -- python3 my_server.py {port}")
	}
	return target, nil
}

// judgeLive returns what judges the server and prints each failing case when it is decided.
func (f *checkFlags) judgeLive(
	cmd *cobra.Command, target check.Target, junit *report.File,
) func(context.Context) (show func() error) {
	out := cmd.OutOrStdout()
	live := check.NewLive(out, printOptions(out, f.verbose))
	status := report.NewStatus(cmd.ErrOrStderr())
	f.options.Seen = live.Head
	f.options.Progress = func(done, all int, r check.Result) {
		status.Wipe()
		live.Decided(r)
		status.Show("%d of %d  %s", done, all, r.Address)
		if done == all {
			status.Wipe()
		}
	}
	return func(ctx context.Context) func() error {
		result, err := check.Run(ctx, target, f.options)
		status.Wipe()
		return func() error {
			if result != nil {
				f.remember(cmd, result)
				live.End(result)
			}
			return f.conclude(result, junit, err)
		}
	}
}

// remember keeps how many cases fail for the next run. What cannot be kept changes no
// verdict.
func (f *checkFlags) remember(cmd *cobra.Command, result *check.Report) {
	file, err := progress.Default()
	if err == nil {
		err = result.Remember(file)
	}
	if err != nil {
		complain(cmd.ErrOrStderr(), err)
	}
}

// show prints the report of a run, and returns what becomes its exit status.
func (f *checkFlags) show(cmd *cobra.Command, result *check.Report, junit *report.File, err error) error {
	if result == nil {
		return cannotRun{err}
	}
	f.remember(cmd, result)
	out := cmd.OutOrStdout()
	if f.asJSON {
		err = errors.Join(err, report.JSON(out, result))
	} else {
		result.Print(out, printOptions(out, f.verbose))
	}
	return f.conclude(result, junit, err)
}

// conclude writes what else is asked for, and returns what becomes the exit status.
func (f *checkFlags) conclude(result *check.Report, junit *report.File, err error) error {
	if result == nil {
		return cannotRun{err}
	}
	err = errors.Join(err, junit.Write(result.JUnit))
	switch {
	case err != nil:
		return cannotRun{err}
	case len(result.Failed()) > 0:
		return errFails
	}
	return nil
}

func printOptions(out io.Writer, verbose bool) check.PrintOptions {
	return check.PrintOptions{
		Colour: report.Colour(out), Width: report.Width(out), Verbose: verbose,
	}
}

// watchOver judges again whenever a file of the target changes.
func watchOver(
	ctx context.Context, cmd *cobra.Command, target check.Target,
	judge func(context.Context) (show func() error),
) error {
	err := check.Watch(ctx, target, func(ctx context.Context) func() {
		show := judge(ctx)
		return func() {
			if err := show(); err != nil && err != errFails {
				complain(cmd.ErrOrStderr(), err)
			}
			fmt.Fprintln(cmd.ErrOrStderr(), "\nwatching; to end: Ctrl-C")
		}
	})
	if err != nil {
		return cannotRun{err}
	}
	return nil
}

// checkProgress shows the progress of a run on a terminal.
func checkProgress(w io.Writer) func(done, all int, r check.Result) {
	status := report.NewStatus(w)
	return func(done, all int, r check.Result) {
		status.Show("%d of %d  %s", done, all, r.Address)
		if done == all {
			status.Wipe()
		}
	}
}

func explainCases(w io.Writer, cases []check.Case) error {
	for i, c := range cases {
		if i > 0 {
			fmt.Fprintln(w)
		}
		c.Explain(w, printOptions(w, false))
	}
	return nil
}

func completeCases(
	cmd *cobra.Command, _ []string, _ string,
) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, c := range check.Cases() {
		names = append(names, c.Address+"\t"+c.Must)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
