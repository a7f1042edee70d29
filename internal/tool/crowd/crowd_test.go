//go:build linux

package crowd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"lesson/internal/proof"
)

// quick is options for crowds so large, one round.
func quick(conns ...int) Options {
	return Options{
		Conns: conns, Rounds: 1, Idle: 50 * time.Millisecond,
		Hold: []string{started, "hold"}, AcceptOnly: []string{started, "accept"},
	}
}

// growing returns the sizes of a crowd through which a line is fitted: two, and one
// between them in the exhaustive run.
func growing() []int {
	if proof.Exhaustive() {
		return []int{50, 100, 200}
	}
	return []int{50, 200}
}

func measure(t *testing.T, o Options, targets ...Target) *Report {
	t.Helper()
	r, err := Run(t.Context(), targets, o)
	proof.Must(t, err)
	return r
}

func (r *Report) find(t *testing.T, name string) Server {
	t.Helper()
	for _, s := range r.Servers {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no server %s in the report", name)
	return Server{}
}

func TestWhatAConnectionCosts(t *testing.T) {
	t.Parallel()
	pairs := [2][2]string{{"threaded", "netpoll"}, {"epoll", "edgetriggered"}}
	var reports [len(pairs)]*Report
	t.Run("measured", func(t *testing.T) {
		for i, pair := range pairs {
			t.Run(pair[0], func(t *testing.T) {
				t.Parallel()
				reports[i] = measure(t, quick(growing()...), lessonProgram(pair[0]), lessonProgram(pair[1]))
			})
		}
	})
	if t.Failed() {
		return // there is nothing to look at
	}
	// Each has the one that only accepts; once is enough.
	r := &Report{Servers: append(reports[0].Servers, reports[1].Servers[1:]...)}
	threaded := r.find(t, "threaded")
	for _, s := range r.Servers {
		for _, size := range s.Size {
			if size.Connected != size.Asked || size.Accepted != size.Asked {
				t.Errorf("%s: %d asked, %d connected, %d accepted",
					s.Name, size.Asked, size.Connected, size.Accepted)
			}
			if p := size.Probe; s.Name != acceptOnly && (p.Answered != Probes || p.Median <= 0 || p.Max < p.Median) {
				t.Errorf("%s, %d: probes %+v", s.Name, size.Asked, p)
			}
			if size.Accept < size.Connect {
				t.Errorf("%s, %d: connected after %v, accepted after %v",
					s.Name, size.Asked, size.Connect, size.Accept)
			}
		}
	}
	if got := threaded.Threads.Slope; got < 0.95 || got > 1.05 {
		t.Errorf("threaded: %.2f threads for each connection, want 1", got)
	}
	if got := threaded.Left.Threads; got < 200 {
		t.Errorf("threaded: %d threads when the crowd has gone; Go keeps them", got)
	}
	for _, name := range []string{"netpoll", "epoll", "edgetriggered", acceptOnly} {
		if got := r.find(t, name).Threads.Slope; got > 0.1 {
			t.Errorf("%s: %.2f threads for each connection, want none", name, got)
		}
	}
	if wrong := memoryCosts(t, r); len(wrong) > 0 {
		proof.Eventually(t, "memory as it is without what a Go program needs now and then", func() bool {
			t.Log(strings.Join(wrong, "\n"))
			wrong = memoryCosts(t, measure(t, quick(growing()...), lessonProgram("threaded"),
				lessonProgram("netpoll"), lessonProgram("epoll"), lessonProgram("edgetriggered")))
			return len(wrong) == 0
		})
	}
}

// memoryCosts returns what is wrong with the memory of servers for each connection. A
// server that gets no processor may start a thread more, or collect its garbage later.
func memoryCosts(t *testing.T, r *Report) (wrong []string) {
	t.Helper()
	threaded, netpoll := r.find(t, "threaded").User.Slope, r.find(t, "netpoll").User.Slope
	for _, name := range []string{"epoll", "edgetriggered"} {
		if event := r.find(t, name).User.Slope; event*10 > netpoll {
			wrong = append(wrong, fmt.Sprintf("%s: %.0f bytes for each connection; netpoll: %.0f", name, event, netpoll))
		}
	}
	if netpoll < 2048 { // one stack at least
		wrong = append(wrong, fmt.Sprintf("netpoll: %.0f bytes for each connection", netpoll))
	}
	if threaded < 2*netpoll {
		wrong = append(wrong, fmt.Sprintf("threaded: %.0f bytes for each connection; netpoll: %.0f", threaded, netpoll))
	}
	return wrong
}

// Less than a hundred bytes are seen only with many.
func TestAnEntryOfATableIsSeen(t *testing.T) {
	t.Parallel()
	// A page or two that the Go program needs meanwhile can be as much.
	proof.Eventually(t, "an entry of 40 to 400 bytes", func() bool {
		got := measure(t, quick(1000, 4000), lessonProgram("epoll")).find(t, "epoll").User.Slope
		t.Logf("epoll: %.0f bytes for each connection", got)
		return got >= 40 && got <= 400
	})
}

func TestWhoHoardsIsDear(t *testing.T) {
	t.Parallel()
	r := measure(t, quick(growing()...), program("right", "wrong", "none"), program("hoards", "wrong", "hoards"))
	right, hoards := r.find(t, "right"), r.find(t, "hoards")
	if right.User.Slope > 20<<10 {
		t.Errorf("a goroutine and 4 kB: %.0f bytes for each connection", right.User.Slope)
	}
	if hoards.User.Slope < 60<<10 {
		t.Errorf("a goroutine and 64 kB: %.0f bytes for each connection", hoards.User.Slope)
	}
}

func TestWhoSpinsIsSeen(t *testing.T) {
	t.Parallel()
	// What the Go program does for itself now and then is no spinning.
	proof.Eventually(t, "a server that rests to use 0.05 of a processor at most", func() bool {
		r := measure(t, quick(10), program("right", "wrong", "none"))
		return r.find(t, "right").Size[0].Idle.Median <= 0.05
	})
	// On a busy machine, one that spins has to wait for a processor, too.
	proof.Eventually(t, "a server that spins to use 0.2 of a processor", func() bool {
		o := quick(10)
		o.patience = 300 * time.Millisecond // it never rests
		o.Idle = 200 * time.Millisecond
		r := measure(t, o, program("spins", "wrong", "spins"))
		return r.find(t, "spins").Size[0].Idle.Median > 0.2
	})
}

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	r := measure(t, quick(20, 40), lessonProgram("loop"))
	loop := r.find(t, "loop")
	for _, size := range loop.Size {
		if size.Accepted != 1 || size.Connected != size.Asked || size.Weighed() != size.Asked {
			t.Errorf("%d asked: %d connected, %d accepted", size.Asked, size.Connected, size.Accepted)
		}
		if size.Probe.Answered != 0 || size.Probe.Asked == 0 {
			t.Errorf("%d asked: probes %+v, want none answered", size.Asked, size.Probe)
		}
	}
	if !loop.Queues || loop.Projections != nil || !strings.Contains(strings.Join(loop.Stops, " "), "accept queue") {
		t.Errorf("%+v", loop)
	}
}

// Why there is no larger crowd.
func TestWhyItStops(t *testing.T) {
	t.Parallel()
	shortQueue := lessonProgram("loop")
	shortQueue.Env = []string{"CROWD_TEST_BACKLOG=8"}
	few := program("few descriptors", "wrong", "none")
	few.Command = append([]string{"sh", "-c", `ulimit -n 60; exec "$@"`, "sh"}, few.Command...)
	bounded := lessonProgram("epoll")
	bounded.Most, bounded.Why = 80, "the test says so"
	for _, c := range []struct {
		name              string
		target            Target
		connected, sizes  int // of the largest crowd; how many sizes
		mostAccepted      int
		want              string
		unansweredAtLarge bool
	}{
		{"an accept queue for 8", shortQueue, 10, 1, 1,
			"With 10 clients connected, the next could not connect (connection 11: no answer within 2.5s:" +
				" the accept queue is full). The accept queue holds 9 connections; its backlog is 8.", true},
		{"few descriptors", few, 100, 2, 60, "descriptors open and may have 60.", true},
		{"a bound", bounded, 80, 2, 80, "It stops at 80 connections: the test says so.", false},
		{"threads", program("threads", "wrong", "threads"), 50, 1, 50, "60-thread limit", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := quick(20, 100)
			switch c.name {
			case "an accept queue for 8":
				o.Conns = []int{20} // it stops there
			case "few descriptors":
				o.patience = 1500 * time.Millisecond // it never rests
			}
			r := measure(t, o, c.target)
			s := r.find(t, c.target.Name)
			if !strings.Contains(strings.Join(s.Stops, " "), c.want) {
				t.Errorf("it says %q, want %q", s.Stops, c.want)
			}
			if len(s.Size) != c.sizes {
				t.Fatalf("%d sizes, want %d: %+v", len(s.Size), c.sizes, s)
			}
			last := s.Size[len(s.Size)-1]
			if c.name == "threads" {
				return // it ended before it was measured at its end
			}
			if last.Connected != c.connected || last.Accepted > c.mostAccepted {
				t.Errorf("%d connected, %d accepted", last.Connected, last.Accepted)
			}
			if got := last.Probe.Answered < last.Probe.Asked; got != c.unansweredAtLarge {
				t.Errorf("probes: %+v", last.Probe)
			}
		})
	}
}

func TestInterruption(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o := quick(20, 40)
	o.Progress = func(s Step) {
		if s.Server == "epoll" && s.Conns == 40 {
			cancel()
		}
	}
	r, err := Run(ctx, []Target{lessonProgram("epoll"), lessonProgram("netpoll")}, o)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "0 of 1 rounds are complete") {
		t.Errorf("error %v", err)
	}
	if r == nil || len(r.Servers) != 2 || len(r.find(t, "epoll").Size) != 1 {
		t.Fatalf("the report is %+v, want what was measured", r)
	}
}

func TestWhatCannotBeRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		targets []Target
		change  func(*Options)
		want    string
	}{
		{"two of a name", []Target{lessonProgram("epoll"), lessonProgram("epoll")}, nil, `the name "epoll"`},
		{"a reserved name", []Target{program(acceptOnly, "wrong", "none")}, nil, `the name "accept only"`},
		{"a size", nil, func(o *Options) { o.Conns = []int{0} }, "from 1 to 1000000"},
		{"rounds", nil, func(o *Options) { o.Rounds = -1 }, "negative"},
	} {
		o := quick(10)
		if c.change != nil {
			c.change(&o)
		}
		if r, err := Run(t.Context(), c.targets, o); r != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v, want %q", c.name, r, err, c.want)
		}
	}
	noServer := Target{}
	noServer.Name, noServer.Command = "gone", []string{"sh", "-c", "exit 3 # {addr}"}
	r, err := Run(t.Context(), []Target{noServer}, quick(10))
	if err == nil || !strings.Contains(err.Error(), "gone: ") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a server that does not start: %v", err)
	}
	if r == nil || len(r.Servers) != 1 {
		t.Errorf("what was measured before is not in the report: %+v", r)
	}
}
