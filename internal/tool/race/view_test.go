//go:build linux

package race

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lesson/internal/observe/trace"
	"lesson/internal/play"
)

const ms = time.Millisecond

// began is when the made-up plays began, on the machine's clock.
const began = 1000 * time.Hour

func address(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(40000+n))
}

// made returns an invented play: one client that is slow until slow, and others that
// connect at 100 ms and are answered at answered.
func made(quick int, slow, answered time.Duration) play.Record {
	r := play.Record{Began: began, Lasted: max(slow, answered) + 2*ms}
	add := func(name, role string, at, asked, first time.Duration, acts ...play.Done) {
		acts = append([]play.Done{{Do: play.Connect, Due: at, At: at, Until: at + ms}}, acts...)
		r.Clients = append(r.Clients, play.Seen{
			Client: play.Client{Name: name, Role: role}, Addr: address(len(r.Clients)),
			Connected: at + ms, Asked: asked, FirstByte: first, Ended: first + ms,
			How: play.Answered, Acts: acts,
		})
	}
	add("slow", play.Slow, 0, slow, slow+ms,
		play.Done{Do: play.Send, At: 2 * ms, Until: 2 * ms},
		play.Done{Do: play.Send, Due: slow, At: slow, Until: slow},
		play.Done{Do: play.ReadAndClose, Due: slow, At: slow, Until: slow + ms})
	for i := range quick {
		at := 100 * ms
		add(fmt.Sprintf("quick-%d", i+1), play.Quick, at, at+2*ms, answered,
			play.Done{Do: play.Send, Due: at, At: at + 2*ms, Until: at + 2*ms},
			play.Done{Do: play.ReadAndClose, Due: at, At: at + 2*ms, Until: answered + ms})
	}
	return r
}

// events is a trace, made up.
type events []trace.Event

// call is a call of the server's; to 0 is one that has not been left.
func (l *events) call(name string, who int, from, to time.Duration, change ...func(*trace.Event)) {
	number := int64(len(*l) + 1)
	e := trace.Event{
		Call: number, At: began + from, Name: name, FD: 6, File: "blocking/once.go", Line: 110,
	}
	if who >= 0 && name != "accept4" {
		e.Peer = address(who)
	}
	if name == "accept4" {
		e.FD, e.Line = 5, 58
	}
	for _, c := range change {
		c(&e)
	}
	*l = append(*l, e)
	if to == 0 {
		return
	}
	e.At, e.Left, e.Took = began+to, true, to-from
	if name == "accept4" && who >= 0 {
		e.Peer, e.Result = address(who), 6
	}
	*l = append(*l, e)
}

func failed(err string) func(*trace.Event) {
	return func(e *trace.Event) { e.Err = err }
}

func args(text string) func(*trace.Event) {
	return func(e *trace.Event) { e.Args = text }
}

// oneAfterTheOther returns the trace of a loop that serves slow and then the quick ones.
func oneAfterTheOther(quick int, slow time.Duration) events {
	var l events
	l.call("accept4", 0, -time.Hour, ms)
	l.call("read", 0, 2*ms, 3*ms)
	l.call("read", 0, 3*ms, slow)
	l.call("send", 0, slow, slow+50*time.Microsecond)
	l.call("close", 0, slow+60*time.Microsecond, slow+70*time.Microsecond)
	at := slow + 100*time.Microsecond
	for i := range quick {
		l.call("accept4", i+1, at, at+10*time.Microsecond)
		l.call("read", i+1, at+20*time.Microsecond, at+30*time.Microsecond)
		l.call("send", i+1, at+40*time.Microsecond, at+50*time.Microsecond)
		l.call("close", i+1, at+60*time.Microsecond, at+70*time.Microsecond)
		at += 100 * time.Microsecond
	}
	l.call("accept4", -1, at, 0)
	return l
}

// seenAt is what a server of that name looks like after a play.
func seenAt(name string, record play.Record, log events) Server {
	s := Server{Name: name, Title: "made up", Command: "lesson " + name, Lasted: record.Lasted}
	newView(record, log, true, 0).fill(&s)
	return s
}

// Which client waits for which is judged by the order of events.
func TestWhoIsKeptWaiting(t *testing.T) {
	const slow = 2 * time.Second
	loop := oneAfterTheOther(3, slow)
	for _, c := range []struct {
		name   string
		record play.Record
		events func() events
		want   int
	}{
		{"a loop is blocked in read until the slow client sends", made(3, slow, slow+ms),
			func() events { return loop }, 3},
		{"no client waits when all were answered before", made(3, slow, 103*ms), func() events {
			return early(slow)
		}, 0},
		{"another thread accepts meanwhile", made(3, slow, slow+ms), func() events {
			l := slices.Clone(loop)
			l.call("accept4", -1, 4*ms, slow-ms)
			return l
		}, 0},
		{"the slow one's connection is in an interest list", made(3, slow, slow+ms), func() events {
			var l events
			l.call("epoll_ctl", 0, ms, ms+1)
			return append(l, renumbered(loop, 1)...)
		}, 0},
		{"a long call in which the slow one did nothing", made(3, slow, slow+ms), func() events {
			var l events
			l.call("accept4", 0, -time.Hour, ms)
			l.call("read", 0, 3*ms, slow-ms) // on a busy machine
			return l
		}, 0},
		{"a time that ran out, with a bound on it", made(3, slow, slow+ms), func() events {
			var l events
			l.call("accept4", 0, -time.Hour, ms)
			l.call("setsockopt", 0, 2*ms, 2*ms+1, args("6, SO_RCVTIMEO, 2.000 s"))
			l.call("read", 0, 3*ms, slow-ms, failed("EAGAIN"))
			return l
		}, 3},
		{"and without one: it did not wait", made(3, slow, slow+ms), func() events {
			var l events
			l.call("accept4", 0, -time.Hour, ms)
			l.call("read", 0, 3*ms, slow-ms, failed("EAGAIN"))
			return l
		}, 0},
		{"a read that is never left", made(3, slow, slow+ms), func() events {
			var l events
			l.call("accept4", 0, -time.Hour, ms)
			l.call("read", 0, 3*ms, 0)
			return l
		}, 3},
		{"one that is left after the play", made(3, slow, slow+ms), func() events {
			var l events
			l.call("accept4", 0, -time.Hour, ms)
			l.call("read", 0, 3*ms, time.Hour)
			return l
		}, 3},
		{"less than half of the wait", made(3, 1000*ms, 3*time.Second), func() events {
			return oneAfterTheOther(3, 1000*ms)
		}, 0},
	} {
		s := seenAt("loop", c.record, c.events())
		if len(s.Kept) != c.want {
			t.Errorf("%s: %d kept waiting, want %d: %+v", c.name, len(s.Kept), c.want, s.Kept)
		}
		for _, k := range s.Kept {
			if !slices.Equal(k.By, []string{"slow"}) || k.At != "blocking/once.go:110" {
				t.Errorf("%s: %+v", c.name, k)
			}
		}
	}
}

// early is the trace of a server that reads what slow sends when the quick ones are
// served already.
func early(slow time.Duration) events {
	var l events
	l.call("accept4", 0, -time.Hour, 104*ms)
	l.call("read", 0, 105*ms, slow)
	return l
}

// renumbered is calls with other numbers, for another log to go before.
func renumbered(l events, by int64) events {
	out := slices.Clone(l)
	for i := range out {
		out[i].Call += by * 1000
	}
	return out
}

// flooded returns the play with two more clients, each of which sent until its flood
// reached its bound.
func flooded(r play.Record) play.Record {
	for i := range 2 {
		r.Clients = append(r.Clients, play.Seen{
			Client: play.Client{Name: fmt.Sprintf("flooder-%d", i+1), Role: play.Flooder},
			Addr:   address(len(r.Clients)), Connected: ms, Ended: r.Lasted, How: play.Flooded,
		})
	}
	return r
}

func TestSentences(t *testing.T) {
	const slow = 2 * time.Second
	for _, c := range []struct {
		server Server
		want   string
	}{
		{seenAt("loop", made(3, slow, slow+ms), oneAfterTheOther(3, slow)),
			"All 4 clients that sent a request were answered. 3 clients waited 1.90 s for slow: the" +
				" server was blocked in read on its connection, at blocking/once.go:110. None of the 3" +
				" quick clients was answered before slow finished."},
		{seenAt("loop", made(3, slow, 103*ms), early(slow)),
			"All 4 clients that sent a request were answered. The server was never blocked on one" +
				" client while another waited. All 3 quick clients were answered before slow finished."},
		{seenAt("loop", flooded(made(3, slow, 103*ms)), early(slow)),
			"All 4 clients that sent a request were answered, 2 were never refused. The server was" +
				" never blocked on one client while another waited. All 3 quick clients were answered" +
				" before any of the 3 others finished."},
	} {
		if c.server.Sentence != c.want {
			t.Errorf("got  %s\nwant %s", c.server.Sentence, c.want)
		}
	}
}

func TestLengths(t *testing.T) {
	for d, want := range map[time.Duration]string{
		9 * time.Microsecond: "9 µs", 120 * time.Microsecond: "0.1 ms",
		1249 * time.Microsecond: "1.2 ms", 9940 * time.Microsecond: "9.9 ms", 12 * ms: "12 ms", 994 * ms: "994 ms", 1902 * ms: "1.90 s",
	} {
		if got := length(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for _, c := range []struct {
		least, most time.Duration
		want        string
	}{
		{1730 * ms, 1902 * ms, "1.73 to 1.90 s"}, {12 * ms, 12 * ms, "12 ms"},
		{500 * time.Microsecond, 1200 * ms, "0.5 ms to 1.20 s"},
	} {
		if got := span(c.least, c.most); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestThreadsAtTheSameTime(t *testing.T) {
	at := func(from, to time.Duration, line int) call {
		return call{Event: trace.Event{Name: "read", File: "a.go", Line: line}, from: from, to: to}
	}
	got := fmt.Sprint(atTheSameTime([]call{
		at(0, 10, 1), at(2, 4, 2), at(4, 6, 1), at(20, 21, 2), {Event: trace.Event{Name: "send"}, to: 9},
	}))
	var want []Span
	for _, s := range []Span{
		{From: 0, To: 2, At: "a.go:1", Many: 1}, {From: 2, To: 4, At: "a.go:1", Many: 2},
		{From: 4, To: 6, At: "a.go:1", Many: 2}, {From: 6, To: 10, At: "a.go:1", Many: 1},
		{From: 20, To: 21, At: "a.go:2", Many: 1},
	} {
		s.What = "read"
		want = append(want, s)
	}
	if got != fmt.Sprint(want) {
		t.Errorf("got %s, want %v", got, want)
	}
}

func TestNamesInASentence(t *testing.T) {
	for names, want := range map[string]string{
		"a": "a", "a b": "a and b", "a b c": "a, b and c", "a b c d": "a, b, c and d",
		"a b c d e": "a, b, c and 2 others",
	} {
		if got := list(strings.Fields(names), 3); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTicks(t *testing.T) {
	for until, want := range map[time.Duration]string{
		2002 * ms: "[0s 500ms 1s 1.5s 2s]", 80 * ms: "[0s 20ms 40ms 60ms 80ms]",
		6 * time.Second: "[0s 1s 2s 3s 4s 5s 6s]", 1: "[0s]",
	} {
		if got := fmt.Sprint(ticks(until)); got != want {
			t.Errorf("%v: %s, want %s", until, got, want)
		}
	}
}

func TestFolding(t *testing.T) {
	var rows []Row
	for i := range 100 {
		rows = append(rows, Row{
			Name: fmt.Sprint(i), Role: play.Quick, Waited: time.Duration(i+1) * ms,
			How: play.Answered,
		})
	}
	shown, folded := fold(rows, 12)
	var names []string
	for _, r := range shown {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "0 95 96 97 98 99" || len(folded) != 94 {
		t.Errorf("%s, and %d more", got, len(folded))
	}
	want := "94 more: waited 2.0 to 95 ms; half of them at most 48 ms, 90 % at most 85 ms."
	if got := distribution(folded); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if shown, folded := fold(rows[:12], 12); len(shown) != 12 || folded != nil {
		t.Error("12 are folded")
	}
}

var update = flag.Bool("update", false, "rewrite testdata/*.golden")

// What a terminal shows, to the character.
func TestPrint(t *testing.T) {
	const slow = 2 * time.Second
	slowClient, err := play.Many().Find("slow-client")
	if err != nil {
		t.Fatal(err)
	}
	few := made(3, slow, slow+ms)
	quick := made(3, slow, 103*ms)
	var threads events
	threads.call("accept4", 0, -time.Hour, ms)
	threads.call("read", 0, 2*ms, 3*ms)
	threads.call("read", 0, 3*ms, slow)
	threads.call("accept4", 1, 2*ms, 101*ms)
	threads.call("read", 1, 101*ms, 103*ms)
	threads.call("accept4", -1, 101*ms, 0)
	r := &Report{Scenario: slowClient, Lasted: few.Lasted, Servers: []Server{
		seenAt("loop", few, oneAfterTheOther(3, slow)),
		seenAt("threaded", quick, threads),
		{Name: "netpoll", Title: "made up", Untraced: true, Lasted: quick.Lasted},
		seenAt("loop", made(50, slow, slow+ms), oneAfterTheOther(50, slow)),
	}}
	newView(quick, nil, false, 0).fill(&r.Servers[2])
	for _, width := range []int{60, 80, 160} {
		var out strings.Builder
		r.Print(&out, PrintOptions{Width: width})
		golden(t, fmt.Sprintf("print-%d.golden", width), out.String())
	}
	printable(t, r)

	var plain, coloured strings.Builder
	r.Print(&plain, PrintOptions{})
	r.Print(&coloured, PrintOptions{Colour: true})
	if strings.Contains(plain.String(), "\x1b") ||
		!strings.Contains(coloured.String(), "\x1b[32m█\x1b[0m") {
		t.Error("colour where none was asked for, or none where it was")
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; look at it, and run: go test ./internal/tool/race -update\n%s", file, got)
	}
}
