//go:build linux

package bench

import (
	"math"
	"strings"
	"testing"
	"time"

	"lesson/internal/child"
	"lesson/internal/lesson"
	"lesson/internal/observe/proc"
)

// checkError checks that err says what it should; "" is no error.
func checkError(t *testing.T, name string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: the error is %v, want %q", name, err, want)
	}
}

func TestLessons(t *testing.T) {
	all, err := Lessons()
	checkError(t, "all", err, "")
	if len(all) != len(lesson.Compared()) || all[0].Name != "epoll" {
		t.Errorf("all is %v", all)
	}
	two, err := Lessons("loop", "epoll")
	checkError(t, "two", err, "")
	if len(two) != 2 || two[0].Name != "loop" || two[1].Name != "epoll" {
		t.Errorf("two are %+v", two)
	}
	_, err = Lessons("epoll", "blocking")
	checkError(t, "blocking", err, "blocking serves one client and ends")
	_, err = Lessons("nosuch")
	checkError(t, "nosuch", err, `no lesson "nosuch"`)
}

func TestOptionsAreChecked(t *testing.T) {
	limits := proc.Limits{Descriptors: 20000, Ports: 28232}
	good := func() Options {
		return Options{Servers: []child.Program{{Name: "a"}, {Name: "b"}}, Conns: []int{1, 512},
			During: time.Second, Rounds: 5, Timeout: DefaultTimeout}
	}
	tests := []struct {
		name   string
		change func(o *Options)
		err    string
	}{
		{"good", func(o *Options) {}, ""},
		{"no server", func(o *Options) { o.Servers = nil }, "no server"},
		{"one name twice", func(o *Options) { o.Servers[1].Name = "a" }, `two servers are called "a"`},
		{"no size", func(o *Options) { o.Conns = nil }, "--conns: each number must be at least 1"},
		{"no connection", func(o *Options) { o.Conns[0] = 0 }, "each number must be at least 1"},
		{"no round", func(o *Options) { o.Rounds = 0 }, "--rounds must be at least 1, not 0"},
		{"a short round", func(o *Options) { o.During = time.Millisecond }, "--duration must be at least 10ms, not 1ms"},
		{"a long round", func(o *Options) { o.During = time.Hour }, "--duration must be at most 30m0s, not 1h0m0s"},
		{"a negative timeout", func(o *Options) { o.Timeout = -1 }, "--timeout must be more than 0"},
		{"no timeout", func(o *Options) { o.Timeout = 0 }, "--timeout must be more than 0 and at most 30m0s, not 0s"},
		{"a long timeout", func(o *Options) { o.Timeout = time.Hour }, "at most 30m0s, not 1h0m0s"},
		{"a negative rate", func(o *Options) { o.Rate = -1 }, "--rate must be"},
		{"a rate that is no number", func(o *Options) { o.Rate = math.NaN() }, "--rate must be"},
		{"an infinite rate", func(o *Options) { o.Rate = math.Inf(1) }, "--rate must be"},
		{"a slow rate", func(o *Options) { o.Rate = 0.5 }, "no request is due"},
		{"too many descriptors", func(o *Options) { o.Conns[1] = 20000 },
			"20000 connections at a time need as many descriptors, and the limit is 20000"},
		{"too many ports", func(o *Options) { o.Conns[1] = 15000 }, "too few of 28232 ephemeral ports"},
	}
	for _, test := range tests {
		o := good()
		test.change(&o)
		checkError(t, test.name, o.check(limits), test.err)
	}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestSpread(t *testing.T) {
	tests := []struct {
		numbers           []float64
		low, median, high float64
		wide              bool
	}{
		{nil, 0, 0, 0, false},
		{[]float64{7}, 7, 7, 7, false},
		{[]float64{3, 1}, 1.5, 2, 2.5, true},
		{[]float64{5, 1, 4, 2, 3}, 2, 3, 4, true},
		{[]float64{10, 11, 12, 10}, 10, 10.5, 11.25, false},
	}
	for _, test := range tests {
		s := spread(test.numbers)
		if !near(s.Low, test.low) || !near(s.Median, test.median) || !near(s.High, test.high) ||
			s.wide() != test.wide {
			t.Errorf("%v: %+v, wide %v", test.numbers, s, s.wide())
		}
	}
}

// rounds makes rounds of 1,000 requests in a second with this much processor time.
func rounds(busy float64, micros ...int) []Round {
	var all []Round
	for _, n := range micros {
		all = append(all, Round{Served: 1000, Elapsed: time.Second, Busy: busy,
			CPU:  time.Duration(n) * 1000 * time.Microsecond,
			User: 10 * time.Millisecond, System: 30 * time.Millisecond, Sleeps: 500, Preempted: 20})
	}
	return all
}

// A slow minute hits all servers of a round: their figures double, the ratios stay.
func TestRatiosAreTakenWithinARound(t *testing.T) {
	first := &Size{Rounds: rounds(0.5, 20, 40, 10)}
	second := &Size{Rounds: rounds(0.5, 30, 60, 15)}
	first.summarise()
	second.summarise()
	second.compare(first)
	if r := second.CPURatio; r == nil || !near(r.Median, 1.5) || !near(r.Low, 1.5) || !near(r.High, 1.5) {
		t.Errorf("the ratio is %+v, want 1.5 in all rounds", r)
	}
	if !near(first.CPU.Median, 20) || !near(second.CPU.Median, 30) || !first.CPU.wide() {
		t.Errorf("medians %+v, %+v", first.CPU, second.CPU)
	}
	if !near(second.User, 7.5) || !near(second.System, 22.5) {
		t.Errorf("user %v, system %v; want a quarter and three of 30", second.User, second.System)
	}
	if !near(second.Sleeps, 0.5) || !near(second.Preempted, 0.02) || !near(second.PerSecond.Median, 1000) {
		t.Errorf("%+v", second)
	}
	if r := second.PerSecondRatio; r == nil || !near(r.Median, 1) {
		t.Errorf("requests in a second compare as %+v", r)
	}
}

// A round in which nothing was served has no part in any figure.
func TestRoundsWithoutRequests(t *testing.T) {
	first := &Size{Rounds: rounds(0.5, 20, 20, 20)}
	second := &Size{Rounds: rounds(0.5, 10, 40, 40)}
	second.Rounds[1], second.Rounds[2] = Round{}, Round{}
	first.summarise()
	second.summarise()
	second.compare(first)
	if !near(second.CPU.Median, 10) || second.CPURatio == nil || !near(second.CPURatio.Median, 0.5) {
		t.Errorf("%+v, ratio %+v", second.CPU, second.CPURatio)
	}
	none := &Size{Rounds: []Round{{}, {}, {}}}
	none.summarise()
	none.compare(first)
	if none.CPURatio != nil || none.PerSecondRatio != nil || none.CPU != (Spread{}) {
		t.Errorf("nothing was served, and it is %+v", none)
	}
}

// A server is not ranked if the client was the bottleneck.
func TestASaturatedClientRanksNobody(t *testing.T) {
	tests := []struct {
		name             string
		firstBusy        float64
		secondBusy       []float64
		saturated, ranks bool
	}{
		{"neither", 0.5, []float64{0.5, 0.6, 0.9}, false, true},
		{"one round of three", 0.5, []float64{0.5, 0.99, 0.6}, false, true},
		{"the second", 0.5, []float64{0.95, 0.99, 0.6}, true, false},
		{"the first", 0.95, []float64{0.5, 0.5, 0.5}, false, false},
	}
	for _, test := range tests {
		first, second := &Size{Conns: 1, Rounds: rounds(test.firstBusy, 20, 20, 20)},
			&Size{Conns: 1, Rounds: rounds(0, 20, 20, 20)}
		for i, busy := range test.secondBusy {
			second.Rounds[i].Busy = busy
		}
		first.summarise()
		second.summarise()
		second.compare(first)
		if second.Saturated != test.saturated || (second.PerSecondRatio != nil) != test.ranks {
			t.Errorf("%s: saturated %v, ratio %v", test.name, second.Saturated, second.PerSecondRatio)
		}
		if second.CPURatio == nil {
			t.Errorf("%s: processor time is not compared", test.name)
		}
		report := &Report{Servers: []Server{
			{Name: "a", Sizes: []Size{*first}}, {Name: "b", Sizes: []Size{*second}}}}
		said := strings.Contains(strings.Join(report.Notes(), "\n"), "The client was saturated")
		if said != (test.saturated || test.firstBusy > saturatedAt) {
			t.Errorf("%s: said is %v", test.name, said)
		}
		row := report.speedTable(1, true).Rows[1]
		if strings.HasPrefix(row[1], "≥ ") != test.saturated || (row[2] == nothing) == test.ranks {
			t.Errorf("%s: the row is %q", test.name, row)
		}
	}
}

func TestBusy(t *testing.T) {
	tests := []struct {
		client clientTime
		want   float64
	}{
		{clientTime{}, 0},
		{clientTime{ran: time.Second, wall: 4 * time.Second}, 0.25},
		{clientTime{ran: time.Second, waited: 2 * time.Second, wall: 4 * time.Second}, 0.75},
	}
	for _, test := range tests {
		if got := test.client.busy(); !near(got, test.want) {
			t.Errorf("%+v is busy for %v, want %v", test.client, got, test.want)
		}
	}
}

// A report of all that can go wrong says so, in the row and in words.
func TestNothingIsDropped(t *testing.T) {
	report := &Report{
		ServerCPU: anyProcessor, Missing: 3, Others: 0.37, Stolen: 0.06,
		Limits: proc.Limits{MostWaiting: 131072, Backlog: 4096},
		Kernel: proc.Counters{QueueFull: 7, NoTimeWait: 1234},
		Servers: []Server{
			{Name: "right", Sizes: []Size{{Conns: 64, Rounds: rounds(0.5, 20, 40)}}},
			{Name: "wrong", Ended: "signal: killed", Answer: `2 bytes, "hi"`, Sizes: []Size{{
				Conns: 64, Rounds: rounds(0.5, 20, 20), Hopeless: true, Unsent: 9,
				Errors:   Errors{Refused: 1, Reset: 2, Short: 3, Wrong: 4, Timeout: 5000},
				NotCalls: "EPERM",
			}}},
		},
		Remarks: []string{"A remark."},
	}
	report.Servers[0].Sizes[0].summarise()
	report.Servers[1].Sizes[0].summarise()
	var out strings.Builder
	report.Print(&out, PrintOptions{})
	text := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"1 refused, 2 reset, 3 cut short, 4 wrong, 5,000 timed out, 9 never sent",
		"wrong ended while it was measured: signal: killed",
		"2,000 requests were answered correctly; the others: 1 refused",
		"A round ends when 1000 requests in a row have failed",
		"The server does not keep up with the rate",
		"Other programs used 37 % of the two processors", "its host gave 6 %",
		"right with 64 (25.0 to 35.0 µs)", "The rounds differ widely",
		"There is only one processor for both sides",
		"More than 131,072 connections were in TIME_WAIT", "1,234 connections",
		"7 times a client found an accept queue full", "allows 4,096",
		`The answer of wrong differs from the lessons': 2 bytes, "hi"`,
		"not counted: EPERM", "The run was interrupted: 3 rounds are missing.", "A remark.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report does not say %q:\n%s", want, out.String())
		}
	}
}

func TestCallsAreListed(t *testing.T) {
	calls := Calls{"read": 2, "accept4": 1, "close": 1, "futex": 0.005, "epoll_pwait": 0.126, "nanosleep": 7}
	const want = "read 2, accept4 1, close 1, epoll_pwait 0.13; not per request: nanosleep 7"
	if got := calls.String(); got != want {
		t.Errorf("calls are %q, want %q", got, want)
	}
	if all := calls.All(); !near(all, 4.131) {
		t.Errorf("all of them are %v", all)
	}
}

func TestTheEstimateGrowsWithTheRun(t *testing.T) {
	o := Options{Servers: make([]child.Program, 5), Conns: make([]int, 4), Rounds: 5, During: time.Second}
	if e := o.Estimate(); e < 100*time.Second || e > 120*time.Second {
		t.Errorf("100 rounds of a second take %v", e)
	}
}
