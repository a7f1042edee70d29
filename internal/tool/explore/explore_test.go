//go:build linux

package explore_test

import (
	"context"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"lesson/internal/lesson"
	"lesson/internal/server"
	"lesson/internal/tool/explore"
)

// program runs a lesson.
func program(t testing.TB, name string) explore.Program {
	l, err := lesson.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return func(k explore.Kernel, started func(func())) {
		s, err := l.Start(k, server.Options{Addr: netip.MustParseAddrPort("127.0.0.1:8080"), Backlog: 16})
		if err != nil {
			panic(err)
		}
		started(s.Stop)
		if err := s.Serve(); err != nil {
			panic(err)
		}
	}
}

func TestLessons(t *testing.T) {
	for _, name := range []string{"epoll", "edgetriggered", "loop"} {
		t.Run(name, func(t *testing.T) {
			r := explore.Explore(context.Background(), program(t, name), explore.Options{
				Scenarios: explore.Scenarios(), Depth: depth(), For: forTime(), Faults: explore.Faults{Short: true, Errors: true},
			}, nil)
			t.Logf("%d executions in %v: %.0f a second", r.Executions, r.Took, float64(r.Executions)/r.Took.Seconds())
			if r.Failure != nil {
				t.Errorf("%s: %s: %s", r.Scenario, r.Failure.Kind, r.Failure.Text)
				for i, step := range r.Story.Steps {
					t.Logf("%3d %s", i+1, step.Text)
				}
				t.Log(r.Replay)
			}
		})
	}
}

func depth() int {
	n, _ := strconv.Atoi(os.Getenv("DEPTH"))
	return max(n, 1)
}

func forTime() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("FOR"))
	return d
}
