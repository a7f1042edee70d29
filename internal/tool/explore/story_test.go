//go:build linux

package explore

import (
	"slices"
	"testing"

	"lesson/internal/kernel/simulated"
)

// A call that returns the same again and again is one step, with the state after the last.
// An act of a client, another result or another cause begins a new one.
func TestStoryFolds(t *testing.T) {
	read := func(n int, result string, unread int) Step {
		state := simulated.State{Conns: []simulated.ConnState{{FD: 5, Unread: unread}}}
		return Step{Number: n, Who: "server", Text: "read(5) = " + result, Line: 7, State: state}
	}
	act := func(n int) Step { return Step{Number: n, Text: "a sends 5 bytes more"} }
	wait := func(n int, why string) Step {
		return Step{Number: n, Who: "server", Text: "epoll_wait(4) = 1", Why: []string{why}}
	}
	times := func(n int, s Step) Step { s.Times = n; return s }
	story := &Story{Steps: []Step{
		read(1, "16", 30), read(2, "16", 20), read(3, "16", 10), act(4), act(5),
		read(6, "16", 5), read(7, "EAGAIN", 0), read(8, "EAGAIN", 0), wait(9, "x"), wait(10, "y"),
	}}
	first := times(3, read(1, "16", 30))
	first.State = read(3, "", 10).State
	want := []Step{
		first, act(4), act(5), read(6, "16", 5), times(2, read(7, "EAGAIN", 0)), wait(9, "x"), wait(10, "y"),
	}
	same := func(a, b Step) bool {
		return a.Number == b.Number && a.Times == b.Times && a.Text == b.Text &&
			lists(a.State) == lists(b.State)
	}
	if got := story.folded(); !slices.EqualFunc(got, want, same) {
		t.Errorf("folded to %+v\nwant %+v", got, want)
	}
}
