//go:build linux

package main

import (
	"github.com/spf13/cobra"

	"lesson/internal/lesson"
)

func newList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the lessons, with their chapters and files",
		Example: `  lesson list
  lesson list --json | jq -r '.[].chapter'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printList(cmd, lesson.Listing(), asJSON, lesson.All())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
