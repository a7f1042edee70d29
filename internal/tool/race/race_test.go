//go:build linux

package race

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"lesson/internal/lesson"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/server"
)

// The lessons that the tests race are this test program, started again with the
// arguments of the command.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		// The race detector would make every server end a second late.
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
		// The races wait for their clients and need no processor: all at once.
		flag.Parse()
		if err := flag.Set("test.parallel", "10"); err != nil {
			log.Fatal(err)
		}
		os.Exit(m.Run())
	}
	if err := serveLesson(os.Args[1], os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

func serveLesson(name string, args []string) error {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	addr := flags.String("addr", "", "")
	events := flags.String("trace-json", "", "")
	edge := flags.Bool("edge", false, "")
	netpoll := flags.Bool("netpoll", false, "")
	_ = flags.Bool("quiet", false, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *edge:
		name = "edgetriggered"
	case *netpoll:
		name = "netpoll"
	}
	l, err := lesson.Find(name)
	if err != nil {
		return err
	}
	run := lesson.Run{
		Lesson: l, Log: os.Stderr,
		Options: server.Options{
			Addr: netip.MustParseAddrPort(*addr), Backlog: 4096, Timeout: time.Minute, MaxConns: 1000,
		},
	}
	if *events != "" {
		file, err := os.Create(*events)
		if err != nil {
			return err
		}
		defer file.Close()
		run.Trace = trace.NewRecorder(trace.JSON(file))
	}
	return run.Do()
}

// race runs a scenario against lessons.
func race(t *testing.T, name string, only ...string) *Report {
	t.Helper()
	s, err := play.Many().Find(name)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Run(t.Context(), Options{Scenario: s, Only: only})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Servers) != len(only) && len(only) > 0 || report.Interrupted {
		t.Fatalf("%d servers, interrupted %v", len(report.Servers), report.Interrupted)
	}
	printable(t, report)
	t.Cleanup(func() {
		if t.Failed() {
			var out strings.Builder
			report.Print(&out, PrintOptions{Width: 120})
			t.Log(out.String())
		}
	})
	return report
}

// A judgement is a test that keeps what is wrong with a report for itself.
type judgement struct {
	testing.TB
	wrong []string
}

func (j *judgement) Errorf(format string, args ...any) {
	j.wrong = append(j.wrong, fmt.Sprintf(format, args...))
}

func (j *judgement) Error(args ...any) { j.Errorf("%s", fmt.Sprint(args...)) }

// judged runs a scenario against lessons and judges the report. A play during which the
// machine stalled is not the one of the scenario: it is played again, a few times.
func judged(t *testing.T, name string, lessons []string, judge func(testing.TB, *Report)) {
	t.Helper()
	const plays, stall = 4, 100 * time.Millisecond
	for play := 1; ; play++ {
		longest := longestGap()
		r := race(t, name, lessons...)
		j := &judgement{TB: t}
		judge(j, r)
		gap := longest()
		if len(j.wrong) == 0 {
			return
		}
		for _, s := range r.Servers {
			gap = max(gap, s.longestRun())
		}
		if gap < stall || play == plays {
			t.Errorf("play %d, in which the machine stalled for %v:\n%s", play, gap, strings.Join(j.wrong, "\n"))
			return
		}
		t.Logf("again, because the machine stalled for %v", gap)
	}
}

// longestGap looks at the clock all the time, and returns a function that ends this and
// returns the longest time in which it could not.
func longestGap() (end func() time.Duration) {
	const every = 5 * time.Millisecond
	over, found := make(chan struct{}), make(chan time.Duration)
	go func() {
		longest := time.Duration(0)
		for last := time.Now(); ; {
			select {
			case <-over:
				found <- longest
				return
			case <-time.After(every):
			}
			longest = max(longest, time.Since(last)-every)
			last = time.Now()
		}
	}()
	return func() time.Duration {
		close(over)
		return <-found
	}
}

// longestRun returns the longest time between two calls of the server.
func (s Server) longestRun() time.Duration {
	longest := time.Duration(0)
	for _, lane := range s.Lanes {
		for _, span := range lane.Spans {
			if span.What == Running {
				longest = max(longest, span.To-span.From)
			}
		}
	}
	return longest
}

// printable holds every report of the tests to the width of its terminal.
func printable(t *testing.T, r *Report) {
	t.Helper()
	for _, width := range []int{60, 67, 80, 160} {
		var out strings.Builder
		r.Print(&out, PrintOptions{Width: width})
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
				t.Errorf("%d columns on a terminal of %d: %q", n, width, line)
			}
		}
	}
}

func (r *Report) server(t testing.TB, name string) Server {
	t.Helper()
	for _, s := range r.Servers {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no server %s", name)
	return Server{}
}

// count is how many clients of a role ended so.
func (s Server) count(role string, how play.Outcome) int {
	n := 0
	for _, r := range s.Rows {
		if r.Role == role && r.How == how {
			n++
		}
	}
	return n
}

// One at a time: the second client waits for the first, in a blocking read
// of that one's connection. The others serve the quick ones meanwhile.
func TestWhoWaitsForTheSlowOne(t *testing.T) {
	t.Parallel()
	judged(t, "slow-client", []string{"blocking", "loop", "threaded", "epoll", "edgetriggered", "netpoll"}, func(t testing.TB, r *Report) {
		loop := r.server(t, "loop")
		if len(loop.Kept) != 8 {
			t.Errorf("loop kept %d clients waiting, want 8: %+v", len(loop.Kept), loop.Kept)
		}
		for _, k := range loop.Kept {
			if !slices.Contains(k.By, "slow") || k.Call != "read" ||
				!strings.HasPrefix(k.At, "blocking/once.go:") || k.Waited < time.Second {
				t.Errorf("loop: %+v", k)
			}
		}
		if loop.count(play.Quick, play.Answered) != 8 {
			t.Error("loop has not answered every client in the end")
		}
		if place := loop.Stood[0]; place.Call != "read" || !slices.Equal(place.For, []string{"slow"}) {
			t.Errorf("loop stood longest in %+v", place)
		}
		for _, name := range []string{"threaded", "epoll", "edgetriggered", "netpoll"} {
			s := r.server(t, name)
			if len(s.Kept) != 0 || s.count(play.Quick, play.Answered) != 8 ||
				!strings.Contains(s.Sentence, "All 8 quick clients were answered before slow finished") {
				t.Errorf("%s: %s", name, s.Sentence)
			}
		}
		for name, call := range map[string]string{"epoll": "epoll_wait", "edgetriggered": "epoll_wait"} {
			if place := r.server(t, name).Stood[0]; place.Call != call {
				t.Errorf("%s stood longest in %+v", name, place)
			}
		}
		blocking := r.server(t, "blocking")
		if !blocking.Ended || blocking.count(play.Slow, play.Answered) != 1 ||
			blocking.count(play.Quick, play.Answered) != 0 {
			t.Errorf("blocking: ended %v: %s", blocking.Ended, blocking.Sentence)
		}
		if s := r.server(t, "netpoll"); len(s.Lanes) != 0 || !s.Untraced ||
			!strings.Contains(s.Sentence, "the trace cannot show them") {
			t.Errorf("netpoll: %d lanes: %s", len(s.Lanes), s.Sentence)
		}
	})
}

func TestAStuckClientStopsOnlyTheLoop(t *testing.T) {
	t.Parallel()
	judged(t, "stuck", []string{"loop", "threaded", "epoll", "edgetriggered"}, func(t testing.TB, r *Report) {
		loop := r.server(t, "loop")
		if loop.count(play.Quick, play.GaveUp) != 8 || len(loop.Kept) != 8 {
			t.Errorf("loop: %s", loop.Sentence)
		}
		for _, s := range r.Servers[1:] {
			if s.count(play.Quick, play.Answered) != 8 || len(s.Kept) != 0 {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
		}
	})
}

func TestAReaderWhoDoesNotReadIsLingeredFor(t *testing.T) {
	t.Parallel()
	judged(t, "slow-reader", []string{"loop", "threaded", "epoll", "edgetriggered"}, func(t testing.TB, r *Report) {
		loop := r.server(t, "loop")
		if len(loop.Kept) != 6 || loop.count(play.Slow, play.Answered) != 2 {
			t.Errorf("loop: %s", loop.Sentence)
		}
		for _, s := range r.Servers[1:] {
			if len(s.Kept) != 0 || s.count(play.Slow, play.Answered) != 2 {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
		}
	})
}

func TestAFloodStarvesNobody(t *testing.T) {
	t.Parallel()
	judged(t, "flooder", []string{"loop", "threaded", "epoll", "edgetriggered"}, func(t testing.TB, r *Report) {
		for _, s := range r.Servers {
			if s.count(play.Quick, play.Answered) != 8 ||
				s.count(play.Flooder, play.TooLarge) != 2 {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
			if s.Name != "loop" && !strings.Contains(s.Sentence, "All 8 quick clients were answered before") {
				t.Errorf("%s lets the quick clients wait: %s", s.Name, s.Sentence)
			}
		}
	})
}

// Two hundred connections, told of once or again and again: all are served.
func TestABurstIsServedWhole(t *testing.T) {
	t.Parallel()
	judged(t, "burst", []string{"epoll", "edgetriggered"}, func(t testing.TB, r *Report) {
		for _, s := range r.Servers {
			if s.count(play.Quick, play.Answered) != 200 {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
			if s.Frozen == 0 || s.Lanes[0].Spans[0].What != Stopped {
				t.Errorf("%s was not stopped: %+v", s.Name, s.Lanes[0].Spans[0])
			}
		}
		if s := r.Servers[0].Sentence; !strings.Contains(s, "listener 200 times for 200") {
			t.Errorf("epoll: %s", s)
		}
		if s := r.Servers[1].Sentence; !strings.Contains(s, "listener once for 200") {
			t.Errorf("edgetriggered: %s", s)
		}
	})
}

func TestHalfRequests(t *testing.T) {
	t.Parallel()
	judged(t, "half-requests", []string{"loop", "threaded", "epoll", "edgetriggered"}, func(t testing.TB, r *Report) {
		for _, s := range r.Servers {
			if s.count(play.Slow, play.Answered) != 30 ||
				s.count(play.Quick, play.Answered) != 3 {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
			waited := slices.ContainsFunc(s.Kept, func(k Kept) bool {
				return strings.HasPrefix(k.Client, "quick")
			})
			if waited != (s.Name == "loop") {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
		}
	})
}

func TestTwoWritesOneEdge(t *testing.T) {
	t.Parallel()
	judged(t, "two-writes-one-edge", []string{"loop", "threaded", "epoll", "edgetriggered"}, func(t testing.TB, r *Report) {
		for _, s := range r.Servers {
			if s.count(play.Quick, play.Answered) != 4 {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
		}
	})
}

func TestACrowdIsServedWhole(t *testing.T) {
	t.Parallel()
	judged(t, "crowd", []string{"loop", "threaded", "epoll", "edgetriggered"}, func(t testing.TB, r *Report) {
		for _, s := range r.Servers {
			if s.count(play.Quick, play.Answered) != 100 {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
			alone := strings.Contains(s.Sentence, "At most 1 connection was open")
			if alone != (s.Name == "loop") {
				t.Errorf("%s: %s", s.Name, s.Sentence)
			}
		}
	})
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := play.Many().Find("slow-client")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Scenario: s, Only: []string{"loop", "epoll"}}
	o.Progress = func(lasted time.Duration, _, _ int) {
		if lasted > 700*time.Millisecond {
			cancel()
		}
	}
	r, err := Run(ctx, o)
	if err != nil || !r.Interrupted || len(r.Servers) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, s := range r.Servers {
		if len(s.Rows) != 9 || len(s.Lanes) == 0 || s.Rows[0].How != play.Open {
			t.Errorf("%s: %s", s.Name, s.Sentence)
		}
	}
	printable(t, r)

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if r, _ := Run(cancelled, o); r == nil || !r.Interrupted {
		t.Errorf("before it began: %+v", r)
	}
}

func TestWhatCannotBeRaced(t *testing.T) {
	if _, err := Run(t.Context(), Options{Only: []string{"nosuch"}}); err == nil ||
		!strings.Contains(err.Error(), "there are blocking, loop") {
		t.Errorf("%v", err)
	}
	all, err := lesson.FindAll(nil)
	if err != nil || len(all) != len(lesson.All()) {
		t.Errorf("%d lessons, %v", len(all), err)
	}
}

func TestAsDataAndAsPage(t *testing.T) {
	t.Parallel()
	r := race(t, "two-writes-one-edge", "loop", "edgetriggered")
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(back.Servers) != fmt.Sprint(r.Servers) {
		t.Error("the report has changed on its way through JSON")
	}
	var page bytes.Buffer
	if err := r.WritePage(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"<svg", "edgetriggered", "two-4", "stopped by SIGSTOP", r.Servers[0].Sentence,
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	for _, not := range []string{"http://", "https://", "<script", "src="} {
		// The name of the SVG namespace is no address to load.
		if strings.Contains(strings.ReplaceAll(page.String(), "http://www.w3.org/2000/svg", ""), not) {
			t.Errorf("the page has %q", not)
		}
	}
}
