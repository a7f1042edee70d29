//go:build linux

package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages of all commands into a folder",
		Example: "  lesson man build/man && man build/man/lesson-epoll.1",
		Hidden:  true, // for scripts/man.sh
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return doc.GenManTree(cmd.Root(), &doc.GenManHeader{Section: "1", Source: "lesson"}, args[0])
		},
	}
}
