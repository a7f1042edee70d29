//go:build linux

package demo

import (
	"errors"
	"lesson/internal/proof"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Ports are counted for each pair of addresses, and the side that closes first
// keeps them.
func TestPorts(t *testing.T) {
	t.Parallel()
	fd, err := newSocket()
	proof.Must(t, err)
	_, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE)
	closeAll(fd)
	if errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("IP_LOCAL_PORT_RANGE needs Linux 6.3")
	}

	r, err := runPorts(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "ports", r)
	seen := r.Data.(*PortsSeen)
	later := 0 // connections once tcp_tw_reuse has had its second
	if seen.Reuse != 0 {
		later = narrow
	}
	want := []PortTrial{
		{"to one server", narrow, "EADDRNOTAVAIL", 0, 0},
		{"to another port of it", narrow, "EADDRNOTAVAIL", 0, 0},
		{"the server closed first", narrow, "EADDRNOTAVAIL", 0, narrow},
		{"the clients closed first", 0, "EADDRNOTAVAIL", narrow, 0},
		{"a second later", later, "EADDRNOTAVAIL", narrow, 0},
	}
	if len(seen.Trials) != len(want) {
		t.Fatalf("%d trials, want %d", len(seen.Trials), len(want))
	}
	for i, got := range seen.Trials {
		called := want[i].Called
		got.Called = called
		if got != want[i] {
			t.Errorf("%s: %+v, want %+v", called, got, want[i])
		}
	}
	if seen.Rebind != "EADDRINUSE" || seen.RebindReused != "" {
		t.Errorf("bind without SO_REUSEADDR: %q, with it: %q", seen.Rebind, seen.RebindReused)
	}
	if seen.Range == [2]int{32768, 60999} && !strings.Contains(r.Sentences[0], "28232") {
		t.Errorf("%q does not count the ports", r.Sentences[0])
	}
}
