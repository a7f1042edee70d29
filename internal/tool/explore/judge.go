//go:build linux

package explore

import (
	"strings"

	"lesson/internal/words"
)

// judge looks at every client.
func (x *execution) judge() {
	for _, a := range x.actors {
		whole := wholeRequest(a.sent)
		switch {
		case a.stops:
		case a.conn != nil && a.conn.Refused():
			x.fail("unconnected", "%s is refused: the server has stopped listening", a.Name)
		case a.conn == nil || !a.conn.Connected() && !a.gone:
			x.fail("unconnected", "%s cannot connect", a.Name)
		case x.scenario.Unbounded && !a.end && a.err == nil && len(a.got) == 0 && x.kernel.Unread(a.conn) > 0:
			x.unanswered(a)
		case x.scenario.Unbounded && !a.end && a.err == nil && len(a.got) == 0:
			x.fail("unbounded", "%s has sent %d bytes without an end of the request, and the server continues to read",
				a.Name, len(a.sent))
		case x.scenario.Unbounded:
		case a.gone && !a.end && a.err == nil:
			// it did not want to know
		case !whole:
		case a.end || a.err != nil:
			x.judgeEnd(a)
		case !a.end && !a.gone:
			x.unanswered(a)
		}
	}
}

// judgeEnd judges what a client has got when it has read the end of it. A client that has
// sent no whole request may get anything.
func (x *execution) judgeEnd(a *actor) {
	got := string(a.got)
	switch {
	case x.scenario.Unbounded || !wholeRequest(a.sent):
	case !strings.HasPrefix(answer, got):
		x.fail("wrong", "%s got a wrong answer: %s%s", a.Name, quote(a.got), a.conn.Reused())
	case got == answer && a.err != nil:
		x.fail("reset", "%s got its answer, but then a reset instead of end of file%s", a.Name,
			a.conn.WhyReset())
	case a.err != nil:
		x.fail("reset", "%s got %d of %d bytes of its answer, and then a reset%s", a.Name,
			len(got), len(answer), a.conn.WhyReset())
	case got == "":
		x.fail("cut", "%s got end of file and no answer: the server sends its FIN in step %d", a.Name, a.conn.EndedIn())
	case got != answer:
		x.fail("cut", "%s got only %d of %d bytes of its answer: the server sends its FIN in step %d",
			a.Name, len(got), len(answer), a.conn.EndedIn())
	}
}

// unanswered fails the execution: the server sleeps, and the client is not served.
func (x *execution) unanswered(a *actor) { x.failSaid("unanswered", x.waits(a)) }

// waits says what the server leaves undone for a client while it sleeps.
func (x *execution) waits(a *actor) words.Sentence {
	sleeps := x.story.sleeps()
	waits := words.Say("%s waits for its answer, and the server %s", a.Name, sleeps)
	switch {
	case string(a.got) == answer:
		waits = words.Say("%s has its answer and waits for end of file, and the server %s", a.Name, sleeps)
	case len(a.got) > 0:
		waits = words.Say("%s waits for the last %d bytes of its answer, and the server %s",
			a.Name, len(answer)-len(a.got), sleeps)
	}
	if why := x.kernel.Silence(a.conn); why.Text != "" {
		return words.Say("%s: %s%s", waits, why, a.conn.Reused())
	}
	return waits
}

// sleeps says what a server does while nothing happens. One that is blocked in another call
// than epoll_wait cannot notice what epoll would report.
func (s *Story) sleeps() words.Sentence {
	if s != nil {
		blocked := s.blocked()
		if len(blocked) == 1 && !strings.HasPrefix(blocked[0].Text, "epoll_wait") {
			call := strings.TrimSuffix(blocked[0].Text, waitsMark)
			return words.Say("is blocked in %s since step %d", call, blocked[0].Number)
		}
	}
	return words.Say("sleeps")
}
