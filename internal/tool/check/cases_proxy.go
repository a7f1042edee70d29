//go:build linux

package check

import (
	"errors"
	"fmt"

	"lesson/internal/play"
)

// proxies are cases about a server that connects to a back end for its clients.
var proxies = []Case{
	{
		Address: "proxy/refused", Severity: Must, Models: goingOn,
		Chapter: misbehave, Contract: "B7", FailedBy: []string{"29-not-connected"},
		needs: aBackEnd, when: inVain,
		Must: "When the back end refuses a connection, the client gets an error, or at least the end of its" +
			" own connection; the proxy leaks nothing, and sleeps.",
		Why: "A back end that is being restarted refuses for a moment. A proxy that does not notice keeps" +
			" the clients of that moment waiting forever.",
		Cause: "After EINPROGRESS, EPOLLOUT reports that the attempt to connect has ended, and not that it" +
			" has succeeded. Read SO_ERROR then: it shows which.",
		script: append(
			given(
				servesAFew(),
				own("the server's open descriptors are counted", (*trial).countDescriptors),
				own("the back end ends, so its port refuses connections", func(t *trial) error {
					return t.server.backEnd.end()
				}),
			),
			connect("a"), maySend("a", whole), unserved("a"),
			own(fmt.Sprintf("%d more clients send that at the same time, and must receive the same", aFew),
				(*trial).manyUnserved),
			own("it must have no more descriptors open than before", func(t *trial) error {
				return t.descriptorsBack(t.held + descriptorSlack)
			}),
			calm(),
			preparing(own("the back end runs again", func(t *trial) error {
				return t.server.backEnd.start()
			})),
			next(),
		),
	},
}

// OfProxies reports whether the case is only asked of a server that is given a back end.
func (c Case) OfProxies() bool { return c.needs == aBackEnd }

// unserved demands an error for a client whose request the server cannot pass on.
func unserved(name string) step {
	text := name + " must receive a 5xx, or nothing, and then its connection must end"
	return own(text, func(t *trial) error {
		got, end := t.read(name)
		t.note("%s: %s", name, t.words(got, end))
		return t.judgeUnserved(t.clients[name], got, end)
	})
}

// manyUnserved are clients whose requests the server cannot pass on, at the same time: a proxy
// may try several times, with pauses, before it gives up.
func (t *trial) manyUnserved() error {
	if err := t.queue(aFew, ""); err != nil {
		return err
	}
	got, end := make([][]byte, aFew), make([]error, aFew)
	t.sideBySide(aFew, func(i int) {
		_ = t.crowd[i].Send([]byte(whole)) // fails when the server has closed already
		got[i], end[i] = t.readAll(t.crowd[i])
		if !errors.Is(end[i], play.ErrTimeout) {
			_ = t.crowd[i].Close() // a server that takes one at a time waits for it
		}
	})
	for i, c := range t.crowd {
		if err := t.judgeUnserved(c, got[i], end[i]); err != nil {
			return err
		}
	}
	t.crowd = nil
	return nil
}

// judgeUnserved demands what the client of a proxy gets whose back end refuses: a 5xx, or the
// end of its connection. A proxy that does not speak HTTP has nothing else to say.
func (t *trial) judgeUnserved(c *play.Conn, got []byte, end error) error {
	const serverErrors = 5
	switch {
	case status(got)/100 == serverErrors && end == nil:
		return nil
	case len(got) == 0 && (end == nil || errors.Is(end, play.ErrReset)):
		return nil
	}
	return t.hears(c, got, end, "an error, such as 502, or just the end of the connection")
}
