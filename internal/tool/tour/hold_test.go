//go:build linux

package tour

import (
	"net/http"
	"testing"

	"lesson/internal/play"
)

// A server that is frozen makes no call, and is not judged; the kernel queues its clients
// meanwhile. When it continues, it serves them.
func TestAFrozenServerMakesNoCall(t *testing.T) {
	t.Parallel()
	p := newRig(t, Options{}).open()
	server := p.add("epoll")
	p.awaitStanding(server, "epoll_wait epoll/eventloop.go")
	hold := func(how string, on bool) {
		t.Helper()
		p.must("POST", p.base+"/servers", map[string]any{how: server, "on": on}, nil)
	}
	hold("freeze", true)
	p.act("a", play.Connect, "")
	p.act("a", play.Send, half+rest)
	p.await("a is in the accept queue with its bytes", func(events []anEvent) bool {
		v := view(events, server)
		return len(v.Conns) == 1 && !v.Conns[0].Accepted && v.Conns[0].Unread == uint32(len(half+rest))
	})
	p.awaitStanding(server, "epoll_wait epoll/eventloop.go")
	hold("freeze", false)
	p.awaitState(server, "a", "answered")

	hold("ration", true)
	p.act("b", play.Connect, "")
	p.awaitOne("accept4 fails", func(e anEvent) bool {
		return e.Type == "call" && e.Event.Name == "accept4" && e.Event.Err == "EMFILE"
	})
	hold("ration", false)
	p.act("b", play.Send, half+rest)
	p.awaitState(server, "b", "answered")
	if v := view(p.all(), server); len(v.Verdicts) > 0 {
		t.Errorf("%v", v.Verdicts)
	}

	// A server that is frozen ends with its page.
	hold("freeze", true)
	p.must("POST", p.base+"/servers", map[string]any{"remove": server}, nil)
	if status, _ := p.ask("POST", p.base+"/servers", map[string]any{"freeze": server, "on": true}); status != http.StatusNotFound {
		t.Errorf("a server that is no more is frozen: %d", status)
	}
}
