//go:build linux

package demo

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/proof"
)

// Ports are counted for each destination, and the side that closes first
// keeps them.
func TestPorts(t *testing.T) {
	t.Parallel()
	needPortRange(t)

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

// A machine that has just been measured has connections in TIME_WAIT on most of its
// ports. They lead to other servers, so the demo can use the ports.
func TestPortsInTimeWait(t *testing.T) {
	t.Parallel()
	needPortRange(t)
	all, _, err := portSettings()
	proof.Must(t, err)
	p := &portUser{ctx: t.Context()}
	defer p.close()
	proof.Must(t, p.choose(all))
	q, err := p.listen()
	proof.Must(t, err)
	_, err = p.fill(q, "")
	proof.Must(t, err)
	proof.Must(t, p.hangUp(q, q.clients, q.servers))
	if waits, _, err := p.waits(q); err != nil || waits != narrow {
		t.Fatalf("%d connections in TIME_WAIT (%v), want %d", waits, err, narrow)
	}

	again := &portUser{ctx: t.Context()}
	proof.Must(t, again.choose([2]int{int(p.low), int(p.low) + narrow - 1}))
	if again.low != p.low {
		t.Errorf("chose the range that begins at %d, want %d", again.low, p.low)
	}
}

func needPortRange(t *testing.T) {
	t.Helper()
	fd, err := newSocket()
	proof.Must(t, err)
	defer closeAll(fd)
	_, err = unix.GetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE)
	if errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("IP_LOCAL_PORT_RANGE needs Linux 6.3")
	}
}
