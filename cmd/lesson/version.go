//go:build linux

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the versions of this program, of Go, and of the kernel",
		Example: "  lesson version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "(devel)"
			if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
				version = info.Main.Version
			}
			var uname unix.Utsname
			if err := unix.Uname(&uname); err != nil {
				return fmt.Errorf("uname: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "lesson %s, %s, Linux %s, %s\n",
				version, runtime.Version(), unix.ByteSliceToString(uname.Release[:]), runtime.GOARCH)
			return nil
		},
	}
}
