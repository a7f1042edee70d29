//go:build linux

package demo

import (
	"slices"
	"testing"
	"time"

	"lesson/internal/proof"
	"lesson/internal/protocol"
)

// Nagle's algorithm and the delayed ACK wait for each other, 40 ms in each exchange
// but the first. A server that sends the response in one piece, or states what to do
// with the pieces, waits for nothing.
func TestNagleMeetsDelayedACK(t *testing.T) {
	t.Parallel()
	var all []NodelaySeen
	for _, s := range senders {
		seen, err := askAgain(t.Context(), s)
		proof.Must(t, err)
		all = append(all, *seen)
		var waits []time.Duration
		for _, x := range seen.Exchanges[1:] {
			waits = append(waits, x.Took)
		}
		if s.called == inPieces.called {
			// A client that was kept from its processor for long does not look
			// like one that answers, and is acknowledged for at once: then one of
			// them may be short.
			if seen.median() < delayedACK-time.Millisecond {
				t.Errorf("%s: the exchanges took only %v", s.called, waits)
			}
			continue
		}
		// A busy machine may add to some of them; not all may be long for a
		// reason of their own.
		if slices.Min(waits) > delayedACK/2 {
			t.Errorf("%s: the exchanges took %v", s.called, waits)
		}
		want := uint32(1)
		if s.called == withNoDelay.called {
			want = 2 // head and body, at once
		}
		for i, x := range seen.Exchanges {
			if x.Data != want {
				t.Errorf("%s: response %d made %d segments, want %d", s.called, i+1, x.Data, want)
			}
		}
	}
	checkResult(t, "nodelay", nodelayResult(all))
}

// How many segments a response is depends on who decides: each send, the
// acknowledgements, or the one who holds the cork.
func TestCork(t *testing.T) {
	t.Parallel()
	r, err := runCork(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "cork", r)
	all := r.Data.([]CorkSeen)
	want := map[string]uint32{
		inOnePiece.called: 1, inPieces.called: 2, withNoDelay.called: 6, withCork.called: 1,
		withMore.called: 1, withCorkForgotten.called: 1,
	}
	if len(all) != len(want) {
		t.Fatalf("%d ways, want %d", len(all), len(want))
	}
	for _, c := range all {
		if c.Data != want[c.Server] {
			t.Errorf("%s: %d segments, want %d", c.Server, c.Data, want[c.Server])
		}
		if c.Bytes != uint64(len(protocol.Response)) {
			t.Errorf("%s: %d bytes", c.Server, c.Bytes)
		}
		// A cork is held for 200 ms at the most: tcp(7).
		if c.Server == withCorkForgotten.called && c.Took < 190*time.Millisecond {
			t.Errorf("%s: the client waited only %v", c.Server, c.Took)
		}
	}
}
