//go:build linux

package check

import (
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
)

// sees returns a sight of a server that is blocked in epoll_wait.
func sees(change func(*sight)) *sight {
	s := &sight{looked: true, waiting: true}
	change(s)
	return s
}

func watchedFor(events uint32) interest {
	return interest{Interest: proc.Interest{FD: 7, Events: events}, watched: true, known: true}
}

// What is seen has one cause, or none.
func TestTheCauseFollowsFromWhatIsSeen(t *testing.T) {
	const level, edges = unix.EPOLLIN, unix.EPOLLIN | unix.EPOLLET
	one, two := make([]proc.Call, 1), make([]proc.Call, 2)
	runtimes := watchedFor(edges)
	runtimes.runtime = true
	for _, c := range []struct {
		name  string
		sight *sight
		model Model
		want  string
	}{
		{"a server that cannot be seen", &sight{link: queued, queue: 3}, EventLoop, ""},
		{"a server that has read everything", sees(func(s *sight) { s.link = allRead }), EventLoop, ""},
		{"an accept queue that edges leave full", sees(func(s *sight) {
			s.link, s.queue, s.listener = queued, 3, watchedFor(edges)
		}), EventLoop, oneAccept},
		{"an empty accept queue", sees(func(s *sight) {
			s.listener = watchedFor(edges)
		}), EventLoop, ""},
		{"a level-triggered listener", sees(func(s *sight) {
			s.link, s.queue, s.listener = queued, 3, watchedFor(level)
		}), EventLoop, ""},
		{"a listener that is no longer watched", sees(func(s *sight) {
			s.link, s.queue, s.listener.known = queued, 1, true
		}), EventLoop, listenerUnwatched},
		{"a listener whose ONESHOT is used up", sees(func(s *sight) {
			s.link, s.queue, s.listener = queued, 1, watchedFor(unix.EPOLLONESHOT)
		}), EventLoop, listenerUnwatched},
		{"no descriptor free", sees(func(s *sight) {
			s.link, s.queue, s.listener, s.full = queued, 1, watchedFor(edges), true
		}), EventLoop, noneFree},
		{"bytes behind an edge", sees(func(s *sight) {
			s.link, s.connection = bytesUnread, watchedFor(edges)
		}), EventLoop, leftBehindEdge},
		{"bytes that level-triggered epoll still reports", sees(func(s *sight) {
			s.link, s.connection = bytesUnread, watchedFor(level)
		}), EventLoop, ""},
		{"bytes that the Go runtime waits for", sees(func(s *sight) {
			s.link, s.connection = bytesUnread, runtimes
		}), EventLoop, ""},
		{"end of file behind an edge", sees(func(s *sight) {
			s.link, s.connection = endUnread, watchedFor(edges)
		}), EventLoop, endBehindEdge},
		{"a connection that is not watched", sees(func(s *sight) {
			s.link, s.connection.known = bytesUnread, true
		}), EventLoop, unwatched},
		{"threads that all read from others", sees(func(s *sight) {
			s.link, s.reading, s.waiting = queued, two, false
		}), Threaded, poolUsedUp},
		{"a pool that is taken for an event loop", sees(func(s *sight) {
			s.link, s.reading, s.waiting = bytesUnread, two, false
		}), EventLoop, poolUsedUp},
		{"the thread that accepts, in a read", sees(func(s *sight) {
			s.link, s.reading, s.waiting = queued, one, false
		}), Threaded, acceptorReads},
		{"an event loop in a read", sees(func(s *sight) {
			s.link, s.reading, s.waiting = queued, one, false
		}), EventLoop, readBlocks},
		{"a server for one client at a time, in a read", sees(func(s *sight) {
			s.link, s.reading, s.waiting = queued, one, false
		}), Loop, oneAtATime},
		{"an event loop in a write", sees(func(s *sight) {
			s.link, s.writing, s.waiting = queued, one, false
		}), EventLoop, writeBlocks},
		{"a spin at end of file", sees(func(s *sight) {
			s.link, s.spins, s.spin = queued, true, &spin{kind: spinsAtEnd}
		}), EventLoop, spinCauses[spinsAtEnd]},
		{"a spin that nothing explains", sees(func(s *sight) {
			s.link, s.spins, s.spin = queued, true, &spin{}
		}), EventLoop, ""},
	} {
		if got := c.sight.cause(c.model); got != c.want {
			t.Errorf("%s: cause %q, want %q", c.name, got, c.want)
		}
	}
}

// A step that only prepares does not have the cause of its case, nor does a client that
// waits in vain for a server that cannot be seen.
func TestNoEvidenceNoCause(t *testing.T) {
	one := Case{Cause: "the case's", script: []step{
		send("a", half), answered("a"), next(),
	}}
	survives := Case{Cause: "the case's", ends: true, script: []step{resets("a"), next()}}
	for _, c := range []struct {
		name string
		of   Case
		step int
		f    *failure
		want string
	}{
		{"a wrong answer", one, 2, &failure{heard: heardOther}, "the case's"},
		{"no answer, and nothing to be seen", one, 2, &failure{seen: &sight{}}, ""},
		{"no answer to what was read", one, 2,
			&failure{seen: &sight{looked: true, link: allRead}}, "the case's"},
		{"no answer to what was not read", one, 2,
			&failure{seen: &sight{looked: true, link: bytesUnread}}, ""},
		{"a step that prepares", one, 1, &failure{heard: heardOther}, ""},
		{"a step that prepares, with a cause", one, 1, &failure{cause: firstRead}, firstRead},
		{"what comes after", one, 3, &failure{heard: heardOther}, ""},
		{"what comes after, when it is all that judges", survives, 2,
			&failure{heard: heardOther}, "the case's"},
		{"a reset after the answer", one, 3, &failure{heard: heardAnswer}, closesFull},
		{"what the step says", one, 1, &failure{otherwise: someOnly}, someOnly},
	} {
		tr := &trial{server: &server{Server: new(child.Server)}}
		if got := tr.because(c.of, c.step, c.f, nil); got != c.want {
			t.Errorf("%s: cause %q, want %q", c.name, got, c.want)
		}
	}
}

// The end of a server has a cause when it shows one.
func TestTheCauseOfAnEnd(t *testing.T) {
	const status = "the server has ended: exit status 1"
	for _, c := range []struct {
		process []string
		want    string
	}{
		{[]string{status}, ""},
		{[]string{status, "its last lines: c.sendall(ANSWER)\nBlockingIOError: [Errno 11]"},
			endedByAgain("send")},
		{[]string{status, "its last lines: c.recv(1024)\nBlockingIOError: [Errno 11]"},
			endedByAgain("recv")},
		{[]string{status, "its last lines: l.accept()\nBlockingIOError: [Errno 11]"},
			endedByAgain("accept")},
		{[]string{"the server has ended: exit status 143"}, endsByNumber},
		{[]string{"the server has ended: signal: aborted"}, abortsItself},
		{[]string{"the server has ended: signal: segmentation fault"}, wrongMemory},
	} {
		if got := telling(c.process); got != c.want {
			t.Errorf("%q: cause %q, want %q", c.process, got, c.want)
		}
	}
}

// What a server does again and again shows why it spins.
func TestSpins(t *testing.T) {
	type outcomes map[ptrace.Outcome]int64
	for _, c := range []struct {
		name string
		of   outcomes
		want spinKind
	}{
		{"end of file", outcomes{
			{Call: "epoll_wait", FD: 4, Result: 1, Events: unix.EPOLLIN}: 100,
			{Call: "recvfrom", FD: 7}:                                    100,
		}, spinsAtEnd},
		{"interest in EPOLLOUT, and a read because of it", outcomes{
			{Call: "epoll_wait", FD: 4, Result: 1, Events: unix.EPOLLOUT}: 100,
			{Call: "read", FD: 7, Result: -int64(unix.EAGAIN)}:            100,
		}, spinsOnRoom},
		{"a read that is tried again", outcomes{
			{Call: "read", FD: 7, Result: -int64(unix.EAGAIN)}: 100,
		}, spinsReading},
		{"a write that is tried again", outcomes{
			{Call: "sendto", FD: 7, Result: -int64(unix.EAGAIN)}: 100,
		}, spinsWriting},
		{"accept without descriptors", outcomes{
			{Call: "poll", FD: -1195020624, Result: 1}:            100,
			{Call: "accept4", FD: 3, Result: -int64(unix.EMFILE)}: 100,
		}, spinsAccepting},
		{"accept without descriptors, and a report about each failure", outcomes{
			{Call: "openat", FD: -100, Result: -int64(unix.EMFILE)}:      200,
			{Call: "epoll_wait", FD: 4, Result: 1, Events: unix.EPOLLIN}: 10,
			{Call: "accept4", FD: 3, Result: -int64(unix.EMFILE)}:        10,
		}, spinsAccepting},
		{"accept without descriptors, and a question about the listener", outcomes{
			{Call: "pselect6", FD: 8, Result: 1}:                  100,
			{Call: "fcntl", FD: 6, Result: 1}:                     100,
			{Call: "accept4", FD: 6, Result: -int64(unix.EMFILE)}: 100,
		}, spinsAccepting},
		{"EPOLLHUP", outcomes{
			{Call: "epoll_wait", FD: 4, Result: 1, Events: unix.EPOLLHUP | unix.EPOLLOUT}: 100,
		}, spinsOnHangUp},
		{"an error that is ignored", outcomes{
			{Call: "read", FD: 7, Result: -int64(unix.ECONNRESET)}: 100,
		}, spinsOnError},
		{"an event that is not handled", outcomes{
			{Call: "select", FD: 9, Result: 1}: 100,
		}, spinsOnEvent},
		{"a timeout of nothing", outcomes{{Call: "poll", FD: 9}: 100}, spinsOnTimeout},
		{"few calls", outcomes{{Call: "read", FD: 7}: fewSpins - 1}, spinsUnknown},
		{"clients that end, one after the other", outcomes{
			{Call: "recvfrom", FD: 7, Result: 1}: 100,
			{Call: "recvfrom", FD: 7}:            100,
		}, spinsUnknown},
		{"work", outcomes{
			{Call: "epoll_wait", FD: 4, Result: 1, Events: unix.EPOLLIN}: 100,
			{Call: "recvfrom", FD: 7, Result: 1}:                         100,
		}, spinsUnknown},
	} {
		if got := spinOf(c.of); got.kind != c.want {
			t.Errorf("%s: %d (%v), want %d", c.name, got.kind, got, c.want)
		}
	}
}

// Evidence shows a number as a descriptor only where it is one.
func TestDescriptorsInEvidence(t *testing.T) {
	for name, want := range map[string]string{
		"poll": "poll", "select": "select", "futex": "futex",
		"epoll_wait": "epoll_wait(4, …)", "recvfrom": "recvfrom(4, …)", "accept4": "accept4(4, …)",
	} {
		if got := on(name, 4); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}
