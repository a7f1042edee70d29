//go:build linux

package check

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"lesson/internal/play"
)

// A flood is clients that ask for more than their share until they are stopped.
type flood struct {
	ending  atomic.Bool
	clients sync.WaitGroup
	mu      sync.Mutex
	open    map[*play.Conn]bool
	sent    atomic.Int64 // bytes
	came    atomic.Int64 // connections
	served  atomic.Int64 // clients that have been answered, where that is asked for
}

// floodClients is how many flood at the same time.
const floodClients = 4

// flooding starts clients that do the same thing again and again.
func flooding(what string, one func(*flood, *play.Conn) error) step {
	text := fmt.Sprintf("%d clients %s, again and again", floodClients, what)
	return step{text: text, do: func(t *trial) error {
		f := &flood{open: map[*play.Conn]bool{}}
		t.flood = f
		t.played(1 + floodClients) // until the end: none of these waits for the server
		for range floodClients {
			f.clients.Go(func() {
				for !f.ending.Load() {
					c, err := play.Dial(t.server.Addr)
					if err != nil {
						return // no server any more: the steps that follow will find out
					}
					if !f.keep(c) {
						return
					}
					f.came.Add(1)
					_ = one(f, c) // it is meant to end in an error: the server need not bear it
					f.drop(c)
				}
			})
		}
		return nil
	}}
}

func (f *flood) keep(c *play.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ending.Load() {
		_ = c.Close()
		return false
	}
	f.open[c] = true
	return true
}

func (f *flood) drop(c *play.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
	_ = c.Close()
}

func (f *flood) stop() {
	f.mu.Lock()
	f.ending.Store(true)
	for c := range f.open {
		_ = c.Reset() // ends a send that is blocked
	}
	f.mu.Unlock()
	f.clients.Wait()
}

// pour sends first, and then bytes without end: until the flood is stopped, or
// the server closes.
func pour(first string) func(*flood, *play.Conn) error {
	return func(f *flood, c *play.Conn) error {
		if err := c.Send([]byte(first)); err != nil {
			return err
		}
		bytes := make([]byte, 64<<10)
		for i := range bytes {
			bytes[i] = 'x'
		}
		for !f.ending.Load() {
			if err := c.Send(bytes); err != nil {
				return err
			}
			f.sent.Add(int64(len(bytes)))
		}
		return nil
	}
}

// probes is how many clients come while a flood lasts, one after the other.
const probes = 20

// othersServed demands that every one of them is answered while the flood lasts.
func othersServed() step {
	text := fmt.Sprintf("%d other clients, one after the other, must each be answered meanwhile", probes)
	return step{text: text, do: func(t *trial) error {
		var longest time.Duration
		for i := range probes {
			began := time.Now()
			if err := t.converse(whole); err != nil {
				var f *failure
				if !errors.As(err, &f) {
					return err
				}
				got := fmt.Sprintf("client %d: %s", i+1, f.got)
				return fails(got, "the answer, then end of file, whatever others do").seeing(t, nil)
			}
			longest = max(longest, time.Since(began))
		}
		t.note("the longest wait was %v, beside %d MB from %d flooding connections",
			longest.Round(time.Millisecond), t.flood.sent.Load()>>20, t.flood.came.Load())
		return nil
	}}
}
