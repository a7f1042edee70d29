//go:build linux

package main

import (
	"github.com/spf13/cobra"

	"lesson/internal/progress"
	"lesson/internal/report"
	"lesson/internal/tool/next"
)

func newNext() *cobra.Command {
	var list, done, reset, asJSON bool
	cmd := &cobra.Command{
		Use:   "next",
		Short: "Show the one thing to do now",
		Long: `Shows where you are on the way through the chapters, the exercises, the
questions and the stages of your own server, and the next step. The commands
exercise, quiz and check --stages mark their own steps as done; for other steps,
use --done.

What you have done is kept in $XDG_STATE_HOME/lesson/progress.json (by default,
~/.local/state/lesson/progress.json).`,
		Example: `  lesson next
  lesson next --done
  lesson next --list`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := exclude(cmd, "done", "reset"); err != nil {
				return err
			}
			file, err := progress.Default()
			if err != nil {
				return cannotRun{err}
			}
			way, err := next.Find(file)
			if err == nil && reset {
				way, err = way.Reset()
			}
			if err == nil && done {
				way, err = way.Done()
			}
			switch {
			case err != nil:
				return cannotRun{err}
			case list:
				return printList(cmd, way.Listing(), asJSON, way.Steps)
			case asJSON:
				return report.JSON(cmd.OutOrStdout(), way.Next())
			}
			way.Print(cmd.OutOrStdout())
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&done, "done", false, "mark the step as done, and show the next one")
	flags.BoolVar(&list, "list", false, "list all steps")
	flags.BoolVar(&reset, "reset", false, "mark all steps as not done; your copies of exercises stay as they are")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
