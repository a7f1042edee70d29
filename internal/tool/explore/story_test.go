//go:build linux

package explore

import (
	"slices"
	"strings"
	"testing"

	"lesson/internal/kernel/simulated"
	"lesson/internal/proof"
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

// What a reader must know besides the story is printed below it, and is on its page.
func TestNotes(t *testing.T) {
	for _, c := range []struct {
		result string
		varies bool
		want   []string
	}{
		{"0", false, nil},
		{"EINTR" + faultMark, false, []string{aboutFaults}},
		{"0", true, []string{aboutVarying}},
		{"EINTR" + faultMark, true, []string{aboutFaults, aboutVarying}},
	} {
		r := &Report{Failure: &Failure{}, Varies: c.varies, Story: &Story{Steps: []Step{
			{Number: 1, Who: "server", Text: "read(5) = " + c.result},
		}}}
		var printed, page strings.Builder
		r.Print(&printed, 0)
		proof.Must(t, r.HTML(&page))
		for _, note := range []string{aboutFaults, aboutVarying} {
			want := slices.Contains(c.want, note)
			if strings.Contains(strings.Join(strings.Fields(printed.String()), " "), note) != want {
				t.Errorf("%+v, %q: printed\n%s", c, note, &printed)
			}
			if strings.Contains(page.String(), note) != want {
				t.Errorf("%+v, %q: the page has it, or lacks it", c, note)
			}
		}
	}
}

// The lists stand beside the steps if all of them fit there, and else below.
func TestListsAreNotCut(t *testing.T) {
	state := simulated.State{Interest: []simulated.EntryState{{FD: 3, Events: "IN"}, {FD: 5, Events: "IN|OUT|RDHUP|ET"}}}
	story := &Story{Steps: []Step{{Number: 1, Who: "server", Text: "epoll_ctl(4, ADD, 5, IN|OUT|RDHUP|ET) = 0", State: state}}}
	const before, lists = "  1 epoll_ctl(4, ADD, 5, IN|OUT|RDHUP|ET) = 0", "queue - | interest 3:IN 5:IN|OUT|RDHUP|ET | ready -\n"
	for width, want := range map[int]string{80: before + "\n      " + lists, 120: before + "    " + lists} {
		var b strings.Builder
		story.print(&b, width)
		if b.String() != want {
			t.Errorf("width %d:\n%swant\n%s", width, &b, want)
		}
	}
}
