//go:build linux

package tour

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/proof"
)

// Each fault gets its verdict, and what only looks like it gets none.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	a, b := netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")
	nameOf := func(addr netip.AddrPort) string { return map[netip.AddrPort]string{a: "a", b: "b"}[addr] }
	wait := []trace.Event{{Name: "epoll_wait", FD: 3}}
	reads := []trace.Event{{Name: "read", FD: 5, Peer: a}}
	conn := func(fd int, state string, unread uint32) connection {
		return connection{Client: "a", Peer: a.String(), FD: fd, State: state, Unread: unread, Accepted: fd >= 0}
	}
	list := func(events string) []interest {
		return []interest{{FD: 4, What: "listener"}, {FD: 5, What: "connection", Events: events}}
	}
	held := map[netip.AddrPort]int{a: 5}
	times := func(n int, events ...trace.Event) (all []trace.Event) {
		for i := range n {
			for _, e := range events {
				e.Left, e.At = true, time.Duration(i)*time.Millisecond
				all = append(all, e)
			}
		}
		return all
	}
	for _, test := range []struct {
		what  string
		view  kernelEvent
		calls []trace.Event
		open  []trace.Event
		held  map[netip.AddrPort]int
		reset []netip.AddrPort
		want  string // a part of the sentence; "" for no verdict
	}{
		{what: "idle", open: wait},
		{what: "bytes after an edge", view: kernelEvent{Conns: []connection{conn(5, "ESTABLISHED", 9)},
			Interest: list("EPOLLIN|EPOLLET")}, open: wait, want: "9 bytes of client a are unread"},
		{what: "bytes after an edge while it works", view: kernelEvent{Conns: []connection{conn(5, "ESTABLISHED", 9)},
			Interest: list("EPOLLIN|EPOLLET")}, open: []trace.Event{{Name: "write"}}},
		{what: "a client that is silent", view: kernelEvent{Conns: []connection{conn(5, "ESTABLISHED", 0)},
			Interest: list("EPOLLIN|EPOLLET")}, open: wait, held: held},
		{what: "a client in the queue", view: kernelEvent{Conns: []connection{conn(-1, "ESTABLISHED", 0)},
			Interest: list("")}, open: wait, want: "Client a is in the accept queue"},
		{what: "a client in the queue without descriptors", view: kernelEvent{
			Conns: []connection{conn(-1, "ESTABLISHED", 0)}, Interest: list("")}, open: wait,
			calls: times(1, trace.Event{Name: "accept4", Err: "EMFILE", Result: -1})},
		{what: "one that the server has closed", view: kernelEvent{Conns: []connection{conn(-1, "FIN_WAIT2", 0)},
			Interest: list("")}, open: wait},
		{what: "in no interest list", view: kernelEvent{Conns: []connection{conn(6, "ESTABLISHED", 9)},
			Interest: list("EPOLLIN")}, open: wait, want: "No interest list has descriptor 6"},
		{what: "the end is not noticed", view: kernelEvent{Conns: []connection{conn(5, "CLOSE_WAIT", 0)},
			Interest: list("EPOLLIN")}, open: wait, want: "keeps descriptor 5"},
		{what: "a descriptor of nothing", open: wait, held: held, want: "keeps descriptor 5"},
		{what: "a descriptor of nothing while it works", open: reads, held: held},
		{what: "head of line", view: kernelEvent{Listener: &queue{Queue: 1}, Conns: []connection{
			{Client: "b", Peer: b.String(), FD: -1, State: "ESTABLISHED"}}}, open: reads, want: "b must wait behind a"},
		{what: "an answer", calls: times(1, trace.Event{Name: "send", Peer: a, Result: 114}), open: wait},
		{what: "an answer, and a reset", calls: times(1, trace.Event{Name: "send", Peer: a, Result: 114}), open: wait,
			reset: []netip.AddrPort{a}, want: "The answer to client a was sent"},
		{what: "a reset without an answer", open: wait, reset: []netip.AddrPort{a}},
		{what: "it reads the end of file again and again", calls: times(400,
			trace.Event{Name: "epoll_wait", Result: 1}, trace.Event{Name: "read", FD: 5, Args: "5, 9 bytes", Peer: a}),
			want: "again and again read(5, 9 bytes) of client a"},
		{what: "it reads bytes again and again", calls: times(400,
			trace.Event{Name: "epoll_wait", Result: 1}, trace.Event{Name: "read", FD: 5, Peer: a, Result: 9})},
		{what: "one client is read alone, and another waits", view: kernelEvent{Conns: []connection{
			conn(5, "ESTABLISHED", 9), {Client: "b", Peer: b.String(), FD: 6, State: "ESTABLISHED", Unread: 9, Accepted: true}}},
			calls: times(900, trace.Event{Name: "read", FD: 5, Peer: a, Result: 16}),
			want:  "It reads client a alone, again and again, and b must wait"},
		{what: "one client is read alone, and no other waits", view: kernelEvent{
			Conns: []connection{conn(5, "ESTABLISHED", 9)}},
			calls: times(900, trace.Event{Name: "read", FD: 5, Peer: a, Result: 16})},
		{what: "one client was read alone, and the server sleeps", view: kernelEvent{
			Conns: []connection{{Client: "b", Peer: b.String(), FD: 6, State: "ESTABLISHED", Unread: 9, Accepted: true}}},
			calls: times(900, trace.Event{Name: "read", FD: 5, Peer: a, Result: 16}), open: wait},
		{what: "two clients are read in turn", view: kernelEvent{Conns: []connection{conn(5, "ESTABLISHED", 9)}},
			calls: times(900, trace.Event{Name: "read", FD: 5, Peer: a, Result: 16},
				trace.Event{Name: "read", FD: 6, Peer: b, Result: 16})},
		{what: "it waits in between", calls: times(400,
			trace.Event{Name: "epoll_wait", Result: 0, Blocked: true}, trace.Event{Name: "read", FD: 5, Peer: a})},
	} {
		var c conduct
		for _, e := range test.calls {
			c.note(e)
		}
		c.open, c.held = test.open, test.held
		var j judge
		now := time.Second
		if n := len(test.calls); n > 0 {
			now = max(lasting, test.calls[n-1].At)
		}
		j.verdicts(&test.view, c, test.reset, nameOf, now)
		soon := j.verdicts(&test.view, c, test.reset, nameOf, now)
		got := soon
		if !strings.HasPrefix(test.what, "it ") {
			if len(soon) > 0 && test.reset == nil {
				t.Errorf("%s: %v, before it has lasted", test.what, soon)
			}
			got = j.verdicts(&test.view, c, test.reset, nameOf, now+lasting)
		}
		switch {
		case test.want == "" && len(got) > 0, test.want != "" && len(got) != 1:
			t.Errorf("%s: %v, want %q", test.what, got, test.want)
		case test.want != "" && !strings.Contains(got[0].Text, test.want):
			t.Errorf("%s: %q, want %q", test.what, got[0].Text, test.want)
		}
	}
}

// An exercise that has the fault gets the verdict.
func TestVerdictsOfTheExercises(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("an exercise is built with the go command")
	}
	proof.OnlyExhaustive(t, "6 exercises are built and watched: 15 s")
	long := play.Bytes(half + "Cookie: " + strings.Repeat("7", 2000) + "\r\n" + rest)
	for _, test := range []struct {
		exercise, kind string
		acts           []play.Act
		frozen         bool // while they act
	}{
		{"02-end-of-file-spin", spinning, []play.Act{
			{Do: play.Connect}, {Do: play.Send, Bytes: half}, {Do: play.HalfClose}}, false},
		{"06-one-read-per-edge", lostEdge, []play.Act{{Do: play.Connect}, {Do: play.Send, Bytes: long}}, false},
		{"07-one-accept-per-edge", leftQueued, []play.Act{
			{Do: play.Connect, Client: "a"}, {Do: play.Connect, Client: "b"}}, true},
		{"09-flooder", starved, []play.Act{
			{Do: play.Connect}, {Do: play.Connect, Client: "b"},
			{Do: play.Flood, Bytes: long}, {Do: play.Send, Bytes: half, Client: "b"}}, false},
		{"10-eaten-answer", destroyed, []play.Act{
			{Do: play.Connect}, {Do: play.Send, Bytes: half + rest + long}, {Do: play.Read}}, false},
		{"12-leak-on-reset", leaked, []play.Act{
			{Do: play.Connect}, {Do: play.Send, Bytes: half}, {Do: play.Reset}}, false},
	} {
		t.Run(test.exercise, func(t *testing.T) {
			t.Parallel()
			p := newRig(t, Options{}).open()
			server := p.add("exercise/" + test.exercise)
			s, err := p.tour.session(p.id)
			proof.Must(t, err)
			pid := s.shown()[0].run.pid()
			if test.frozen {
				proof.Must(t, unix.Kill(pid, unix.SIGSTOP))
				proof.Eventually(t, "all its threads are stopped", func() bool {
					stopped, err := proc.Stopped(pid)
					proof.Must(t, err)
					return stopped
				})
			}
			clients := 0
			for _, act := range test.acts {
				if act.Client == "" {
					act.Client = "a"
				}
				p.must("POST", p.base+"/acts", act, nil)
				switch {
				case test.frozen:
				case act.Do == play.Connect: // a connection that is reset before this is never accepted
					clients++
					p.await("the connection is accepted", func(events []anEvent) bool {
						accepted := 0
						for _, c := range view(events, server).Conns {
							if c.Accepted {
								accepted++
							}
						}
						return accepted == clients
					})
				case act.Do == play.Send && act.Client == "a":
					p.await("the bytes are read, and it waits again or closes", func(events []anEvent) bool {
						read := false
						return slices.ContainsFunc(events, func(e anEvent) bool {
							read = read || e.Server == server && e.Event.Name == "read" && e.Event.Left
							return read && (e.Event.Name == "epoll_wait" || e.Event.Name == "close")
						})
					})
				}
			}
			if test.frozen {
				p.await("all are in the accept queue", func(events []anEvent) bool {
					v := view(events, server)
					return v.Listener != nil && int(v.Listener.Queue) == len(test.acts)
				})
				proof.Must(t, unix.Kill(pid, unix.SIGCONT))
			}
			p.awaitOne(test.kind, func(e anEvent) bool {
				return e.Server == server && slices.ContainsFunc(e.Verdicts, func(v verdict) bool {
					return v.Kind == test.kind
				})
			})
		})
	}
}

// A server without a fault gets no verdict in any scenario, but that of the accept loop:
// the second client waits.
func TestNoVerdictOnTheLessons(t *testing.T) {
	t.Parallel()
	site, err := exportedFast()
	proof.Must(t, err)
	NoVerdicts(t, site.Dir)
}

// NoVerdicts reads the recordings of an exported site.
func NoVerdicts(t *testing.T, dir string) {
	t.Helper()
	recordings, err := filepath.Glob(filepath.Join(dir, "data", "recording", "*.json"))
	if err != nil || len(recordings) == 0 {
		t.Fatalf("%d recordings: %v", len(recordings), err)
	}
	for _, name := range recordings {
		text, err := os.ReadFile(name)
		proof.Must(t, err)
		var recording struct {
			Servers []serverEvent
			Log     []anEvent
		}
		proof.Must(t, json.Unmarshal(text, &recording))
		for _, e := range recording.Log {
			for _, v := range e.Verdicts {
				lesson := recording.Servers[slices.IndexFunc(recording.Servers, func(s serverEvent) bool {
					return s.Server == e.Server
				})].Lesson
				if v.Kind != headOfLine || lesson != "loop" && lesson != "blocking" {
					t.Errorf("%s, %s: %s", filepath.Base(name), lesson, v.Text)
				}
			}
		}
	}
}
