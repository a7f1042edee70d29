//go:build linux

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"lesson/internal/child"
	"lesson/internal/play"
	"lesson/internal/protocol"
)

// request is what every client sends: to the lessons a request, and to any server
// of HTTP.
var request = []byte("GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")

// An answer is what a server must send, byte for byte, and then end of file. Only
// the value of a header "Date:" may differ: it is the server's clock.
type answer struct {
	bytes    []byte
	from, to int // the value of Date
}

// newAnswer is the answer that consists of these bytes.
func newAnswer(p []byte) answer {
	a := answer{bytes: p}
	const name = "\nDate: "
	head, _, _ := bytes.Cut(p, []byte("\r\n\r\n"))
	if i := bytes.Index(head, []byte(name)); i >= 0 && !bytes.Equal(p, protocol.Response) {
		a.from = i + len(name)
		a.to = a.from + max(0, bytes.IndexByte(append(head[a.from:len(head):len(head)], '\r'), '\r'))
	}
	return a
}

// goesOn says whether the answer, of which got bytes have come, may go on with p.
func (a *answer) goesOn(got int, p []byte) bool {
	if got+len(p) > len(a.bytes) {
		return false
	}
	want := a.bytes[got : got+len(p)]
	if a.to <= got || got+len(p) <= a.from {
		return bytes.Equal(want, p)
	}
	from, to := max(0, a.from-got), min(len(p), a.to-got)
	return bytes.Equal(want[:from], p[:from]) && bytes.Equal(want[to:], p[to:])
}

// String says what is answered, "" when it is what the lessons answer.
func (a *answer) String() string {
	if bytes.Equal(a.bytes, protocol.Response) {
		return ""
	}
	status, _, _ := bytes.Cut(a.bytes[:min(len(a.bytes), 60)], []byte("\r\n"))
	return fmt.Sprintf("%d bytes, %q", len(a.bytes), status)
}

// learn asks a server twice what it answers.
func learn(addr netip.AddrPort, patience time.Duration) (answer, error) {
	first, err := ask(addr, patience)
	if err != nil {
		return answer{}, err
	}
	a := newAnswer(first)
	second, err := ask(addr, patience)
	if err == nil && (len(second) != len(first) || !a.goesOn(0, second)) {
		err = fmt.Errorf("it gives two answers, %q and %q: which is the right one?",
			child.LastWords(first), child.LastWords(second))
	}
	return a, err
}

func ask(addr netip.AddrPort, patience time.Duration) ([]byte, error) {
	c, err := play.Dial(addr)
	if err != nil {
		return nil, err
	}
	defer c.Close() // it has read to the end, or failed already
	if err := c.Send(request); err != nil {
		return nil, fmt.Errorf("sending %q: %w", request, err)
	}
	p, err := c.ReadAll(patience)
	hint := ""
	if errors.Is(err, play.ErrTimeout) && len(p) > 0 {
		hint = "; it must close the connection after its answer"
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("after %d bytes of an answer to %q: %w%s",
			len(p), strings.TrimSpace(string(request)), err, hint)
	case len(p) == 0:
		return nil, errors.New("it closes the connection without an answer")
	}
	return p, nil
}
