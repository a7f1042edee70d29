//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"lesson/internal/report"
	"lesson/internal/tool/bench"
)

// benchFlags are the flags of lesson bench.
type benchFlags struct {
	options bench.Options
	only    []string
	also    []string

	asJSON  bool
	html    string
	results string
}

func newBench() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a request costs: the lessons, and any other server",
		Long: `Sends one request after the other, each on a connection of its own, to every
lesson and to any other server, and reports what a request costs: processor
time, system calls, context switches, threads and memory. It also reports how
many requests a server answers in a second, and how long each takes.

The servers are measured in turn, round by round, and compared with the first
within each round. The report shows how busy the client was. Where the client
was saturated, requests per second describe the client, and are not compared.

With --rate, requests become due at that rate whether the server answers or not,
and latency is counted from the moment when a request was due.

The lesson blocking is left out, because it serves one client and ends. See
docs/bench.md.`,
		Example: `  lesson bench
  lesson bench --only epoll,loop --conns 64 --rounds 9
  lesson bench --also 'mine=python3 my_server.py {port}'
  lesson bench --only epoll --rate 5000 --conns 64
  lesson bench --html bench.html`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntSliceVar(&f.options.Conns, "conns", nil,
		"numbers of connections open at a time: `sizes`, measured one after the other"+
			" (default 1,16,64,512; with --rate 64)")
	flags.DurationVar(&f.options.During, "duration", time.Second, "`time` that a round lasts")
	flags.IntVar(&f.options.Rounds, "rounds", 5, "measure each server `N` times with each size")
	flags.Float64Var(&f.options.Rate, "rate", 0,
		"let `N` requests become due each second, an open loop (default 0: a closed loop,"+
			" in which a client sends its next request when it is answered)")
	flags.DurationVar(&f.options.Timeout, "timeout", bench.DefaultTimeout,
		"`time` that a client waits for an answer")
	flags.StringSliceVar(&f.only, "only", nil,
		"measure only these `lessons`, as in loop,epoll, and compare them with the first;"+
			" none leaves out all lessons")
	addAlso(cmd, &f.also)
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	flags.StringVar(&f.html, "html", "", "also write a page with charts to `file`")
	flags.StringVarP(&f.results, "output", "o", "", "also write the results to `file`, as --json does")
	return cmd
}

func (f *benchFlags) run(cmd *cobra.Command) (err error) {
	if err := f.servers(); err != nil {
		return usageError{err}
	}
	if len(f.options.Conns) == 0 {
		f.options.Conns = []int{1, 16, 64, 512}
		if f.options.Rate > 0 {
			f.options.Conns = []int{64}
		}
	}
	if err := f.options.Check(); err != nil {
		return usageError{err}
	}
	page, err := report.Create(f.html)
	if err != nil {
		return err
	}
	defer finish(page, &err)
	results, err := report.Create(f.results)
	if err != nil {
		return err
	}
	defer finish(results, &err)
	status := report.NewStatus(cmd.ErrOrStderr())
	f.options.Progress = func(part float64, next string) {
		status.Show("%s  %s", report.Percent(part, 0), next)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "servers: %d, sizes: %d, rounds: %d of %v each; about %v\n",
		len(f.options.Servers), len(f.options.Conns), f.options.Rounds, f.options.During,
		f.options.Estimate().Round(time.Second))
	ctx, cancel := untilSignal()
	defer cancel()
	result, err := bench.Run(ctx, f.options)
	status.Wipe()
	if result == nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.asJSON {
		err = errors.Join(err, report.JSON(out, result))
	} else {
		result.Print(out, bench.PrintOptions{Width: report.Width(out)})
	}
	command := report.CommandLine(append([]string{"lesson"}, os.Args[1:]...)...)
	return errors.Join(err,
		results.Write(func(w io.Writer) error { return report.JSON(w, result) }),
		page.Write(func(w io.Writer) error { return result.Page(w, command) }))
}

// servers chooses the servers to measure: first the lessons, then the others.
func (f *benchFlags) servers() error {
	if len(f.only) == 0 {
		f.options.Remarks = bench.LeftOut()
	}
	if !noLessons(f.only) {
		lessons, err := bench.Lessons(f.only...)
		if err != nil {
			return err
		}
		f.options.Servers = lessons
	}
	programs, err := also(f.only, f.also)
	f.options.Servers = append(f.options.Servers, programs...)
	return err
}
