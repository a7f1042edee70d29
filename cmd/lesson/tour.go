//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"

	"lesson/internal/lesson"
	"lesson/internal/report"
	"lesson/internal/site"
	"lesson/internal/tool/tour"
)

// tourFlags are the flags of lesson tour.
type tourFlags struct {
	addr   string
	open   bool
	export string
	force  bool
	only   []string
}

func newTour() *cobra.Command {
	var f tourFlags
	cmd := &cobra.Command{
		Use:   "tour [flags] [-- COMMAND…]",
		Short: "Show the lessons side by side in the browser",
		Long: `Serves a page and prints its address. The page shows the chapters, and beside
them the running servers, each with the source line at which it is blocked. One
click lets a client act on all of them at once. Each page has servers of its
own, which end when it is closed.

--only chooses the servers with which the page begins: lessons (netpoll is
threaded --netpoll) and exercises, such as exercise/06-one-read-per-edge. A
command after -- is a server of your own, which is shown beside them; {port},
{addr} and {host} in it are replaced.

--export writes a site to a folder, for any static web host. On its first page,
the lessons run in the browser on a simulated kernel. The page is one file,
which also opens without a web host. The other page shows the chapters, and
recordings of the servers. The lessons are compiled for the browser with the go
command. See docs/tour.md.`,
		Example: `  lesson tour --open
  lesson tour --only loop,epoll
  lesson tour --only edgetriggered,exercise/06-one-read-per-edge
  lesson tour -- ./my_server {addr}
  lesson tour --export site`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() != 0 && len(args) > 0 {
				return usageError{fmt.Errorf("unexpected %q; the command goes after --,"+
					" as in: lesson tour -- ./my_server {addr}", args[0])}
			}
			return f.run(cmd, args)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.addr, "addr", "127.0.0.1:8090",
		"serve the page on this `host:port`; port 0 lets the kernel choose")
	flags.BoolVar(&f.open, "open", false, "open the page in the browser")
	flags.StringSliceVar(&f.only, "only", nil,
		"begin with these `servers`, as in loop,exercise/06-one-read-per-edge (default: as many lessons as fit the page)")
	flags.StringVar(&f.export, "export", "", "write a static site to this `folder`, and end")
	flags.BoolVar(&f.force, "force", false, "with --export: overwrite an index.html that the tour did not write")
	return cmd
}

func (f *tourFlags) run(cmd *cobra.Command, program []string) error {
	at, err := lesson.ParseAddr("--addr", f.addr)
	if err = cmp.Or(err, needs(cmd, "force", "export"), exclude(cmd, "addr", "export")); err != nil {
		return err
	}
	t, err := tour.New(tour.Options{Columns: f.only, Program: program, Live: site.Page})
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := untilSignal()
	defer cancel()
	if f.export != "" {
		return f.writeSite(ctx, cmd, t)
	}
	listener, err := tour.Listen(f.addr)
	if err != nil {
		return lesson.ListenError(at, err)
	}
	addr := listener.Addr().(*net.TCPAddr)
	if !addr.IP.IsLoopback() {
		fmt.Fprintf(cmd.ErrOrStderr(), "lesson: any program that reaches %s can start servers on this machine;"+
			" the page has no password\n", addr)
	}
	url := "http://" + addr.String() + "/"
	if addr.IP.IsUnspecified() { // listens everywhere, reached here
		url = fmt.Sprintf("http://127.0.0.1:%d/", addr.Port)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s    stop: Ctrl-C\n", url)
	if f.open {
		openBrowser(cmd.ErrOrStderr(), url)
	}
	return t.Serve(ctx, listener, f.addr)
}

func (f *tourFlags) writeSite(ctx context.Context, cmd *cobra.Command, t *tour.Tour) error {
	out := cmd.OutOrStdout()
	err := t.Export(ctx, f.export, f.force,
		func(name string) { fmt.Fprintf(out, "recorded %s\n", name) })
	if errors.Is(err, tour.ErrForeign) {
		err = fmt.Errorf("%s is left as it is: %w; name another folder, or overwrite it with --force",
			f.export, err)
	}
	if err = errors.Join(err, t.Close()); err != nil {
		return err
	}
	fmt.Fprintf(out, "look at it with: python3 -m http.server --bind 127.0.0.1 --directory %s\n",
		report.Printable(f.export))
	if f.open {
		openBrowser(cmd.ErrOrStderr(), filepath.Join(f.export, "index.html"))
	}
	return nil
}

// openBrowser opens the page. Without a browser, the page is served all the same.
func openBrowser(log io.Writer, url string) {
	opener := exec.Command("xdg-open", url)
	if err := opener.Start(); err != nil {
		fmt.Fprintf(log, "lesson: cannot open a browser: %v; open the address yourself\n", err)
		return
	}
	go func() { _ = opener.Wait() }() // the browser shows what has become of it
}
