//go:build linux

package demo

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

var memory = Demo{
	Name:    "memory",
	Title:   "how much the kernel keeps for a connection while its receiver does not read",
	Chapter: "docs/08-when-the-machine-runs-out.md",
	Run:     runMemory,
}

// MemorySeen is one connection at one moment. Bytes are what the kernel has charged
// to the sockets, for data; the sockets themselves, and what a server keeps of its
// own, come on top.
type MemorySeen struct {
	Moment string `json:"moment"`
	// Sent is the bytes that the sender has handed over, and the receiver not read.
	Sent int `json:"sent"`
	// What that takes: in the receive buffer of the one's socket, and in the send
	// buffer of the other's.
	Receiving uint32 `json:"receiving"`
	Sending   uint32 `json:"sending"`
}

// runMemory lets the client send to a server that does not read. The other way
// round it is the same.
func runMemory(ctx context.Context, o Options) (*Result, error) {
	p, err := newWire(ctx)
	if err != nil {
		return nil, err
	}
	defer p.close()
	var all []MemorySeen
	sent := 0
	look := func(moment string) error {
		server, err := memoryOf(p.server)
		if err != nil {
			return err
		}
		client, err := memoryOf(p.client)
		all = append(all, MemorySeen{moment, sent, server.receiving, client.sending})
		return err
	}
	if err := look("nothing sent: idle"); err != nil {
		return nil, err
	}
	if err := sendPieces(p.client, [][]byte{[]byte("G")}, 0); err != nil {
		return nil, err
	}
	sent = 1
	err = until(ctx, wirePatience, func() (bool, error) { // a busy kernel delivers it later
		server, err := memoryOf(p.server)
		return server.receiving > 0, err
	})
	if err != nil {
		return nil, err
	}
	if err := look("one byte"); err != nil {
		return nil, err
	}
	o.say("sending until the kernel takes no more")
	n, err := p.fill()
	sent += n
	if err != nil {
		return nil, err
	}
	if err := look("as much as fits"); err != nil {
		return nil, err
	}
	if err := p.receive(p.server, sent); err != nil {
		return nil, err
	}
	sent = 0
	// The last acknowledgement may come 40 ms later.
	err = until(ctx, wirePatience, func() (bool, error) {
		client, err := memoryOf(p.client)
		return client.sending == 0, err
	})
	if err != nil {
		return nil, err
	}
	if err := look("all read: idle again"); err != nil {
		return nil, err
	}
	return memoryResult(all), nil
}

// fill sends until both buffers are full and stay so for a while: they grow while
// they are used.
func (p *wire) fill() (sent int, err error) {
	const calm = 300 // tries, a millisecond apart
	piece := make([]byte, 64<<10)
	for full := 0; full < calm; {
		n, err := unix.Write(p.client, piece)
		switch {
		case err == unix.EAGAIN:
			full++
			if err := pause(p.ctx, time.Millisecond); err != nil {
				return sent, err
			}
		case err == unix.EINTR:
		case err != nil:
			return sent, fmt.Errorf("write: %w", err)
		default:
			sent += n
			full = 0
		}
	}
	return sent, nil
}

func memoryResult(all []MemorySeen) *Result {
	t := Table{
		Title: "One connection, and the bytes that the kernel keeps for its data",
		Head:  []string{"", "bytes unread", "the receiver's socket", "the sender's socket"},
	}
	most := all[0]
	for _, m := range all {
		t.Rows = append(t.Rows, []string{
			m.Moment, fmt.Sprint(m.Sent), fmt.Sprint(m.Receiving), fmt.Sprint(m.Sending),
		})
		if m.Receiving+m.Sending > most.Receiving+most.Sending {
			most = m
		}
	}
	r := &Result{Demo: "memory", Tables: []Table{t}, Data: all}
	r.Sentences = []string{
		fmt.Sprintf("An idle connection takes %d bytes for data. One unread byte took %d: the kernel"+
			" keeps data together with its description. While the receiver did not read, the kernel"+
			" kept %.1f MiB, %.1f of them for the sender.", all[0].Receiving+all[0].Sending,
			all[1].Receiving, mebibytes(most.Receiving+most.Sending), mebibytes(most.Sending)),
		"The table does not count the sockets themselves, nor the server's own memory.",
	}
	return r
}

func mebibytes(n uint32) float64 { return float64(n) / (1 << 20) }
