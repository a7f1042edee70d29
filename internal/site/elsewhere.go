package site

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Elsewhere is the command lesson on a system that is not Linux. `lesson tour` serves the
// page, or writes it to a folder; any other command is an error with what to run instead.
func Elsewhere(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || args[0] != "tour" {
		return instead(args)
	}
	flags := flag.NewFlagSet("lesson tour", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says it
	addr := flags.String("addr", "127.0.0.1:8090", "")
	dir := flags.String("export", "", "")
	open := flags.Bool("open", false, "")
	if err := flags.Parse(args[1:]); err != nil || flags.NArg() > 0 {
		return errors.Join(err, fmt.Errorf("on %s the flags of lesson tour are --addr host:port, "+
			"--export folder and --open", runtime.GOOS))
	}
	fmt.Fprintln(out, "the kernel is simulated here: the real one needs Linux; compiling the lessons for the browser…")
	page, err := Page(ctx, "")
	if err != nil {
		return err
	}
	if *dir != "" {
		if err := os.MkdirAll(*dir, 0o755); err != nil {
			return err
		}
		file := filepath.Join(*dir, "index.html")
		if err := os.WriteFile(file, page, 0o644); err != nil || !*open {
			return err
		}
		return show(runtime.GOOS, file)
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("http://%s/", listener.Addr())
	fmt.Fprintf(out, "%s    stop: Ctrl-C\n", url)
	if *open {
		if err := show(runtime.GOOS, url); err != nil {
			fmt.Fprintf(out, "cannot open a browser: %v; open the address yourself\n", err)
		}
	}
	return serve(ctx, listener, page)
}

// show opens a page with the system's own command.
func show(system, page string) error {
	command := opener(system)
	return exec.Command(command[0], append(command[1:], page)...).Run()
}

func opener(system string) []string {
	switch system {
	case "darwin":
		return []string{"open"}
	case "windows":
		return []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	return []string{"xdg-open"}
}

// serve serves the page until the context ends.
func serve(ctx context.Context, listener net.Listener, page []byte) error {
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "index.html", time.Time{}, bytes.NewReader(page))
		}),
	}
	closed := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer closed()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// instead returns what to run in place of a command that needs Linux.
func instead(args []string) error {
	command := strings.Join(append([]string{"lesson"}, args...), " ")
	if len(args) == 0 {
		args = []string{"list"}
	}
	return fmt.Errorf(`%s needs Linux: epoll is a system call of Linux alone.
To act on the servers here, over a simulated kernel, in the browser:
  go run ./cmd/lesson tour
To run it on Linux, with Docker:
  docker run -it --rm -v .:/lesson -w /lesson golang go run ./cmd/lesson %s`, command, strings.Join(args, " "))
}
