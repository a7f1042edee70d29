//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"lesson/internal/play"
	"lesson/internal/protocol"
	"lesson/internal/server"
)

var deferAccept = Demo{
	Name:    "defer",
	Title:   "TCP_DEFER_ACCEPT: no wake-up before there is something to read",
	Chapter: "docs/09-socket-options.md",
	Run:     runDefer,
}

// DeferSeen is what a server does for its clients, with or without the option.
type DeferSeen struct {
	Deferred bool     `json:"defer_accept"`
	Clients  int      `json:"clients"` // that asked, and were answered
	Used     counters `json:"used"`    // for these
	Silent   int      `json:"silent"`  // that connected and said nothing
	Held     int64    `json:"held"`    // of these, how many the server has accepted
	Woken    int64    `json:"woken"`   // epoll_wait returned, for the silent ones
}

const (
	askingClients = 100
	silentClients = 50
	// thinking is from a client's connection to its request. In a network it is
	// a round trip; what counts is that the server is asleep again.
	thinking = 2 * time.Millisecond
)

func runDefer(ctx context.Context, o Options) (*Result, error) {
	var all []DeferSeen
	for _, deferred := range []bool{false, true} {
		o.say("TCP_DEFER_ACCEPT %v: %d clients that send a request, %d silent ones",
			deferred, askingClients, silentClients)
		seen, err := serveBoth(ctx, deferred)
		if err != nil {
			return deferResult(all), err
		}
		all = append(all, *seen)
	}
	return deferResult(all), nil
}

// serveBoth lets step 4 serve clients that ask, and then clients that do not.
func serveBoth(ctx context.Context, deferred bool) (*DeferSeen, error) {
	w, err := watch("epoll", &watchedKernel{countSleeps: true}, server.Options{
		Addr: netip.AddrPortFrom(loopback, 0), Backlog: 128, Timeout: time.Minute,
		DeferAccept: deferred,
	})
	if err != nil {
		return nil, err
	}
	seen := &DeferSeen{Deferred: deferred, Clients: askingClients, Silent: silentClients}
	err = errors.Join(w.serveAsking(ctx, seen), w.serveSilent(ctx, seen))
	return seen, errors.Join(err, w.stop())
}

// serveAsking counts what clients cost that ask a while after they have connected,
// one after the other.
func (w *watched) serveAsking(ctx context.Context, seen *DeferSeen) error {
	before, err := w.count()
	if err != nil {
		return err
	}
	for range seen.Clients {
		if err := w.ask(ctx, seen.Deferred); err != nil {
			return err
		}
	}
	after, err := w.count()
	seen.Used = after.since(before)
	return err
}

func (w *watched) ask(ctx context.Context, deferred bool) error {
	accepted := w.Counts().Accepted.Load()
	c, err := play.Dial(w.Addr())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := w.think(ctx, deferred, accepted+1); err != nil {
		return err
	}
	if err := c.Send([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return err
	}
	answer, err := c.ReadAll(play.Patience)
	if err == nil && len(answer) != len(protocol.Response) {
		err = fmt.Errorf("an answer of %d bytes", len(answer))
	}
	return err
}

// think lets time go by between a client's connection and its request. Without the option,
// the server has accepted the connection before that time begins, however busy the machine is.
func (w *watched) think(ctx context.Context, deferred bool, accepted int64) error {
	if !deferred {
		err := until(ctx, play.Patience, func() (bool, error) {
			return w.Counts().Accepted.Load() >= accepted, nil
		})
		if err != nil {
			return err
		}
	}
	return pause(ctx, thinking)
}

// serveSilent connects clients that say nothing, and then one that asks: when that
// one has its answer, all before it have left the accept queue that ever will.
func (w *watched) serveSilent(ctx context.Context, seen *DeferSeen) error {
	accepted, before := w.Counts().Accepted.Load(), w.kernel.wakes.Load()
	for range seen.Silent {
		c, err := play.Dial(w.Addr())
		if err != nil {
			return err
		}
		defer c.Close()
	}
	if err := w.think(ctx, seen.Deferred, accepted+int64(seen.Silent)); err != nil {
		return err
	}
	seen.Woken = w.kernel.wakes.Load() - before
	if err := w.ask(ctx, seen.Deferred); err != nil {
		return err
	}
	seen.Held = w.Counts().Accepted.Load() - accepted - 1
	return nil
}

// sleeps is how often the server slept for each client that asked.
func (d DeferSeen) sleeps() float64 { return float64(d.Used.Sleeps) / float64(d.Clients) }

func deferResult(all []DeferSeen) *Result {
	if len(all) == 0 {
		return nil
	}
	t := Table{
		Title: fmt.Sprintf("%d clients that send a request %v after they connect, then %d silent ones",
			askingClients, thinking, silentClients),
		Head: []string{"TCP_DEFER_ACCEPT", "per client: slept", "system calls", "processor",
			"silent: accepted", "wake-ups"},
	}
	for _, d := range all {
		on := "off"
		if d.Deferred {
			on = "on"
		}
		t.Rows = append(t.Rows, []string{
			on, fmt.Sprintf("%.1f", d.sleeps()), fmt.Sprintf("%.1f", float64(d.Used.Calls)/float64(d.Clients)),
			fmt.Sprintf("%d us", d.Used.CPU.Microseconds()/int64(d.Clients)),
			fmt.Sprint(d.Held), fmt.Sprint(d.Woken),
		})
	}
	r := &Result{Demo: "defer", Tables: []Table{t}, Data: all}
	if len(all) == 2 {
		off, on := all[0], all[1]
		r.Sentences = []string{
			fmt.Sprintf("For each client, the server went to sleep %.1f times without the option, and %.1f"+
				" times with it.", off.sleeps(), on.sleeps()),
			fmt.Sprintf("With the option, the server accepted %d of %d silent clients; without it, %d. For"+
				" the clients, all of these connections were established.", on.Held, on.Silent, off.Held),
		}
	}
	return r
}
