//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

var herd = Demo{
	Name:    "herd",
	Title:   "how many waiting threads are woken for one connection",
	Chapter: "docs/11-many-cores-and-machines.md",
	Run:     runHerd,
}

const (
	herdThreads     = 8
	herdConnections = 200
)

// A stampede is what one way of sharing costs.
type stampede struct {
	Sharing string `json:"sharing"`
	Threads int    `json:"threads"`
	// Told is how many threads epoll_wait has returned in for one connection
	// that no thread has accepted yet.
	Told int64 `json:"told"`
	// For as many Connections, one after the other, accepted at once: how many
	// times epoll_wait has returned, and for how many of these there was nothing
	// left to accept.
	Connections int   `json:"connections"`
	Returns     int64 `json:"returns"`
	InVain      int64 `json:"in_vain"`
}

var herdSharings = []sharing{
	plainLevel, plainEdge, exclusive, listLevel, listEdge, listOnce, reusePort,
}

func runHerd(ctx context.Context, o Options) (*Result, error) {
	var seen []stampede
	for _, how := range herdSharings {
		if ctx.Err() != nil {
			break
		}
		o.say("%s", how.name)
		s, err := observeHerd(ctx, how, herdThreads, herdConnections)
		if err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("%s: %w", how.name, err)
		}
		if err == nil {
			seen = append(seen, s)
		}
	}
	if len(seen) == 0 {
		return nil, ctx.Err()
	}
	return herdResult(seen), ctx.Err()
}

func observeHerd(
	ctx context.Context, how sharing, threads, connections int,
) (s stampede, err error) {
	s = stampede{Sharing: how.name, Threads: threads}
	if s.Told, err = countTold(ctx, how, threads); err != nil {
		return s, err
	}
	err = countReturns(ctx, how, connections, &s)
	return s, err
}

// countTold lets one client connect while all threads wait. A thread in which
// epoll_wait returns stays there and accepts nothing, so that in the end it has
// returned in every thread that one connection can wake.
func countTold(ctx context.Context, how sharing, threads int) (told int64, err error) {
	var count atomic.Int64
	release := make(chan struct{})
	c, err := newCrew(ctx, how, threads, func(w *waiter) error {
		count.Add(1)
		w.held.Store(true)
		<-release
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
	client, err := connectTo(c.addr, 0)
	if err != nil {
		return 0, err
	}
	defer closeAll(client)
	err = errors.Join(c.queued(), until(ctx, patience, func() (bool, error) {
		return count.Load() > 0, nil
	}), c.untilAtRest())
	return count.Load(), err
}

// countReturns lets clients connect one after the other, each when all threads
// wait again. A thread that wakes accepts at once, as servers do.
func countReturns(ctx context.Context, how sharing, connections int, s *stampede) (err error) {
	var returns, inVain atomic.Int64
	var c *crew
	c, err = newCrew(ctx, how, s.Threads, func(w *waiter) error {
		returns.Add(1)
		fd, ok, err := w.accept()
		if ok {
			closeAll(fd)
		} else {
			inVain.Add(1)
		}
		return errors.Join(err, c.rearm(w))
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.end()) }()
	if err := c.start(); err != nil {
		return err
	}
	for ; s.Connections < connections && ctx.Err() == nil; s.Connections++ {
		if err := visit(c.addr); err != nil {
			return err
		}
		if err := c.untilAtRest(); err != nil {
			return err
		}
	}
	s.Returns, s.InVain = returns.Load(), inVain.Load()
	return ctx.Err()
}

// visit connects, and returns when the server has accepted and closed.
func visit(addr netip.AddrPort) error {
	client, err := connectTo(addr, 0)
	if err != nil {
		return err
	}
	defer closeAll(client)
	return retry(func() error {
		_, err := unix.Read(client, make([]byte, 1))
		return err
	})
}

func herdResult(seen []stampede) *Result {
	table := Table{
		Title: fmt.Sprintf("%d threads wait for one address.", seen[0].Threads),
		Head:  []string{"how they wait", "woken for one connection", "returns per accept", "in vain"},
	}
	var all, one []string
	for _, s := range seen {
		table.Rows = append(table.Rows, []string{
			s.Sharing, fmt.Sprint(s.Told), fmt.Sprintf("%.2f", float64(s.Returns)/float64(s.Connections)),
			fmt.Sprint(s.InVain),
		})
		switch s.Told {
		case int64(s.Threads):
			all = append(all, s.Sharing)
		case 1:
			one = append(one, s.Sharing)
		}
	}
	return &Result{
		Demo:   "herd",
		Tables: []Table{table},
		Sentences: []string{
			fmt.Sprintf("One connection wakes all %d threads: %s.", seen[0].Threads, enumerate(all)),
			fmt.Sprintf("It wakes only one: %s.", enumerate(one)),
			fmt.Sprintf("The last two columns are for %d connections, each accepted at once. epoll"+
				" checks the listener again before it reports, so a thread that wakes too late gets"+
				" no report and sleeps again.", seen[0].Connections),
		},
		Data: seen,
	}
}
