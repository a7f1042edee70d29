//go:build linux

package main

import "github.com/spf13/cobra"

func newEdgetriggered() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "edgetriggered",
		Short: "Step 5: one event loop, edge-triggered epoll",
		Long: `Serves all connections on one thread, as step 4 does. Edge-triggered: epoll reports
each change once, so each must be followed up to the end.

Chapter: docs/05-edge-triggered.md`,
		Example: `  lesson edgetriggered
  lesson edgetriggered --trace            reads and accepts go on until EAGAIN
  lesson diff epoll edgetriggered         what differs from step 4`,
		Args: cobra.NoArgs,
	}
	flags := addServeFlags(cmd)
	addLoopsFlag(cmd, flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := within("loops", flags.loops, 1, mostLoops); err != nil {
			return err
		}
		return serve(cmd, "edgetriggered", flags)
	}
	return cmd
}
