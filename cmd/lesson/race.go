//go:build linux

package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"lesson/internal/lesson"
	"lesson/internal/play"
	"lesson/internal/report"
	"lesson/internal/tool/race"
)

// raceFlags are what is given to lesson race.
type raceFlags struct {
	scenario string
	only     []string
	html     string

	list, asJSON bool
}

func newRace() *cobra.Command {
	var f raceFlags
	cmd := &cobra.Command{
		Use:   "race",
		Short: "Run the same clients against every lesson",
		Long: `Shows which client waits for which. It starts every lesson in a process of its
own and plays the same scenario against all of them at the same time. It prints
a timeline for each client and, below them, one for the server, from its trace:
the call in which it was blocked, and the line of source.

A race takes as long as the scenario, a few seconds. Ctrl-C ends it and prints
what was measured so far. See docs/race.md.`,
		Example: `  lesson race                                  one slow client, eight quick ones
  lesson race --list                           the scenarios
  lesson race --scenario stuck --only loop,epoll
  lesson race --scenario crowd --html crowd.html`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.scenario, "scenario", "slow-client", "play this `scenario`")
	flags.StringSliceVar(&f.only, "only", nil, "race only these `lessons`, as in loop,epoll (default: all)")
	flags.StringVar(&f.html, "html", "", "also write the timelines to `file`, as a page")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	flags.BoolVar(&f.list, "list", false, "list the scenarios")
	// Errors are those of a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("scenario", completeScenarios)
	_ = cmd.RegisterFlagCompletionFunc("only", completeLessons)
	return cmd
}

func (f *raceFlags) run(cmd *cobra.Command) (err error) {
	out := cmd.OutOrStdout()
	if f.list {
		return printList(cmd, race.Listing(), f.asJSON, play.Many())
	}
	s, err := play.Many().Find(f.scenario)
	if err != nil {
		return usageError{err}
	}
	if _, err := lesson.FindAll(f.only); err != nil {
		return usageError{err}
	}
	page, err := report.Create(f.html)
	if err != nil {
		return err
	}
	defer finish(page, &err)
	ctx, cancel := untilSignal()
	defer cancel()
	status := report.NewStatus(cmd.ErrOrStderr())
	o := race.Options{Scenario: s, Only: f.only, Progress: func(lasted time.Duration, done, all int) {
		status.Show("%s: %.1f s, %d of %d servers are done", s.Name, lasted.Seconds(), done, all)
	}}
	result, err := race.Run(ctx, o)
	status.Wipe()
	if result == nil {
		return err
	}
	if f.asJSON {
		err = errors.Join(err, report.JSON(out, result))
	} else {
		result.Print(out, race.PrintOptions{
			Colour: report.Colour(out), Width: report.Width(out),
		})
	}
	err = errors.Join(err, page.Write(result.WritePage))
	if result.Interrupted {
		err = errors.Join(err, errors.New("interrupted: this is what was seen so far"))
	}
	return err
}

func completeScenarios(
	*cobra.Command, []string, string,
) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, s := range play.Many() {
		names = append(names, s.Name+"\t"+s.Title)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
