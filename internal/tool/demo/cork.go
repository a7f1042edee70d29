//go:build linux

package demo

import (
	"bytes"
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"lesson/internal/protocol"
)

var cork = Demo{
	Name:    "cork",
	Title:   "a response sent in pieces: how many segments each socket option makes",
	Chapter: "docs/09-socket-options.md",
	Run:     runCork,
}

// CorkSeen is one response, line by line, in one way.
type CorkSeen struct {
	Server string `json:"server"`
	Sends  int    `json:"sends"` // calls of send
	Exchange
}

func runCork(ctx context.Context, o Options) (*Result, error) {
	var all []CorkSeen
	for _, s := range append(append([]sender{}, senders...), withCorkForgotten) {
		o.say("%s", s.called)
		seen, err := answerAtOnce(ctx, s)
		if err != nil {
			return corkResult(all), err
		}
		all = append(all, *seen)
	}
	return corkResult(all), nil
}

// answerAtOnce does what answerInLines does, again if there was time for an acknowledgement
// between two lines: the machine is busy then, and the segments are others.
func answerAtOnce(ctx context.Context, s sender) (*CorkSeen, error) {
	const tries = 10
	for range tries {
		seen, err := answerInLines(ctx, s)
		if err != nil || seen.sending < delayedACK/2 {
			return seen, err
		}
	}
	return nil, errTooLong
}

// answerInLines lets the server send the response line by line, over a connection
// that has already carried one, so that nothing is special about it. The client's
// kernel delays its acknowledgements, as it does by itself for a client that asks
// again soon (see nodelay): TCP_QUICKACK 0, tcp(7).
func answerInLines(ctx context.Context, s sender) (*CorkSeen, error) {
	p, err := newWire(ctx)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if _, err := p.exchange(inOnePiece, [][]byte{protocol.Response}); err != nil {
		return nil, err
	}
	if err := setTCP(p.client, unix.TCP_QUICKACK, 0); err != nil {
		return nil, err
	}
	lines := bytes.SplitAfter(protocol.Response, []byte("\n"))
	x, err := p.exchange(s, lines)
	if err != nil {
		return nil, err
	}
	seen := &CorkSeen{Server: s.called, Sends: len(lines), Exchange: x}
	if s.called == inOnePiece.called {
		seen.Sends = 1
	}
	return seen, nil
}

func corkResult(all []CorkSeen) *Result {
	if len(all) == 0 {
		return nil
	}
	t := Table{
		Title: fmt.Sprintf("A response of %d bytes, sent line by line", len(protocol.Response)),
		Head: []string{"the server's way", "sends", "data segments", "bytes in each", "ACKs",
			"the client waited"},
	}
	few, many := all[0], all[0]
	for _, c := range all {
		t.Rows = append(t.Rows, []string{
			c.Server, fmt.Sprint(c.Sends), fmt.Sprint(c.Data),
			fmt.Sprintf("%.1f", float64(c.Bytes)/float64(c.Data)), fmt.Sprint(c.Acks),
			milliseconds(c.Took),
		})
		if c.Data > many.Data {
			many = c
		}
		if c.Data < few.Data {
			few = c
		}
	}
	r := &Result{Demo: "cork", Tables: []Table{t}, Data: all}
	r.Sentences = append(r.Sentences, fmt.Sprintf("%s made %d segments of the response. Each has at"+
		" least 40 bytes of headers, and costs both sides work; %s needs only %d.",
		many.Server, many.Data, few.Server, few.Data))
	if last := all[len(all)-1]; last.Server == withCorkForgotten.called {
		r.Sentences = append(r.Sentences, fmt.Sprintf("If the server never uncorks, the kernel"+
			" sends the data after a while: the client waited %s.", milliseconds(last.Took)))
	}
	return r
}
