//go:build linux

package demo

import (
	"slices"
	"testing"

	"lesson/internal/proof"
)

// What epoll reports to a server, for each thing that a client does. A server that
// tests for a flag must know which others come with it.
func TestEvents(t *testing.T) {
	t.Parallel()
	want := map[string]struct {
		events string
		read   []string
	}{
		"nothing":                       {"", []string{"EAGAIN"}},
		"it sends 5 bytes":              {"IN", []string{"5", "EAGAIN"}},
		"it half-closes":                {"IN|RDHUP", []string{"0"}},
		"it sends 5 bytes, half-closes": {"IN|RDHUP", []string{"5", "0"}},
		"it closes":                     {"IN|RDHUP", []string{"0"}},
		"it closes, and we send":        {"IN|RDHUP|HUP|ERR", []string{"0"}},
		"it resets":                     {"IN|RDHUP|HUP|ERR", []string{"ECONNRESET"}},
		"it sends 5 bytes, resets":      {"IN|RDHUP|HUP|ERR", []string{"5", "ECONNRESET"}},
		"we shut down SHUT_WR":          {"", []string{"EAGAIN"}},
		"we SHUT_WR, it half-closes":    {"IN|RDHUP|HUP", []string{"0"}},
		"we shut down SHUT_RD":          {"IN|RDHUP", []string{"0"}},
		"we shut down both":             {"IN|RDHUP|HUP", []string{"0"}},
	}
	r, err := events.Run(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "events", r)
	seen := r.Data.([]happening)
	if len(seen) != len(want) {
		t.Errorf("%d happenings, want %d", len(seen), len(want))
	}
	for _, h := range seen {
		w, known := want[h.What]
		if !known {
			t.Errorf("%s: not in the table of this test", h.What)
			continue
		}
		// A level is reported for as long as it lasts, an edge once.
		level, edge := []string{w.events, w.events, w.events}, []string{w.events, "", ""}
		if !slices.Equal(h.Level, level) {
			t.Errorf("%s: level-triggered, epoll says %q, want %q", h.What, h.Level, level)
		}
		if !slices.Equal(h.Edge, edge) {
			t.Errorf("%s: edge-triggered, epoll says %q, want %q", h.What, h.Edge, edge)
		}
		if !slices.Equal(h.Read, w.read) {
			t.Errorf("%s: read says %q, want %q", h.What, h.Read, w.read)
		}
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	r, err := reset.Run(t.Context(), Options{})
	proof.Must(t, err)
	checkResult(t, "reset", r)
	seen := r.Data.([]farewell)
	if len(seen) != 2*len(visitors) {
		t.Fatalf("%d conversations, want %d", len(seen), 2*len(visitors))
	}
	for _, f := range seen {
		if f.Server == "lingering close" {
			if f.Read != f.Answer || f.Then != "end of file" {
				t.Errorf("%s, lingering close: read %d of %d, then %s; want all, then end of file",
					f.Client, f.Read, f.Answer, f.Then)
			}
			continue
		}
		// Each loses something else: the end, its own sending, the answer.
		switch f.Client {
		case visitors[0].what:
			if f.Then != "ECONNRESET" {
				t.Errorf("%s, close: after the answer %s, want ECONNRESET", f.Client, f.Then)
			}
		case visitors[1].what:
			if f.SendOn != "ECONNRESET" {
				t.Errorf("%s, close: sending on says %s, want ECONNRESET", f.Client, f.SendOn)
			}
		case visitors[2].what:
			if f.Answer != longAnswer || f.Read >= f.Answer || f.Then != "ECONNRESET" {
				t.Errorf("%s, close: read %d of %d, then %s; want part of it, then ECONNRESET",
					f.Client, f.Read, f.Answer, f.Then)
			}
		}
	}
}
