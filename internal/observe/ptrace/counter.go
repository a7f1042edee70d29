//go:build linux

package ptrace

import "sync"

// A Counter counts the system calls of processes by name.
type Counter struct {
	*Tracer
	mu     sync.Mutex
	counts map[call]int64
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

func newCounter() *Counter { return &Counter{counts: map[call]int64{}} }

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

func (c *Counter) count(s Stop) {
	if s.Left {
		return
	}
	c.mu.Lock()
	c.counts[s.call]++
	c.mu.Unlock()
}
