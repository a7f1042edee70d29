//go:build linux

// Command lesson runs, lists and compares the lessons: the same tiny server, which
// waits for its clients in five ways.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"lesson/internal/report"
)

// A cannotRun is an error that prevents an answer: exit status 2.
type cannotRun struct{ error }

// errFails reports a negative answer that has already been printed: exit status 1,
// without a message.
var errFails = errors.New("some fail")

func main() {
	root := newRoot()
	out := report.NewOutput(os.Stdout)
	root.SetOut(out)
	err := root.Execute()
	if lost := out.Err(); lost != nil { // more important than any other error
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

// complain prints an error, whose text may contain paths and commands of the user.
func complain(w io.Writer, err error) {
	fmt.Fprintln(w, "lesson:", report.PrintableLines(err.Error()))
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "lesson",
		Short: "How a server waits for many clients: one tiny server, five ways",
		Long: `lesson runs the same tiny server in five ways. The server reads a request up to
an empty line, answers "Hello, world!", and closes the connection. The five
differ in how they wait.

To begin, type: lesson next`,
		Example: `  lesson next                       the one thing to do now
  lesson list                       the lessons, step by step
  lesson blocking --trace           step 1, and every system call as it happens
  lesson diff epoll edgetriggered   what edge-triggering changes`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		// Before any command runs.
		PersistentPreRunE: refuseEmptyLists,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newLessons()...)
	root.AddCommand(
		newNext(), newList(), newDiff(), newCheck(), newExplore(), newExercise(), newRace(), newBench(), newCrowd(), newDemo(),
		newTrace(), newTour(), newQuiz(), newPid(), newVersion(), newMan(),
	)
	root.SetHelpCommand(newHelp())
	root.InitDefaultHelpCmd() // Execute would add it and the next too late to be marked
	root.InitDefaultCompletionCmd()
	markUsageErrors(root)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(),
		".FlagUsages", ".FlagUsagesWrapped 80")) // columns
	return root
}
