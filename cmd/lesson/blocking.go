//go:build linux

package main

import "github.com/spf13/cobra"

func newBlocking() *cobra.Command {
	var loop bool
	cmd := &cobra.Command{
		Use:   "blocking",
		Short: "Step 1: one blocking accept; serve one client, then exit",
		Long: `Accepts one connection, reads its request, answers it, closes, and exits with
status 0. In three of its system calls it stands still: --trace shows where.

Chapter: docs/01-one-client.md`,
		Example: `  lesson blocking
  lesson blocking --trace                 see it stand in accept4
  lesson blocking --addr '[::1]:9000'     listen on IPv6
  lesson blocking --loop                  the same as lesson loop`,
		Args: cobra.NoArgs,
	}
	flags := addServeFlags(cmd)
	cmd.Flags().BoolVar(&loop, "loop", false, "serve one client after the other: step 2")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if loop {
			return serve(cmd, "loop", flags)
		}
		return serve(cmd, "blocking", flags)
	}
	return cmd
}
