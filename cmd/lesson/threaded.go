//go:build linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newThreaded() *cobra.Command {
	var netpoll bool
	cmd := &cobra.Command{
		Use:   "threaded",
		Short: "Step 3: a goroutine, and so an OS thread, per connection",
		Long: `Serves each connection on a goroutine of its own, with the blocking code of
step 1. A goroutine that blocks in a system call occupies an OS thread.

With --netpoll, the same through package net: the Go runtime parks a waiting
goroutine and watches its socket with edge-triggered epoll.

Chapters: docs/03-a-goroutine-each.md, docs/10-go-already-does-this.md`,
		Example: `  lesson threaded
  lesson threaded --max-conns 10          the eleventh client waits in the accept queue
  lesson threaded --netpoll               hardly any threads`,
		Args: cobra.NoArgs,
	}
	flags := addServeFlags(cmd)
	cmd.Flags().IntVar(&flags.maxConns, "max-conns", 1000,
		"serve at most `N` connections, and so run N threads, at a time")
	cmd.Flags().BoolVar(&netpoll, "netpoll", false,
		"serve through package net, parked by the Go runtime")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := within("max-conns", flags.maxConns, 1, mostThreads); err != nil {
			return err
		}
		if netpoll && cmd.Flags().Changed("max-conns") {
			return usageError{errors.New("--max-conns bounds threads, and with --netpoll" +
				" a connection has none; leave one of the two out")}
		}
		if netpoll {
			return serve(cmd, "netpoll", flags)
		}
		return serve(cmd, "threaded", flags)
	}
	return cmd
}
