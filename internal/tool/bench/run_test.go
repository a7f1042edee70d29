//go:build linux

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/internal/child"
	"lesson/internal/protocol"
)

// The test binary is also the server that is measured: with serverAddr in its
// environment it listens there, and ends after as many requests as serverEnds says.
const serverAddr, serverEnds = "BENCH_TEST_ADDR", "BENCH_TEST_ENDS"

func TestMain(m *testing.M) {
	if addr := os.Getenv(serverAddr); addr != "" {
		fmt.Fprintln(os.Stderr, "test server:", serveAt(addr))
		os.Exit(1)
	}
	// Most of a run is waiting for its rounds to end: all of them can, side by side.
	if err := flag.Set("test.parallel", "8"); err != nil {
		log.Fatal(err)
	}
	os.Exit(m.Run())
}

func serveAt(addr string) error {
	most := -1
	if text := os.Getenv(serverEnds); text != "" {
		if _, err := fmt.Sscan(text, &most); err != nil {
			return err
		}
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for n := 0; n != most; n++ {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		hear(c.(*net.TCPConn))
		respond(c.(*net.TCPConn), protocol.Response)
		if err := c.Close(); err != nil {
			return err
		}
	}
	return errors.New("that is all")
}

// program is one that serves, ends times and no more ("" is forever).
func program(t *testing.T, name, ends string) child.Program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return child.Program{Name: name, Command: []string{"sh", "-c",
		fmt.Sprintf("%s={addr} %s=%s exec '%s'", serverAddr, serverEnds, ends, self)}}
}

func shortRun(servers ...child.Program) Options {
	return Options{Servers: servers, Conns: []int{1, 8}, During: 50 * time.Millisecond, Rounds: 2, counted: 100}
}

func TestRoundsAreInterleaved(t *testing.T) {
	t.Parallel()
	o := shortRun(program(t, "a", ""), program(t, "b", ""))
	var order []string
	o.Progress = func(part float64, next string) {
		if part < 0 || part > 1 {
			t.Errorf("part %v of the run", part)
		}
		order = append(order, next)
	}
	report, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"starting a", "starting b"}
	for _, conns := range []int{1, 8} {
		for _, name := range []string{"a", "b"} {
			want = append(want, fmt.Sprintf("%d at a time: warming up %s", conns, name))
		}
		for round := 1; round <= 2; round++ {
			for _, name := range []string{"a", "b"} {
				want = append(want, fmt.Sprintf("%d at a time, round %d of 2: %s", conns, round, name))
			}
		}
	}
	for _, conns := range []int{1, 8} {
		for _, name := range []string{"a", "b"} {
			want = append(want, fmt.Sprintf("counting system calls, %d at a time: %s", conns, name))
		}
	}
	if !slices.Equal(order, want) {
		t.Errorf("the order is\n%s\nwant\n%s", strings.Join(order, "\n"), strings.Join(want, "\n"))
	}
	checkReport(t, report)
}

// checkReport checks that a report of shortRun has all its figures.
func checkReport(t *testing.T, report *Report) {
	t.Helper()
	if report.Missing != 0 || report.Took <= 0 || report.Machine.Kernel == "" {
		t.Errorf("%+v", report)
	}
	for i, server := range report.Servers {
		if len(server.Sizes) != 2 || server.Ended != "" || server.Answer != "" {
			t.Fatalf("%+v", server)
		}
		for j, s := range server.Sizes {
			if s.Conns != []int{1, 8}[j] || len(s.Rounds) != 2 || s.served() == 0 || s.Errors != (Errors{}) {
				t.Errorf("%s: %+v", server.Name, s)
			}
			if s.CPU.Median <= 0 || s.PerSecond.Median <= 0 || s.Busy <= 0 || s.Threads < 1 || s.Peak < 1<<20 {
				t.Errorf("%s: %+v", server.Name, s)
			}
			l := s.Latency
			if l.P50 <= 0 || !slices.IsSorted([]float64{l.P50, l.P90, l.P99, l.P999, l.Max}) || s.SinceSent != nil {
				t.Errorf("%s: %+v, since sent %v", server.Name, l, s.SinceSent)
			}
			if s.NotCalls == "" && (!near2(s.Calls["accept4"], 1) || !near2(s.Calls["close"], 1)) {
				t.Errorf("%s: calls %v", server.Name, s.Calls)
			}
			if (s.CPURatio != nil) != (i > 0) {
				t.Errorf("%s: the ratio is %v", server.Name, s.CPURatio)
			}
		}
	}
}

// near2 allows for accept4 to have said EAGAIN, which package net asks for.
func near2(got, want float64) bool { return got >= want && got <= 2*want+0.1 }

func TestReportsAreWritten(t *testing.T) {
	t.Parallel()
	o := shortRun(program(t, "a <b>&", ""), program(t, "c", ""))
	o.Rate = 400
	report, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range report.Servers {
		for _, s := range report.Servers[i].Sizes {
			if s.SinceSent == nil || s.SinceSent.P50 > s.Latency.P50*1.01 {
				t.Errorf("since due %+v, since sent %+v", s.Latency, s.SinceSent)
			}
			if s.served()+s.Errors.All()+s.Unsent != 40 { // 400 a second in 2 rounds of 50 ms
				t.Errorf("served %d, %+v, not sent %d", s.served(), s.Errors, s.Unsent)
			}
		}
	}
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	var one, other, page bytes.Buffer
	report.Print(&one, PrintOptions{})
	again.Print(&other, PrintOptions{})
	if one.String() != other.String() {
		t.Error("a report says something else after it was JSON")
	}
	for _, width := range []int{80, 120} {
		var out bytes.Buffer
		report.Print(&out, PrintOptions{Width: width})
		for line := range strings.Lines(out.String()) {
			if n := len([]rune(strings.TrimRight(line, "\n"))); n > width {
				t.Errorf("%d columns, and a line of %d: %s", width, n, line)
			}
		}
	}
	if err := report.Page(&page, "lesson bench"); err != nil {
		t.Fatal(err)
	}
	if html := page.String(); strings.Contains(html, "<b>") || !strings.Contains(html, "a &lt;b&gt;&amp;") {
		t.Error("a name is markup in the page")
	}
}

func TestAServerThatEnds(t *testing.T) {
	t.Parallel()
	o := shortRun(program(t, "a", ""), program(t, "ends", "20")) // fewer than the clients ask
	o.Rounds = 3
	report, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	ends := report.Servers[1]
	if ends.Ended == "" || len(ends.Sizes) != 2 {
		t.Fatalf("%+v", ends)
	}
	for _, s := range ends.Sizes {
		if len(s.Rounds) != 3 {
			t.Errorf("%d rounds, want 3, some of them empty", len(s.Rounds))
		}
	}
	if notes := strings.Join(report.Notes(), "\n"); !strings.Contains(notes, "ends ended while") {
		t.Errorf("the notes are %s", notes)
	}
	for _, s := range report.Servers[0].Sizes {
		if s.Errors != (Errors{}) || s.served() == 0 {
			t.Errorf("the other is %+v", s)
		}
	}
}

func TestAServerThatCannotBeMeasured(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, command, err string
	}{
		{"ends", "exit 3 # {addr}", "ends: sh -c exit 3"},
		{"nothing", "exec /no/such/program {addr}", "not found"},
	}
	for _, test := range tests {
		o := shortRun(program(t, "a", ""), child.Program{
			Name: test.name, Command: []string{"sh", "-c", test.command}})
		report, err := Run(context.Background(), o)
		if report != nil {
			t.Errorf("%s: a report", test.name)
		}
		checkError(t, test.name, err, test.err)
	}
	_, err := Run(context.Background(), Options{})
	checkError(t, "no server", err, "no server")
}

func TestAnInterruptedRunKeepsItsRounds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := shortRun(program(t, "a", ""), program(t, "b", ""))
	o.Progress = func(_ float64, next string) {
		if next == "8 at a time, round 1 of 2: b" {
			cancel()
		}
	}
	report, err := Run(ctx, o)
	if !errors.Is(err, context.Canceled) || report == nil {
		t.Fatalf("%v, %v", report, err)
	}
	if report.Missing != 3 {
		t.Errorf("%d rounds are missing, want 3", report.Missing)
	}
	if n := len(report.Servers[0].Sizes); n != 2 {
		t.Errorf("the first server has %d sizes, want 2", n)
	}
	if n := len(report.Servers[1].Sizes); n != 1 {
		t.Errorf("the second server has %d sizes, want 1", n)
	}
	var out bytes.Buffer
	report.Print(&out, PrintOptions{Width: 80})
	if !strings.Contains(out.String(), "interrupted: 3 rounds are missing") {
		t.Errorf("it does not say so:\n%s", out.String())
	}
	early, stop := context.WithCancel(context.Background())
	stop()
	if report, err := Run(early, shortRun(program(t, "a", ""))); report != nil || err == nil {
		t.Errorf("interrupted before the first round: %v, %v", report, err)
	}
}
