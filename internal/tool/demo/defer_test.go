//go:build linux

package demo

import (
	"testing"

	"lesson/internal/proof"
)

// A connection that has said nothing yet does not reach the server; and where it
// does, that is one sleep less for each client.
func TestDefer(t *testing.T) {
	t.Parallel()
	r, err := runDefer(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "defer", r)
	all := r.Data.([]DeferSeen)
	off, on := all[0], all[1]
	if off.Held != silentClients || on.Held != 0 {
		t.Errorf("of %d silent clients %d reached the server, and %d with the option",
			silentClients, off.Held, on.Held)
	}
	if on.Woken >= off.Woken {
		t.Errorf("silent clients woke it %d times, and %d times with the option", off.Woken, on.Woken)
	}
	if on.Used.Sleeps >= off.Used.Sleeps {
		t.Errorf("it slept %d times, and %d times with the option", off.Used.Sleeps, on.Used.Sleeps)
	}
}
