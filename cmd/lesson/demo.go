//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"lesson/internal/report"
	"lesson/internal/tool/demo"
)

func newDemo() *cobra.Command {
	var list, asJSON bool
	var svg string
	cmd := &cobra.Command{
		Use:   "demo [NAME]",
		Short: "Run a small experiment with the kernel",
		Long: `Runs an experiment and prints what it has measured: tables, and conclusions from
them. An experiment takes less than 20 seconds, and uses only the loopback
interface.

Without a name it lists the experiments.

Exit status: 0 if the experiment ran, 1 if it cannot run here.`,
		Example: `  lesson demo
  lesson demo backlog
  lesson demo backlog --json | jq .data`,
		Args: func(cmd *cobra.Command, args []string) error {
			if list {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.MaximumNArgs(1)(cmd, args)
		},
		ValidArgsFunction: completeDemos,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if svg != "" {
					return usageError{errors.New("name the experiment that --svg draws, as in:" +
						" lesson demo backlog --svg backlog.svg")}
				}
				return printList(cmd, demo.Listing(), asJSON, demo.All())
			}
			d, err := demo.Find(args[0])
			if err != nil {
				return usageError{err}
			}
			if svg != "" && !d.Drawn {
				return usageError{fmt.Errorf("%s has no drawing, because its tables show everything;"+
					" there are drawings of: %s", d.Name, drawn())}
			}
			return runDemo(cmd, d, asJSON, svg)
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list the experiments, as without a name")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&svg, "svg", "",
		"also draw the result into `file`; there are drawings of: "+drawn())
	return cmd
}

// drawn returns the names of the experiments that can be drawn.
func drawn() string {
	var names []string
	for _, d := range demo.All() {
		if d.Drawn {
			names = append(names, d.Name)
		}
	}
	return strings.Join(names, ", ")
}

func runDemo(cmd *cobra.Command, d demo.Demo, asJSON bool, svg string) (err error) {
	picture, err := report.Create(svg)
	if err != nil {
		return err
	}
	defer finish(picture, &err)
	ctx, cancel := untilSignal()
	defer cancel()
	var o demo.Options
	if log := cmd.ErrOrStderr(); report.Width(log) > 0 {
		o.Say = func(format string, args ...any) { fmt.Fprintf(log, format+"\n", args...) }
	}
	result, err := d.Run(ctx, o)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		err = fmt.Errorf("demo %s: %w", d.Name, err)
	}
	if result == nil {
		return err
	}
	if svg != "" {
		err = errors.Join(err, picture.Write(result.Draw))
	}
	if asJSON {
		return errors.Join(err, report.JSON(cmd.OutOrStdout(), result))
	}
	result.Print(cmd.OutOrStdout())
	return err
}

func completeDemos(
	_ *cobra.Command, args []string, _ string,
) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) == 0 {
		for _, d := range demo.All() {
			names = append(names, d.Name+"\t"+d.Title)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
