//go:build linux

package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"lesson/internal/lesson"
)

func newList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "The lessons, step by step, with their chapters and files",
		Example: `  lesson list
  lesson list --json | jq -r '.[].chapter'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(cmd.OutOrStdout(), lesson.All())
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(table, "STEP\tCOMMAND\tWHAT IT IS\tCHAPTER\tFILES")
			for _, l := range lesson.All() {
				files := strings.Join(l.Files, ", ")
				fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", l.Step, l.Command, l.Title, l.Chapter, files)
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "for machines")
	return cmd
}
