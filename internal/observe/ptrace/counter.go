//go:build linux

package ptrace

import (
	"maps"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Counter counts the system calls of processes by name, and what they return.
type Counter struct {
	*Tracer
	mu       sync.Mutex
	counts   map[call]int64
	outcomes map[Outcome]int64
	entered  map[int]Stop // by thread: the call that it has entered
}

// An Outcome holds what a call has returned.
type Outcome struct {
	Call string
	FD   int // the first argument, which for most calls is a descriptor
	// Result is 1 for whatever is above 0, 0, or a negative errno: -EAGAIN.
	Result int64
	// Events are those of the first event that epoll_wait has returned.
	Events uint32
}

// Count counts the calls of these processes from now on, as Trace reports them: let the
// processes do something before you take the first Counts, because those of their calls
// that Trace has interrupted are entered, and counted, again.
func Count(pids ...int) (*Counter, error) {
	c := newCounter()
	var err error
	c.Tracer, err = Trace(c.count, pids...)
	return c, err
}

func newCounter() *Counter {
	return &Counter{
		counts: map[call]int64{}, outcomes: map[Outcome]int64{}, entered: map[int]Stop{},
	}
}

// Counts returns how many calls have been entered so far, by name. A call is counted
// before it does anything: when its effect can be seen, it is in the counts. A call that
// a signal has interrupted and Linux enters again counts again.
func (c *Counter) Counts() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := make(map[string]int64, len(c.counts))
	for call, n := range c.counts {
		counts[call.String()] = n
	}
	return counts
}

// Outcomes returns how many calls have returned so far, by what they returned.
func (c *Counter) Outcomes() map[Outcome]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.outcomes)
}

func (c *Counter) count(s Stop) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Left {
		c.counts[s.call]++
		c.entered[s.Thread] = s
		return
	}
	if entered, known := c.entered[s.Thread]; known {
		delete(c.entered, s.Thread)
		c.outcomes[outcome(entered, s.Result)]++
	}
}

func outcome(entered Stop, result int64) Outcome {
	o := Outcome{
		Call: entered.Call(), FD: int(int32(entered.Args[0])), Result: min(result, 1),
	}
	switch o.Call {
	case "epoll_wait", "epoll_pwait", "epoll_pwait2":
		var first unix.EpollEvent
		bytes := unsafe.Slice((*byte)(unsafe.Pointer(&first)), unsafe.Sizeof(first))
		if result > 0 && Peek(entered.Thread, entered.Args[1], bytes) == nil {
			o.Events = first.Events
		}
	}
	return o
}
