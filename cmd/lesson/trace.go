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
		Use:   "trace [--addr ADDR] -- COMMAND…",
		Short: "Where does my own server stand? Its system calls, with the lines that make them",
		Long: `Starts a server of your own and prints its system calls, as --trace does for a
lesson: each as it is entered, so that the last line is where the server stands now.
{addr}, {host} and {port} in the command become those of --addr.

In a program that Go has built, each call is shown with the line of your source that
makes it, and what the Go runtime does for itself is left out (but for its epoll_wait,
in which one thread waits for all goroutines). Build it first: go run leaves out what
is needed for that. Of other programs, the calls are shown without lines.`,
		Example: `  lesson trace -- ./server {addr}
  lesson trace -- python3 my_server.py {port}
  lesson trace --json -- ./server {addr} > calls.json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 0 || len(args) == 0 {
				return usageError{errors.New("a command stands after --," +
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
	flags.StringVar(&addr, "addr", "127.0.0.1:8080", "what {addr} becomes: `host:port`")
	flags.BoolVar(&asJSON, "json", false, "each call as two lines of JSON, when entered and when left")
	return cmd
}

func traceProgram(cmd *cobra.Command, command []string, at netip.AddrPort, asJSON bool) error {
	ctx, cancel := untilSignal()
	defer cancel()
	program := child.Program{
		Name: command[0], Command: command,
		Born: func(pid int) error {
			_, err := program.Watch(observer(cmd.OutOrStdout(), asJSON), fromHere, pid)
			return err // it is watched until it ends
		},
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "when it listens, try: curl http://%s/    stop: Ctrl-C\n", at)
	server, err := program.StartAt(ctx, at)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return server.Stop()
	case <-server.Proc.Ended():
		how, _ := server.Proc.Status()
		fmt.Fprintf(cmd.ErrOrStderr(), "\nthe server has ended: %s\n", how)
		return server.End() // its children may live on
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
