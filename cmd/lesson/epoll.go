//go:build linux

package main

import "github.com/spf13/cobra"

func newEpoll() *cobra.Command {
	var edge bool
	cmd := &cobra.Command{
		Use:   "epoll",
		Short: "Step 4: one event loop, level-triggered epoll",
		Long: `Serves all connections on one thread. No system call but epoll_wait ever blocks.
Level-triggered: epoll reports an event for as long as its cause lasts.

Chapter: docs/04-level-triggered.md`,
		Example: `  lesson epoll
  lesson epoll --edge                     step 5, the same as lesson edgetriggered
  lesson epoll --trace                    what epoll_wait returns, and what follows
  lesson epoll --loops 2 --quiet          a loop for each of two processors`,
		Args: cobra.NoArgs,
	}
	flags := addServeFlags(cmd)
	addLoopsFlag(cmd, flags)
	cmd.Flags().BoolVar(&edge, "edge", false, "edge-triggered: step 5")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := within("loops", flags.loops, 1, mostLoops); err != nil {
			return err
		}
		if edge {
			return serve(cmd, "edgetriggered", flags)
		}
		return serve(cmd, "epoll", flags)
	}
	return cmd
}
