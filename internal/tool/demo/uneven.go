//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

var uneven = Demo{
	Name:    "uneven",
	Title:   "how connections spread over several loops, and which clients a busy loop delays",
	Chapter: "docs/11-many-cores-and-machines.md",
	Run:     runUneven,
}

const (
	unevenLoops       = 4
	unevenConnections = 200
)

// A spread is how one way of sharing hands out connections.
type spread struct {
	Sharing string `json:"sharing"`
	Clients int    `json:"clients"`
	// Quiet and Burst are the clients of each loop, the most first: when each
	// comes while all loops wait, and when all come as fast as they can.
	Quiet []int `json:"quiet"`
	Burst []int `json:"burst"`
	// Waiting is how many clients are not accepted while one loop of them is
	// busy with its first, and the others wait.
	Waiting int `json:"waiting"`
}

var unevenSharings = []sharing{plainLevel, exclusive, listLevel, reusePort}

func runUneven(ctx context.Context, o Options) (*Result, error) {
	var seen []spread
	for _, how := range unevenSharings {
		o.say("%s", how.name)
		s, err := observeSpread(ctx, how, unevenConnections)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", how.name, err)
		}
		seen = append(seen, s)
	}
	if len(seen) == 0 {
		return nil, ctx.Err()
	}
	return unevenResult(seen), ctx.Err()
}

func observeSpread(ctx context.Context, how sharing, clients int) (spread, error) {
	s := spread{Sharing: how.name, Clients: clients}
	var err error
	if s.Quiet, err = accepted(ctx, how, clients, true); err != nil {
		return s, err
	}
	if s.Burst, err = accepted(ctx, how, clients, false); err != nil {
		return s, err
	}
	s.Waiting, err = keptWaiting(ctx, how, clients)
	return s, err
}

// accepted counts the clients of each loop, and puts the most first.
func accepted(ctx context.Context, how sharing, clients int, quiet bool) (loops []int, err error) {
	c, err := newCrew(ctx, how, unevenLoops, func(w *waiter) error {
		fd, ok, err := w.accept()
		if ok {
			closeAll(fd)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	if err := c.start(); err != nil {
		return nil, err
	}
	come := c.comeAtOnce
	if quiet {
		come = c.comeOneByOne
	}
	if err := come(clients); err != nil {
		return nil, err
	}
	loops, _ = c.accepted()
	slices.SortFunc(loops, func(a, b int) int { return b - a })
	return loops, nil
}

// comeOneByOne lets clients come, each when all loops wait again.
func (c *crew) comeOneByOne(clients int) error {
	for range clients {
		if err := errors.Join(visit(c.addr), c.untilAtRest()); err != nil {
			return err
		}
	}
	return nil
}

// comeAtOnce lets clients come as fast as they can, and returns when all have been
// accepted.
func (c *crew) comeAtOnce(clients int) error {
	for range clients {
		fd, err := connectTo(c.addr, 0)
		if err != nil {
			return err
		}
		defer closeAll(fd) // not now: as long as it is open, its port is not used again
	}
	return until(c.ctx, patience, func() (bool, error) {
		_, all := c.accepted()
		return all == clients, nil
	})
}

// keptWaiting makes the first loop that accepts a client busy with it, and counts
// those who are not accepted meanwhile.
func keptWaiting(ctx context.Context, how sharing, clients int) (waiting int, err error) {
	var busy atomic.Bool
	release := make(chan struct{})
	c, err := newCrew(ctx, how, unevenLoops, func(w *waiter) error {
		fd, ok, err := w.accept()
		if !ok {
			return err
		}
		if busy.CompareAndSwap(false, true) {
			w.held.Store(true)
			<-release
		}
		closeAll(fd)
		return nil
	})
	if err != nil {
		return 0, err
	}
	defer func() {
		close(release)
		err = errors.Join(err, c.end())
	}()
	if err := c.start(); err != nil {
		return 0, err
	}
	for range clients {
		fd, err := connectTo(c.addr, 0)
		if err != nil {
			return 0, err
		}
		defer closeAll(fd)
	}
	// Those who can be accepted are, before all loops are at rest, once all have come; the
	// first of them is a sign that it has begun.
	err = errors.Join(until(ctx, patience, func() (bool, error) {
		_, all := c.accepted() // first: none is counted twice
		queued, err := c.inQueues()
		return all > 0 && all+queued >= clients, err
	}), c.untilAtRest())
	_, all := c.accepted()
	return clients - all, err
}

func unevenResult(seen []spread) *Result {
	clients := seen[0].Clients
	spreads := Table{
		Title: fmt.Sprintf("%d clients and %d loops: how many clients each loop gets, largest first.",
			clients, unevenLoops),
		Head: []string{"how they wait", "one by one", "all at once"},
	}
	busy := Table{
		Title: "One loop is busy with its first client. Clients that wait meanwhile:",
		Head:  []string{"how they wait", "clients", "waiting"},
	}
	var none, some []string
	for _, s := range seen {
		spreads.Rows = append(spreads.Rows, []string{s.Sharing, numbers(s.Quiet), numbers(s.Burst)})
		busy.Rows = append(busy.Rows, []string{s.Sharing, fmt.Sprint(s.Clients), fmt.Sprint(s.Waiting)})
		if s.Waiting == 0 {
			none = append(none, s.Sharing)
		} else {
			some = append(some, fmt.Sprintf("%s, %.0f %% of the clients",
				s.Sharing, 100*float64(s.Waiting)/float64(s.Clients)))
		}
	}
	least := slices.MinFunc(seen, func(a, b spread) int { return a.Quiet[0] - b.Quiet[0] })
	most := slices.MaxFunc(seen, func(a, b spread) int { return a.Quiet[0] - b.Quiet[0] })
	return &Result{
		Demo:   "uneven",
		Tables: []Table{spreads, busy},
		Sentences: []string{
			fmt.Sprintf("When clients arrive one by one, the busiest loop gets %.0f %% of them with %q,"+
				" and %.0f %% with %q; an even share is %.0f %%.",
				100*float64(most.Quiet[0])/float64(clients), most.Sharing,
				100*float64(least.Quiet[0])/float64(clients), least.Sharing, 100.0/unevenLoops),
			fmt.Sprintf("A busy loop delays no other client with these: %s. It delays clients,"+
				" although other loops are idle, with these: %s.", enumerate(none), enumerate(some)),
		},
		Data: seen,
	}
}

func numbers(all []int) string {
	var text []string
	for _, n := range all {
		text = append(text, fmt.Sprint(n))
	}
	return strings.Join(text, " ")
}
