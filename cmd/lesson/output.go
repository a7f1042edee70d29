//go:build linux

package main

import (
	"errors"

	"github.com/spf13/cobra"

	"lesson/internal/report"
)

// printList prints a table that a terminal has room for, or, for machines, all of it.
func printList(cmd *cobra.Command, table *report.Table, asJSON bool, all any) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return report.JSON(out, all)
	}
	if width := report.Width(out); width > 0 {
		table.Width = width
	}
	table.Print(out)
	return nil
}

// finish closes a file, and adds to err what that says.
func finish(file *report.File, err *error) {
	if failed := file.Close(); failed != nil {
		*err = errors.Join(*err, failed)
	}
}
