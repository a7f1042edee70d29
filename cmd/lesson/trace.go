//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"lesson/internal/child"
	"lesson/internal/observe/program"
	"lesson/internal/observe/trace"
	"lesson/internal/report"
)

func newTrace() *cobra.Command {
	var addr string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "trace [flags] -- COMMAND…",
		Short: "Trace the system calls of a server, with their source lines",
		Long: `Starts a server of your own and prints its system calls, as --trace does for a
lesson. Each call is printed as it is entered, so the last line shows where the
server is blocked. {addr}, {host} and {port} in the command are replaced by the
parts of --addr.

In a program built by Go, each call is shown with the line of your source that
makes it. The calls of the Go runtime are left out, except its epoll_wait, in
which one thread waits for all goroutines. Build the program with go build: go
run leaves out the line numbers. The calls of a program in C or C++ have lines
if it is compiled with -g, those of one in Python if CPython 3.11 to 3.14 runs
it. For other programs, the calls are shown without
lines.`,
		Example: `  lesson trace -- ./server {addr}
  lesson trace -- python3 my_server.py {port}
  lesson trace --json -- ./server {addr} > calls.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 0 || len(args) == 0 {
				return usageError{errors.New("the command goes after --," +
					" as in: lesson trace -- ./server {addr}")}
			}
			if len(args) > 1 && filepath.Base(args[0]) == "go" && args[1] == "run" {
				return usageError{errors.New("go run builds without lines; build it first:" +
					" go build -o server . && lesson trace -- ./server {addr}")}
			}
			to, err := hostPort("--addr", addr)
			if err != nil {
				return err
			}
			return traceProgram(cmd, args, to, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&addr, "addr", defaultAddr,
		"replace {addr} by this `host:port`; port 0 chooses a free one")
	flags.BoolVar(&asJSON, "json", false, "print each call as two lines of JSON: when it is entered, and when it returns")
	return cmd
}

func traceProgram(cmd *cobra.Command, command []string, at netip.AddrPort, asJSON bool) error {
	if at.Port() == 0 {
		port, err := child.FreePort()
		if err != nil {
			return err
		}
		at = netip.AddrPortFrom(at.Addr(), port)
	}
	ctx, cancel := untilSignal()
	defer cancel()
	started := child.Program{
		Name: command[0], Command: command,
		Born: func(pid int) error {
			foreign := func() {
				fmt.Fprintln(cmd.ErrOrStderr(), "lesson: the calls cannot be shown: "+program.Foreign)
			}
			_, err := program.Watch(observer(cmd.OutOrStdout(), asJSON), fromHere, foreign, pid)
			return err // it is watched until it ends
		},
	}
	try := func(when string, at netip.AddrPort) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s, try: curl http://%s/    stop: Ctrl-C\n", when, at)
	}
	if !started.ChoosesPort() {
		try("when it listens", at)
	}
	server, err := started.StartAt(ctx, at)
	if err != nil {
		return err
	}
	if started.ChoosesPort() {
		try("it listens", server.Addr)
	}
	if why := program.WithoutLines(server.Pid()).Text; why != "" {
		fmt.Fprintln(cmd.ErrOrStderr(), "lesson: "+why)
	}
	select {
	case <-ctx.Done():
		return server.Stop()
	case <-server.Proc.Ended():
		how, _ := server.Proc.Status()
		fmt.Fprintf(cmd.ErrOrStderr(), "\nthe server has ended: %s\n", how)
		return server.End() // its children may still run
	}
}

func observer(w io.Writer, asJSON bool) trace.Observer {
	if asJSON {
		return trace.NewRecorder(trace.JSON(w))
	}
	return trace.NewRecorder(trace.Print(w, report.Colour(w)))
}

// fromHere returns the path of a source file from the current folder, if the file is in
// it, and otherwise the file with the folder that it is in.
func fromHere(file string) string {
	if here, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(here, file); err == nil && filepath.IsLocal(relative) {
			return relative
		}
	}
	return filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
}
