//go:build linux

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"lesson/internal/compare"
	"lesson/internal/lesson"
	"lesson/internal/terminal"
)

// sideBySideWidth is the narrowest terminal on which two columns of code can be
// read, and the width used in a pipe.
const sideBySideWidth = 120

func newDiff() *cobra.Command {
	var sideBySide bool
	var width int
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Two lessons against each other: what changes from A to B",
		Long: `Compares the main source files of two lessons: as a unified diff, or with
--side-by-side in two columns. In colour on a terminal, unless NO_COLOR is set.`,
		Example: `  lesson diff epoll edgetriggered
  lesson diff --side-by-side epoll edgetriggered | less -R
  lesson diff threaded netpoll`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeLessons,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := mainFile(args[0])
			if err != nil {
				return err
			}
			b, err := mainFile(args[1])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			colour := terminal.Colour(out)
			if !sideBySide {
				text, err := compare.Unified(a, b, colour)
				fmt.Fprint(out, text)
				return err
			}
			if width == 0 {
				width = max(terminal.Width(out), sideBySideWidth)
			}
			text, err := compare.SideBySide(a, b, width, colour)
			fmt.Fprint(out, text)
			return err
		},
	}
	cmd.Flags().BoolVarP(&sideBySide, "side-by-side", "y", false, "two columns")
	cmd.Flags().IntVarP(&width, "width", "w", 0,
		"`columns` in all with --side-by-side; 0 is as wide as the terminal")
	return cmd
}

func completeLessons(
	*cobra.Command, []string, string,
) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, l := range lesson.WithVariants() {
		names = append(names, l.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// mainFile is the first of a lesson's files in reading order.
func mainFile(name string) (compare.Text, error) {
	l, err := lesson.Find(name)
	if err != nil {
		return compare.Text{}, usageError{err}
	}
	body, err := lesson.Source(l.Files[0])
	return compare.Text{Name: l.Files[0], Body: body}, err
}
