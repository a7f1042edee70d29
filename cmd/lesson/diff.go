//go:build linux

package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lesson/internal/lesson"
	"lesson/internal/report"
)

// sideBySideWidth is the narrowest terminal on which two columns of code can be
// read, and the width used in a pipe.
const sideBySideWidth = 120

func newDiff() *cobra.Command {
	var sideBySide bool
	var width int
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Show what changes from one lesson to another",
		Long: `Compares the source files of two lessons: as a unified diff, or in two columns
with --side-by-side. A and B are names in lesson list, or netpoll, which is
threaded --netpoll. A file that both lessons use is only named. On a terminal
the output is in colour, unless NO_COLOR is set.`,
		Example: `  lesson diff epoll edgetriggered
  lesson diff --side-by-side epoll edgetriggered | less -R
  lesson diff threaded netpoll`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeLessons,
		RunE: func(cmd *cobra.Command, args []string) error {
			const narrowest = 20
			if err := cmp.Or(
				needs(cmd, "width", "side-by-side"),
				atLeast(cmd, "width", width, narrowest),
			); err != nil {
				return err
			}
			lessonA, err := lesson.Find(args[0])
			if err != nil {
				return usageError{err}
			}
			lessonB, err := lesson.Find(args[1])
			if err != nil {
				return usageError{err}
			}
			a, b, both, err := lesson.Differ(lessonA, lessonB)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			colour := report.Colour(out)
			if len(both) > 0 {
				fmt.Fprintf(out, "both use %s\n", strings.Join(both, ", "))
			}
			if a == b {
				return nil
			}
			if !sideBySide {
				fmt.Fprint(out, report.Unified(a, b, colour))
				return nil
			}
			if width == 0 {
				width = max(report.Width(out), sideBySideWidth)
			}
			fmt.Fprint(out, report.SideBySide(a, b, width, colour))
			return nil
		},
	}
	cmd.Flags().BoolVarP(&sideBySide, "side-by-side", "y", false, "print two columns")
	cmd.Flags().IntVarP(&width, "width", "w", 0,
		"with --side-by-side: use `N` columns (default: as many as the terminal has, and at least 120)")
	return cmd
}

func completeLessons(
	*cobra.Command, []string, string,
) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, l := range lesson.All() {
		names = append(names, l.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
