//go:build linux

package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"lesson/internal/protocol"
)

var nodelay = Demo{
	Name:    "nodelay",
	Title:   "40 ms lost when Nagle's algorithm meets the delayed ACK",
	Chapter: "docs/09-socket-options.md",
	Run:     runNodelay,
}

// NodelaySeen is one connection, and request after request over it.
type NodelaySeen struct {
	Server    string     `json:"server"`
	Exchanges []Exchange `json:"exchanges"`
}

// exchanges is how many requests a connection carries. The first is answered
// quickly in any case: a receiver acknowledges the first segments of a connection
// at once, and delays only when it has seen that it answers what it receives
// (tcp_in_quickack_mode in net/ipv4/tcp_input.c).
const exchanges = 8

func runNodelay(ctx context.Context, o Options) (*Result, error) {
	var all []NodelaySeen
	for _, s := range senders {
		o.say("%s: %d requests over one connection", s.called, exchanges)
		seen, err := askAgain(ctx, s)
		if err != nil {
			return nodelayResult(all), err
		}
		all = append(all, *seen)
	}
	return nodelayResult(all), nil
}

// askAgain makes exchanges over one connection. The response comes in two pieces,
// its head and its body, as from a server that writes them one after the other.
func askAgain(ctx context.Context, s sender) (*NodelaySeen, error) {
	p, err := newWire(ctx)
	if err != nil {
		return nil, err
	}
	defer p.close()
	seen := &NodelaySeen{Server: s.called}
	for range exchanges {
		x, err := p.exchange(s, headAndBody())
		if err != nil {
			return nil, err
		}
		seen.Exchanges = append(seen.Exchanges, x)
	}
	return seen, nil
}

func headAndBody() [][]byte {
	const body = len("Hello, world!")
	head := len(protocol.Response) - body
	return [][]byte{protocol.Response[:head], protocol.Response[head:]}
}

// median is of the exchanges after the first.
func (n NodelaySeen) median() time.Duration {
	var took []time.Duration
	for _, x := range n.Exchanges[1:] {
		took = append(took, x.Took)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

func nodelayResult(all []NodelaySeen) *Result {
	if len(all) == 0 {
		return nil
	}
	t := Table{
		Title: fmt.Sprintf("%d requests over one connection, answered with head and body", exchanges),
		Head:  []string{"the server's way", "the first took", "the others, median", "data segments", "ACKs"},
	}
	slowest, quickest := all[0], all[0]
	for _, n := range all {
		last := n.Exchanges[len(n.Exchanges)-1]
		t.Rows = append(t.Rows, []string{
			n.Server, milliseconds(n.Exchanges[0].Took), milliseconds(n.median()),
			fmt.Sprint(last.Data), fmt.Sprint(last.Acks),
		})
		if n.median() > slowest.median() {
			slowest = n
		}
		if n.median() < quickest.median() {
			quickest = n
		}
	}
	r := &Result{Demo: "nodelay", Tables: []Table{t}, Data: all}
	if slowest.median() > delayedACK/2 {
		r.Sentences = append(r.Sentences, fmt.Sprintf("%s: the body was delayed by %s. The server's"+
			" kernel held it until the head was acknowledged (Nagle). The client's kernel held the"+
			" acknowledgement until there was something to send with it (delayed ACK).", slowest.Server, milliseconds(slowest.median())))
	}
	r.Sentences = append(r.Sentences, fmt.Sprintf("The fastest was %s, with %s.",
		quickest.Server, milliseconds(quickest.median())))
	return r
}

// delayedACK is how long Linux keeps an acknowledgement at the least: TCP_DELACK_MIN
// in include/net/tcp.h.
const delayedACK = 40 * time.Millisecond

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
