//go:build linux

// Package bench measures what a request costs a server, and how fast it is
// answered: one request for each connection, one server after the other, round by
// round, so that a slow minute of the machine hits all of them.
//
// The figure to trust is processor time for each request, as a ratio to the first
// server within the same round. Requests per second are a property of a server only
// as long as the client could have asked for more: the client says how busy it was.
package bench

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"lesson/internal/child"
	"lesson/internal/lesson"
	"lesson/internal/observe/proc"
)

// Options say what to measure.
type Options struct {
	Servers []child.Program // the others are compared with the first
	Conns   []int           // connections at a time: sizes, one after the other
	During  time.Duration   // of a round
	Rounds  int             // for each size
	Rate    float64         // requests due in a second: an open loop; 0: a closed loop
	Timeout time.Duration   // of a request
	Remarks []string        // what the report is to say besides
	// Progress, if not nil, is called with what is done next, and with the part
	// of the whole run that is over.
	Progress func(part float64, next string)

	counted int64 // 0 is countedRequests
}

// DefaultTimeout is long for loopback, and more than a client needs that finds the
// accept queue full twice: it tries again after one second, and after three.
const DefaultTimeout = 5 * time.Second

// countedRequests is how many requests are made while system calls are counted, and
// countedFor how long that may take: counting slows a server down.
const (
	countedRequests = 500
	countedFor      = 2 * time.Second
)

// warmUp is how long a server is warmed up before its first round of a size.
func (o Options) warmUp() time.Duration { return min(o.During/4, 200*time.Millisecond) }

// Estimate is how long a run will take, if the servers keep up.
func (o Options) Estimate() time.Duration {
	const starting, counting = 100 * time.Millisecond, 300 * time.Millisecond
	servers, sizes := time.Duration(len(o.Servers)), time.Duration(len(o.Conns))
	each := time.Duration(o.Rounds)*o.During + o.warmUp() + counting
	return servers * (starting + sizes*each)
}

// Check says what is wrong with the options: that they make no sense, or ask for more
// than this machine has.
func (o Options) Check() error {
	limits, err := proc.ReadLimits()
	if err != nil {
		return err
	}
	return o.check(limits)
}

func (o Options) check(limits proc.Limits) error {
	const spare = 64 // what else the program has open
	switch {
	case len(o.Servers) == 0:
		return errors.New("no server to measure")
	case len(o.Conns) == 0 || slices.Min(o.Conns) < 1:
		return errors.New("--conns: each number must be at least 1")
	case o.Rounds < 1:
		return fmt.Errorf("--rounds must be at least 1, not %d", o.Rounds)
	case o.During < 10*time.Millisecond:
		return fmt.Errorf("--duration must be at least 10ms, not %v", o.During)
	case o.During > longest/2:
		return fmt.Errorf("--duration must be at most %v, not %v", longest/2, o.During)
	case o.Timeout <= 0 || o.Timeout > longest/2:
		return fmt.Errorf("--timeout must be more than 0 and at most %v, not %v", longest/2, o.Timeout)
	case !(o.Rate >= 0 && o.Rate <= 1e7): // NaN is neither
		return errors.New("--rate must be from 0 to 10,000,000 requests in a second")
	case o.Rate > 0 && o.Rate*o.During.Seconds() < 1:
		return errors.New("at this --rate no request is due within a round; increase --rate or --duration")
	}
	for i, s := range o.Servers {
		if slices.ContainsFunc(o.Servers[:i], func(t child.Program) bool { return s.Name == t.Name }) {
			return fmt.Errorf("two servers are called %q", s.Name)
		}
	}
	most := slices.Max(o.Conns)
	if room := limits.Descriptors - spare; most > room {
		return fmt.Errorf("%d connections at a time need as many descriptors, and the limit is %d:"+
			" use fewer, or raise the limit (ulimit -n)", most, limits.Descriptors)
	}
	if limits.Ports > 0 && most > limits.Ports/2 {
		return fmt.Errorf("%d connections at a time leave too few of %d ephemeral ports:"+
			" use fewer, or raise net.ipv4.ip_local_port_range", most, limits.Ports)
	}
	return nil
}

// Lessons returns these lessons as programs. With no names it returns all that can be
// measured.
func Lessons(names ...string) ([]child.Program, error) {
	lessons, err := lesson.FindCompared(names)
	if err != nil {
		return nil, err
	}
	var programs []child.Program
	for _, l := range lessons {
		program, err := child.Lesson(l.Name, "--quiet")
		if err != nil {
			return nil, err
		}
		programs = append(programs, program)
	}
	return programs, nil
}

// LeftOut returns a remark for each lesson that cannot be measured.
func LeftOut() []string {
	var remarks []string
	for _, l := range lesson.All() {
		if l.Rank == 0 {
			remarks = append(remarks,
				fmt.Sprintf("The step %s is left out: it serves one client and ends.", l.Name))
		}
	}
	return remarks
}

// commandOf returns the command that starts a program.
func commandOf(p child.Program) string {
	if len(p.Command) == 3 && p.Command[0] == "sh" && p.Command[1] == "-c" {
		return p.Command[2]
	}
	words := slices.Clone(p.Command)
	if self, err := os.Executable(); err == nil && words[0] == self {
		words[0] = "lesson" // wherever this program is
	}
	return strings.Join(words, " ")
}

// A Report is what was measured.
type Report struct {
	Machine proc.Machine  `json:"machine"`
	Limits  proc.Limits   `json:"limits"` // before the first round
	Kernel  proc.Counters `json:"kernel"` // counted meanwhile, for the whole machine

	ServerCPU int           `json:"server_cpu"` // the processor of the servers; -1: any
	ClientCPU int           `json:"client_cpu"`
	Others    float64       `json:"others"` // the part of both that something else had in the rounds
	Stolen    float64       `json:"stolen"` // the part that the hypervisor gave to other machines
	During    time.Duration `json:"round_ns"`
	Rounds    int           `json:"rounds"`
	Rate      float64       `json:"rate,omitempty"` // 0: a closed loop
	Timeout   time.Duration `json:"timeout_ns"`

	Servers []Server      `json:"servers"`
	Remarks []string      `json:"remarks,omitempty"`
	Missing int           `json:"missing_rounds,omitempty"` // that an end of the run has cut off
	Took    time.Duration `json:"took_ns"`
}

// A Server is one of the servers, and what was measured of it.
type Server struct {
	Name    string `json:"name"`
	Command string `json:"command"`
	Answer  string `json:"answer,omitempty"` // "" when it is the lessons'
	Ended   string `json:"ended,omitempty"`  // how, if it ended before its time
	Sizes   []Size `json:"sizes"`
}

// A Size is a server under so many connections at a time.
type Size struct {
	Conns  int     `json:"conns"`
	Rounds []Round `json:"rounds"`

	// Of the rounds in which anything was served.
	PerSecond Spread `json:"requests_per_second"`
	CPU       Spread `json:"cpu_us_per_request"`
	// To the first server, within a round. Nil for the first, and PerSecond's
	// when the client was saturated: then it says nothing about the servers.
	PerSecondRatio *Spread `json:"requests_per_second_ratio,omitempty"`
	CPURatio       *Spread `json:"cpu_ratio,omitempty"`

	User      float64 `json:"user_us_per_request"` // these two are CPU's median, parted
	System    float64 `json:"system_us_per_request"`
	Sleeps    float64 `json:"voluntary_switches_per_request"`
	Preempted float64 `json:"involuntary_switches_per_request"`

	Latency   Latency  `json:"latency"`                  // since the request was due
	SinceSent *Latency `json:"latency_sent,omitempty"`   // of an open loop: since it was sent
	Calls     Calls    `json:"system_calls,omitempty"`   // for each request, by name
	NotCalls  string   `json:"not_counted,omitempty"`    // why Calls is empty
	Threads   int      `json:"threads"`                  // at the end of a round, at most
	Peak      int64    `json:"peak_resident_bytes"`      // so far
	Busy      float64  `json:"client_busy"`              // median; see clientTime
	Saturated bool     `json:"client_saturated"`         // Busy is over the bound
	Errors    Errors   `json:"errors,omitzero"`          // of all rounds
	Unsent    int64    `json:"unsent,omitempty"`         // of an open loop
	Hopeless  bool     `json:"nothing_served,omitempty"` // a round was given up
}

// A Round is one load on one server.
type Round struct {
	Served    int64         `json:"served"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	CPU       time.Duration `json:"cpu_ns"`
	User      time.Duration `json:"user_ns"` // in steps of 10 ms
	System    time.Duration `json:"system_ns"`
	Sleeps    int64         `json:"voluntary_switches"`
	Preempted int64         `json:"involuntary_switches"`
	Busy      float64       `json:"client_busy"`
}

// A Spread is the middle of several numbers, and what half of them lie between.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"q1"`
	High   float64 `json:"q3"`
}

// A Latency is how long requests took, in microseconds: so many in a hundred were
// no longer than this.
type Latency struct {
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p99_9_us"`
	Max  float64 `json:"max_us"`
}

// Calls is system calls for each request, by name.
type Calls map[string]float64

// All is their sum, without those that come with time. It is taken in one order: a
// sum of floating-point numbers depends on it.
func (c Calls) All() float64 {
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if !withTime(name) {
			sum += c[name]
		}
	}
	return sum
}

// withTime says whether a call is one that the Go runtime makes as time goes by,
// however many requests come: its thread that looks after the others sleeps in
// nanosleep, and sends signals to a goroutine that has been running for long.
// While calls are counted, time goes by slowly, and there would be too many.
func withTime(call string) bool {
	switch call {
	case "nanosleep", "getpid", "tgkill", "rt_sigreturn":
		return true
	}
	return false
}
