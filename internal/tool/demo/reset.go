//go:build linux

package demo

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

var reset = Demo{
	Name:    "reset",
	Title:   "how close with unread bytes destroys the answer, and how lingering close does not",
	Chapter: "docs/07-when-clients-misbehave.md",
	Run:     runReset,
}

// A farewell is one conversation: what the client has sent when the server has
// answered, how the server ends it, and what comes of the answer.
type farewell struct {
	Client string `json:"client"`
	Server string `json:"server"` // "close", or "lingering close"
	Answer int    `json:"answer"` // bytes that send took from the server
	SendOn string `json:"send_on"`
	Read   int    `json:"read"` // bytes of the answer that reached the client
	Then   string `json:"then"` // what the client's read said after them
}

// A visitor is a client, and the answer that it is given.
type visitor struct {
	what          string
	rest          int // bytes of its body that it sends after the server's last word
	receiveBuffer int // 0 leaves it to the kernel
	answer        int // bytes
}

const (
	body        = 10_000  // bytes of a body that the server does not read
	shortAnswer = 114     // bytes: the lessons' own
	longAnswer  = 100_000 // bytes: more than a small receive buffer holds
)

var visitors = []visitor{
	{"sent it all, reads", 0, 0, shortAnswer},
	{"sends the rest now, reads", body / 2, 0, shortAnswer},
	{"sent it all, reads slowly", 0, 4096, longAnswer},
}

func runReset(ctx context.Context, o Options) (*Result, error) {
	var seen []farewell
	for _, v := range visitors {
		for _, lingering := range []bool{false, true} {
			if ctx.Err() != nil {
				break
			}
			o.say("%s; lingering close: %v", v.what, lingering)
			f, err := v.meet(ctx, lingering)
			if ctx.Err() != nil {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("a client that %s: %w", v.what, err)
			}
			seen = append(seen, f)
		}
	}
	if len(seen) == 0 {
		return nil, ctx.Err()
	}
	return resetResult(seen), ctx.Err()
}

// meet plays one conversation. One thread plays both ends in turn: nothing here
// depends on who is faster.
func (v visitor) meet(ctx context.Context, lingering bool) (farewell, error) {
	f := farewell{Client: v.what, Server: "close"}
	p, err := newPair(ctx, v.receiveBuffer)
	if err != nil {
		return f, err
	}
	defer p.close()

	const request = "POST / HTTP/1.0\r\n\r\n"
	sent := append([]byte(request), make([]byte, body-v.rest)...)
	if _, err := unix.Write(p.client, sent); err != nil {
		return f, err
	}
	if err := p.untilUnread(p.server, len(sent)); err != nil {
		return f, err
	}
	if _, err := unix.Read(p.server, make([]byte, len(request))); err != nil {
		return f, err
	}
	// So large a send buffer takes the answer at once, whatever the client does.
	err = unix.SetsockoptInt(p.server, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*longAnswer)
	if err != nil {
		return f, err
	}
	if f.Answer, err = unix.Write(p.server, make([]byte, v.answer)); err != nil {
		return f, err
	}
	if lingering {
		f.Server = "lingering close"
		err = unix.Shutdown(p.server, unix.SHUT_WR)
	} else {
		p.closeServer()
		err = p.untilState(p.client, tcpClosed)
	}
	if err != nil {
		return f, err
	}
	v.finish(p, &f)
	if lingering {
		err = p.drain()
	}
	return f, err
}

// finish is the client's part after the server's last word.
func (v visitor) finish(p *pair, f *farewell) {
	f.SendOn = "–"
	if v.rest > 0 {
		n, err := unix.SendmsgN(p.client, make([]byte, v.rest), nil, nil, unix.MSG_NOSIGNAL)
		f.SendOn = outcome(n, err)
	}
	buffer := make([]byte, 4096)
	for {
		n, err := unix.Read(p.client, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			f.Then = endName(err)
			p.closeClient()
			return
		}
		f.Read += n
	}
}

func endName(err error) string {
	if err == nil {
		return "end of file"
	}
	return errorName(err)
}

// drain reads and throws away, up to end of file: the second half of a lingering
// close, on a client that we know to close.
func (p *pair) drain() error {
	buffer := make([]byte, 4096)
	return p.until(func() (bool, error) {
		n, err := unix.Read(p.server, buffer)
		if err == unix.EAGAIN || err == unix.EINTR {
			return false, nil
		}
		return n == 0, err
	})
}

func resetResult(seen []farewell) *Result {
	table := Table{
		Title: "The server has answered, and has not read the body.",
		Head:  []string{"the client", "close", "answer", "it sends on", "it reads", "then"},
	}
	var eaten, refused, whole, lingered int
	for _, f := range seen {
		how := "plain"
		if f.Server != "close" {
			how = "lingering"
		}
		table.Rows = append(table.Rows, []string{
			f.Client, how, fmt.Sprint(f.Answer), f.SendOn, fmt.Sprint(f.Read), f.Then,
		})
		switch {
		case f.Server != "close":
			lingered++
			if f.Read == f.Answer && f.Then == "end of file" {
				whole++
			}
		case f.Read < f.Answer:
			eaten += f.Answer - f.Read
		case f.SendOn != "–" && f.SendOn[0] == 'E':
			refused++
		}
	}
	return &Result{
		Demo:   "reset",
		Tables: []Table{table},
		Sentences: []string{
			fmt.Sprintf("close: %d bytes of an answer that send had accepted never reached the client;"+
				" for %d client, sending the body failed although the answer had arrived.",
				eaten, refused),
			fmt.Sprintf("Lingering close: %d of %d clients read the whole answer and then end of file.",
				whole, lingered),
		},
		Data: seen,
	}
}
