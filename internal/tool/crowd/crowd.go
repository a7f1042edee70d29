//go:build linux

// Package crowd measures what an idle connection costs a server: memory of its
// process, memory of the kernel, threads, processor time, and how long a client that
// does want something waits behind so many who do not.
package crowd

import (
	"fmt"
	"time"

	"lesson/internal/observe/proc"
	"lesson/internal/report"
)

// Options say what to measure.
type Options struct {
	Conns  []int // sizes of the crowd; none is Usual
	Rounds int   // how often every server is measured, in turn; 0 is 3
	// Idle is how long a crowd is looked at while nothing happens; 0 is 1 s. The
	// kernel brings its counts together once a second, so less makes what it uses
	// less certain.
	Idle time.Duration
	// Hold is the command behind which Hold is, and AcceptOnly the one behind which
	// that is: parts of this program, started again.
	Hold, AcceptOnly []string
	// Progress, if not nil, is called before each step. Calls do not overlap.
	Progress func(Step)

	patience time.Duration // 0 is noProgress
}

// A Step reports what is being measured, and how much of the whole is done.
type Step struct {
	Done, All int // servers × rounds
	Server    string
	Conns     int // the size that is about to be measured; 0: it is being started
}

func (s Step) String() string {
	text := fmt.Sprintf("%d of %d  %s", s.Done+1, s.All, s.Server)
	if s.Conns > 0 {
		text += ": " + report.Plural(s.Conns, "connection", "connections")
	}
	return text
}

// Usual is the sizes that are measured when none are given, where the machine has
// descriptors for them.
var Usual = []int{1000, 5000, 10_000, 18_000}

// Probes is how many clients go through each crowd, and ProbePatience how long each
// waits for its answer.
const (
	Probes        = 21
	ProbePatience = time.Second
)

// A Report is what was measured. Every figure for each connection is a difference to
// the same server without a crowd.
type Report struct {
	Machine proc.Machine `json:"machine"`
	Limits  proc.Limits  `json:"limits"`
	Conns   []int        `json:"conns"`
	Rounds  int          `json:"rounds"` // complete ones
	// ClientEnd is what the kernel uses for our end of a connection, in bytes: half of
	// what it uses for one that a server accepts and does nothing else with.
	ClientEnd float64       `json:"client_end_bytes"`
	Servers   []Server      `json:"servers"`
	Notes     []string      `json:"notes,omitempty"` // what else must be known to read it
	Took      time.Duration `json:"took_ns"`
}

// A Server is one server, and what its crowds cost.
type Server struct {
	Name  string   `json:"name"`
	Size  []Size   `json:"sizes"`
	Stops []string `json:"stops,omitempty"` // why there is no larger crowd
	// Queues says that the crowd waits in the accept queue: the server has never
	// seen it. Figures are then for a connection that waits there.
	Queues bool `json:"queues,omitempty"`

	// Lines through all sizes and rounds; nil where there is only one size. User and
	// Kernel are bytes, of the server's process, and of the kernel for the
	// server's end of the connections.
	User    *Fit `json:"user,omitempty"`
	Kernel  *Fit `json:"kernel,omitempty"`
	Threads *Fit `json:"threads,omitempty"`
	// Projections are the values of the lines for crowds that were not measured.
	Projections []Projection `json:"projections,omitempty"`

	Left *Left `json:"left,omitempty"`
}

// A Size is what was measured with one size of the crowd, over all rounds.
type Size struct {
	Asked     int `json:"asked"`
	Connected int `json:"connected"` // as the clients see it
	Accepted  int `json:"accepted"`  // by the server; the others wait in its accept queue

	// Bytes for each connection. Both is what the kernel uses for both ends of it, and
	// End what is the server's: without Report.ClientEnd.
	User  Range `json:"user_bytes"`
	Both  Range `json:"kernel_bytes_both_ends"`
	End   Range `json:"kernel_bytes"`
	Parts Parts `json:"kernel_parts"` // of Both, the medians
	// Machine is how much less the machine has available for each connection, with
	// the memory of server and clients in it.
	Machine Range `json:"machine_bytes"`
	// Shrunk is Both once more: how much the kernel had less when all had gone. Only
	// for the largest crowd.
	Shrunk *Range `json:"kernel_bytes_both_ends_shrinking,omitempty"`

	Threads int           `json:"threads"`
	Connect time.Duration `json:"connect_ns"` // until all were connected
	Accept  time.Duration `json:"accept_ns"`  // until the server had accepted them
	Probe   Probe         `json:"probe"`
	// Idle is the part of one processor that the server used while nothing happened: 1
	// is all of it.
	Idle Range `json:"idle_cpu"`
}

// Weighed is the number of connections that the bytes are for.
func (s Size) Weighed() int {
	if s.Accepted <= 1 {
		return s.Connected // all in the accept queue, but the one that is served
	}
	return s.Accepted
}

// A Range is the median of the rounds, the least and the most.
type Range struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Parts is the kernel's memory for a connection, both ends, by kind, in bytes.
type Parts struct {
	Slab    float64 `json:"slab"`
	Stacks  float64 `json:"stacks"`
	Tables  float64 `json:"page_tables"`
	Buffers float64 `json:"buffers"`
}

// A Probe is clients that send a request while the crowd is there.
type Probe struct {
	Asked    int           `json:"asked"`
	Answered int           `json:"answered"`
	Median   time.Duration `json:"median_ns"` // from connect to the end of the answer
	Max      time.Duration `json:"max_ns"`
}

// A Projection is what a line says for a crowd of that size, in bytes.
type Projection struct {
	Conns  int     `json:"conns"`
	User   float64 `json:"user_bytes"`
	Kernel float64 `json:"kernel_bytes"`
	Not    string  `json:"not,omitempty"` // why there can be no such crowd
}

// Projected is the sizes that are projected.
var Projected = []int{100_000, 1_000_000}

// Left is what a server has when its largest crowd has gone, compared with what it
// had before: medians.
type Left struct {
	Threads int     `json:"threads"`    // all of them
	User    float64 `json:"user_bytes"` // more than before
}
