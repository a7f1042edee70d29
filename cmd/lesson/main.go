//go:build linux

// Command lesson runs, lists and compares the lessons: the same tiny server,
// waiting for its clients in five ways.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"lesson/internal/report"
)

// usageError is a command line that makes no sense: exit status 2.
type usageError struct{ error }

// cannotRun is something that stands in the way of an answer: exit status 2.
type cannotRun struct{ error }

// errFails is an answer that has been given already, and is no: exit status 1,
// and no more words.
var errFails = errors.New("some fail")

func main() {
	root := newRoot()
	out := report.NewOutput(os.Stdout)
	root.SetOut(out)
	err := root.Execute()
	if lost := out.Err(); lost != nil { // whatever else there was to say, it could not be read
		err = fmt.Errorf("the output is not complete: %w", lost)
	}
	if err == nil {
		return
	}
	if err != errFails {
		complain(os.Stderr, err)
	}
	var usage usageError
	var cannot cannotRun
	if errors.As(err, &usage) || errors.As(err, &cannot) {
		os.Exit(2)
	}
	os.Exit(1)
}

// complain prints an error. Its text may be of paths and commands that are not ours.
func complain(w io.Writer, err error) {
	fmt.Fprintln(w, "lesson:", report.PrintableLines(err.Error()))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "lesson",
		Short: "How a server waits for many clients: one tiny server, five ways",
		Long: `lesson runs the same tiny server in five ways: it reads a request up to an
empty line, answers "Hello, world!" and closes. What differs is how it waits.

lesson next shows where to begin, and what comes after that.`,
		Example: `  lesson next                       the one thing to do now
  lesson list                       the lessons, step by step
  lesson blocking --trace           step 1, and every system call as it happens
  lesson diff epoll edgetriggered   what edge-triggering changes`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newLessons()...)
	root.AddCommand(
		newNext(), newList(), newDiff(), newCheck(), newExplore(), newExercise(), newRace(), newBench(), newCrowd(), newDemo(),
		newTrace(), newTour(), newQuiz(), newPid(), newVersion(), newMan(),
	)
	root.InitDefaultCompletionCmd() // Execute would add it too late to be marked
	markUsageErrors(root)
	return root
}

// markUsageErrors makes every error about flags and arguments a usageError
// that ends with where to find help.
func markUsageErrors(cmd *cobra.Command) {
	mark := func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath())}
	}
	cmd.SetFlagErrorFunc(mark)
	if !cmd.Runnable() { // cobra looks at the arguments of others only
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			if err := args(cmd, given); err != nil {
				return mark(cmd, err)
			}
			return nil
		}
	}
	for _, child := range cmd.Commands() {
		markUsageErrors(child)
	}
}
