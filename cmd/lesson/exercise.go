//go:build linux

package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"lesson/docs"
	"lesson/internal/tool/exercise"
)

func newExercise() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exercise",
		Short: "Fix servers that are broken on purpose",
		Long: `Each exercise is a small server with one bug that a real project has shipped.
When you start one, you get your own copy, and a report from its users. Fix the
copy, and check it. NAME is the name of an exercise, or its number.

Your progress is kept in $XDG_STATE_HOME/lesson/progress.json (by default,
~/.local/state/lesson/progress.json).`,
		Example: `  lesson exercise list
  lesson exercise start 6                 your copy: 06-one-read-per-edge
  lesson exercise watch 6                 judge your copy whenever you save
  lesson exercise hint 6                  the next hint`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(
		newExerciseList(), newExerciseStart(), newExerciseCheck(), newExerciseWatch(),
		newExerciseHint(), newExerciseSolution(), newExerciseReset(),
	)
	return cmd
}

func newExerciseList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the exercises, and your progress",
		Example: `  lesson exercise list
  lesson exercise list --json | jq -r '.[].name'`,
		Args: cobra.NoArgs,
		RunE: atDesk(func(_ *cobra.Command, desk *exercise.Desk, _ string) error {
			if asJSON {
				return desk.ListJSON()
			}
			return desk.List()
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the list as JSON")
	return cmd
}

func newExerciseStart() *cobra.Command {
	var dir, lang string
	cmd := &cobra.Command{
		Use:   "start NAME",
		Short: "Make a copy to work on",
		Long: `Makes a folder NAME with main.go, README.md, go.mod and go.sum. The folder is a
module of its own, which builds anywhere. Existing files are never overwritten.`,
		Example: `  lesson exercise start 6
  lesson exercise start one-read-per-edge --dir ~/exercises`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeExercises,
		RunE: atDeskIn(&lang, func(_ *cobra.Command, desk *exercise.Desk, name string) error {
			return desk.Start(name, dir)
		}),
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "make the copy in this `folder`")
	addLanguage(cmd, &lang)
	mustMarkDir(cmd)
	return cmd
}

func newExerciseCheck() *cobra.Command {
	var dir string
	var o exercise.CheckOptions
	cmd := &cobra.Command{
		Use:   "check NAME",
		Short: "Build your copy and judge it",
		Long: `Builds your copy and judges it with the cases of lesson check: first those that
the exercise is about, and then the others, which are only summarized.

Exit status: 0 if all hold, 1 if some fail, 2 if there is no copy or it does not
build.`,
		Example: `  lesson exercise check 6
  lesson exercise check 6 --dir ~/my-server
  lesson exercise check 6 --json | jq .solved`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeExercises,
		RunE: atDesk(func(cmd *cobra.Command, desk *exercise.Desk, name string) error {
			ctx, stop := untilSignal()
			defer stop()
			err := desk.Check(ctx, name, dir, o)
			switch {
			case ctx.Err() != nil:
				return cannotRun{errors.New("interrupted before the exercise was judged")}
			case err != nil && !errors.Is(err, exercise.ErrFails):
				return cannotRun{err}
			}
			return err
		}),
	}
	addCopyFlag(cmd, &dir)
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print the result as JSON")
	cmd.Flags().BoolVarP(&o.Verbose, "verbose", "v", false, "print the other cases in full as well")
	return cmd
}

func newExerciseWatch() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "watch NAME",
		Short: "Judge your copy again whenever you save",
		Long: `Does what check does, and again whenever a Go file of your copy changes. While a
case that the exercise is about fails, the other cases are left out. Ctrl-C ends
it.`,
		Example: `  lesson exercise watch 6
  lesson exercise watch 6 --dir ~/my-server`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeExercises,
		RunE: atDesk(func(_ *cobra.Command, desk *exercise.Desk, name string) error {
			ctx, stop := untilSignal()
			defer stop()
			if err := desk.Watch(ctx, name, dir); err != nil {
				return cannotRun{err}
			}
			return nil
		}),
	}
	addCopyFlag(cmd, &dir)
	return cmd
}

func newExerciseHint() *cobra.Command {
	var again bool
	var lang string
	cmd := &cobra.Command{
		Use:   "hint NAME",
		Short: "Print the next of three hints",
		Example: `  lesson exercise hint 6
  lesson exercise hint 6 --again          the hints that you have seen`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeExercises,
		RunE: atDeskIn(&lang, func(_ *cobra.Command, desk *exercise.Desk, name string) error {
			return desk.Hint(name, again)
		}),
	}
	cmd.Flags().BoolVar(&again, "again", false, "print the hints that you have seen, and no new one")
	addLanguage(cmd, &lang)
	return cmd
}

func newExerciseSolution() *cobra.Command {
	var lang string
	cmd := &cobra.Command{
		Use:   "solution NAME",
		Short: "Print the fix, why it works, and which projects had the bug",
		Long: `Prints the fix as a unified diff, against the server as it was when you started.
On a terminal the output is in colour, unless NO_COLOR is set.`,
		Example:           "  lesson exercise solution 6",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeExercises,
		RunE: atDeskIn(&lang, func(_ *cobra.Command, desk *exercise.Desk, name string) error {
			return desk.Solution(name)
		}),
	}
	addLanguage(cmd, &lang)
	return cmd
}

func newExerciseReset() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "reset NAME",
		Short: "Start over: restore main.go, and forget the hints seen",
		Long: `Puts the original main.go back into your copy. Your version is kept as
main.go.bak (or main.go.bak2, and so on). Hints and results are forgotten.`,
		Example: `  lesson exercise reset 6
  lesson exercise reset 6 --dir ~/exercises`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeExercises,
		RunE: atDesk(func(_ *cobra.Command, desk *exercise.Desk, name string) error {
			return desk.Reset(name, dir)
		}),
	}
	addCopyFlag(cmd, &dir)
	return cmd
}

func addCopyFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "",
		"the copy is in this `folder`, or in its folder NAME (default: where it was started)")
	mustMarkDir(cmd)
}

// mustMarkDir lets shells complete --dir with folders. It fails only for a flag
// that cmd does not have.
func mustMarkDir(cmd *cobra.Command) {
	if err := cmd.MarkFlagDirname("dir"); err != nil {
		panic(err)
	}
}

// atDeskIn is atDesk with what is quoted from the pages in a language: that of the flag.
func atDeskIn(
	lang *string, do func(*cobra.Command, *exercise.Desk, string) error,
) func(*cobra.Command, []string) error {
	return atDesk(func(cmd *cobra.Command, desk *exercise.Desk, name string) error {
		var err error
		if desk.Language, err = docs.Language(*lang, os.Getenv); err != nil {
			return usageError{err}
		}
		return do(cmd, desk, name)
	})
}

// atDesk returns a RunE that calls do with the first argument, if any.
func atDesk(do func(*cobra.Command, *exercise.Desk, string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		gallery, err := exercise.Carried()
		if err != nil {
			return err
		}
		record, err := exercise.DefaultRecord()
		if err != nil {
			return err
		}
		out, log := cmd.OutOrStdout(), cmd.ErrOrStderr()
		desk := &exercise.Desk{
			Gallery: gallery, Record: record, Judge: exercise.Checker{},
			Out: out, Print: printOptions(out, false), Log: log, Progress: checkProgress(log),
		}
		err = do(cmd, desk, append(args, "")[0])
		var unknown *exercise.UnknownError
		if errors.As(err, &unknown) {
			return usageError{err}
		}
		return err
	}
}

func completeExercises(
	_ *cobra.Command, args []string, _ string,
) ([]string, cobra.ShellCompDirective) {
	gallery, err := exercise.Carried()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp // no completion
	}
	var names []string
	for _, e := range gallery.Exercises {
		names = append(names, e.Name+"\t"+e.Title)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
