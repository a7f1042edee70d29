//go:build linux

package main

import "github.com/spf13/cobra"

func newLoop() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "loop",
		Short: "Step 2: the accept loop; one client at a time",
		Long: `Serves clients one after the other. While it waits for a slow one, all others
wait in the accept queue.

Chapter: docs/02-a-loop.md`,
		Example: `  lesson loop
  lesson loop --trace --timeout 10s       no client may hold the others up for longer`,
		Args: cobra.NoArgs,
	}
	flags := addServeFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return serve(cmd, "loop", flags) }
	return cmd
}
