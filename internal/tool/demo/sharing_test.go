//go:build linux

package demo

import (
	"slices"
	"testing"

	"lesson/internal/proof"
)

// One connection, which no thread accepts: which threads wake?
func TestHerd(t *testing.T) {
	t.Parallel()
	const threads, connections = 4, 20
	want := map[string]int64{
		plainLevel.name: threads,
		plainEdge.name:  threads,
		exclusive.name:  1,
		listLevel.name:  threads,
		listEdge.name:   1,
		listOnce.name:   1,
		reusePort.name:  1,
	}
	var seen []stampede
	for _, how := range herdSharings {
		s, err := observeHerd(t.Context(), how, threads, connections)
		proof.Must(t, err)
		seen = append(seen, s)
		if s.Told != want[how.name] {
			t.Errorf("%s: epoll_wait returned in %d of %d threads, want %d", how.name, s.Told, threads, want[how.name])
		}
		if s.Connections != connections || s.Returns-s.InVain != connections {
			t.Errorf("%s: %d returns, %d of them in vain, for %d connections, want one accepted by each"+
				" of the others", how.name, s.Returns, s.InVain, connections)
		}
	}
	if len(want) != len(seen) {
		t.Errorf("%d ways, want %d", len(seen), len(want))
	}
	checkResult(t, "herd", herdResult(seen))
}

func TestUneven(t *testing.T) {
	t.Parallel()
	const clients = 80
	var seen []spread
	for _, how := range unevenSharings {
		s, err := observeSpread(t.Context(), how, clients)
		proof.Must(t, err)
		seen = append(seen, s)
		for _, loops := range [][]int{s.Quiet, s.Burst} {
			sum := 0
			for _, n := range loops {
				sum += n
			}
			if len(loops) != unevenLoops || sum != clients {
				t.Errorf("%s: the loops have %v, want %d clients in all", how.name, loops, clients)
			}
		}
		switch how.name {
		case exclusive.name:
			if s.Quiet[0] != clients {
				t.Errorf("%s, one by one: %v, want all at one loop", how.name, s.Quiet)
			}
		case reusePort.name:
			// A hash spreads them. That a loop of four has none of 80, or half of
			// them, would happen once in a million runs.
			if s.Quiet[unevenLoops-1] == 0 || s.Quiet[0] > clients*6/10 {
				t.Errorf("%s, one by one: %v, want about %d at each", how.name, s.Quiet,
					clients/unevenLoops)
			}
		}
		if wait := how.name == reusePort.name; wait != (s.Waiting > 0) {
			t.Errorf("%s: a busy loop keeps %d waiting; want some: %v", how.name, s.Waiting, wait)
		}
	}
	checkResult(t, "uneven", unevenResult(seen))
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	r, err := orphans.Run(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "orphans", r)
	halves := r.Data.([]Orphaned)
	if len(halves) < 2 {
		t.Log("no second half here: ", r.Sentences[len(r.Sentences)-1])
	}
	for _, s := range halves {
		if s.Queued == 0 || s.Queued == s.Clients {
			t.Errorf("%d of %d clients were at the closed listener, want some", s.Queued, s.Clients)
		}
		want := s.Queued
		if s.Migrate == "1" {
			want = 0
		}
		if s.Reset != want || s.Reset+s.Served != s.Clients {
			t.Errorf("tcp_migrate_req %s: %d of %d were reset and %d served, want %d reset",
				s.Migrate, s.Reset, s.Clients, s.Served, want)
		}
	}
}

// Only a descriptor that is passed takes the accept queue with it.
func TestHandover(t *testing.T) {
	t.Parallel()
	r, err := handover.Run(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "handover", r)
	const all = handoverClients
	want := []HandedOver{
		{"close, then listen again", all, 0, all, "ECONNREFUSED"},
		{"listen with SO_REUSEPORT, then close", all, 0, all, "connected"},
		{"pass the descriptor, then close", all, all, 0, "connected"},
	}
	if got := r.Data.([]HandedOver); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
