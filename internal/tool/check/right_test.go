//go:build linux

package check

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/proof"
)

// serveFramework starts a server on package net/http, with one of these handlers.
const (
	serveFramework = "CHECK_TEST_FRAMEWORK"
	readsBodies    = "reads bodies"
	ignoresBodies  = "ignores bodies"
	makesGarbage   = "makes garbage"
)

// garbage is what each request leaves to the collector.
const garbage = 1 << 20

func runFramework(handler, addr string) error {
	timeout, err := time.ParseDuration(os.Getenv(withTimeout))
	if err != nil {
		return err
	}
	var last []byte
	server := &http.Server{
		Addr: addr, ReadHeaderTimeout: timeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if handler != ignoresBodies {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			if handler == makesGarbage {
				last = make([]byte, garbage)
				last[r.ContentLength&1] = 1
			}
			_, _ = io.WriteString(w, "Hello, world!")
		}),
	}
	stopped := make(chan error)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	go func() {
		<-signals
		stopped <- server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// Servers of five kinds that are right: an event loop, a thread for each connection,
// several processes, a framework that answers with the date, and a runtime that collects
// its garbage.
var rightServers = []struct {
	name    string
	command func(*testing.T) []string
	model   Model
}{
	{"net/http", framework(readsBodies), EventLoop},
	{"event loop", compiled("testdata/faults/loop.c"), EventLoop},
	{"threads", compiled("testdata/faults/threads.c"), Threaded},
	{"net/http with garbage", framework(makesGarbage), EventLoop},
	{"1 worker", prefork("WORKERS=1"), EventLoop},
	{"2 workers", prefork("WORKERS=2"), EventLoops},
	{"4 workers", prefork("WORKERS=4"), EventLoops},
	{"4 workers with a listener each", prefork("WORKERS=4", "REUSEPORT=1"), EventLoops},
}

func framework(handler string) func(*testing.T) []string {
	return func(*testing.T) []string { return command(serveFramework, handler) }
}

func prefork(environment ...string) func(*testing.T) []string {
	return func(t *testing.T) []string {
		return append(append([]string{"env"}, environment...), compiled("testdata/right/prefork.c")(t)...)
	}
}

func compiled(source string) func(*testing.T) []string {
	return func(t *testing.T) []string { return knownFault{source: source}.command(t) }
}

// A right server holds every must, whatever its kind, also when both cores are busy with
// others.
func TestRightServersHold(t *testing.T) {
	proof.OnlyExhaustive(t, "right servers of every kind, two at a time; a minute")
	const atATime = 2
	places := make(chan struct{}, atATime)
	for _, s := range rightServers {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			places <- struct{}{}
			defer func() { <-places }()
			report, err := Run(t.Context(), Target{Command: s.command(t)}, Options{
				Timeout: 2 * time.Second,
			})
			must(t, err)
			t.Logf("%.1f s", report.Took.Seconds())
			if report.Model != s.model {
				t.Errorf("guessed %s, want %s (%s)", report.Model, s.model, report.Seen)
			}
			for _, r := range report.Failed() {
				if r.Severity == Must {
					t.Errorf("%s: got %s, want %s, because %s", r.Address, r.Got, r.Want, r.Cause)
				}
			}
		})
	}
}
