//go:build linux

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"lesson/internal/child"
)

func newPid() *cobra.Command {
	return &cobra.Command{
		Use:   "pid [ADDR]",
		Short: "Print the process id of the server that listens on an address",
		Long: `Prints the id of each process that has a listener on the port of ADDR, one per
line, the lowest first. The default for ADDR is ` + defaultAddr + `.
It is for commands such as kill -STOP $(lesson pid).

Exit status: 0 if it printed a process id, 1 if no process that you may inspect
listens there, 2 if ADDR is not an address.`,
		Example: `  lesson pid
  lesson pid 127.0.0.1:9000`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			addr, err := serverAt("ADDR", append(args, defaultAddr)[0])
			if err != nil {
				return err
			}
			pids, err := child.Listening(addr.Port())
			if err != nil {
				return err
			}
			for _, pid := range pids {
				fmt.Fprintln(cmd.OutOrStdout(), pid)
			}
			return nil
		},
	}
}
