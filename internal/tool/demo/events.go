//go:build linux

package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/sockets"
)

var events = Demo{
	Name:    "events",
	Title:   "what epoll reports for data, half-close, close, reset, and our own shutdown",
	Chapter: "docs/07-when-clients-misbehave.md",
	Run:     runEvents,
}

// A happening is something that happens to a connection, and what the kernel then
// reports to its server.
type happening struct {
	What string `json:"what"`
	// Level and Edge are what epoll_wait reports in three calls, one after the
	// other, without anything being read in between.
	Level []string `json:"level"`
	Edge  []string `json:"edge"`
	Read  []string `json:"read"` // what read then returns, until end of file or an error

	do func(p *pair) error // makes it so, and returns when the kernel has seen it
}

// happenings is the experiment, line by line.
func happenings() []happening {
	send := func(p *pair) error {
		_, err := unix.Write(p.client, []byte("12345"))
		return errors.Join(err, p.untilUnread(p.server, 5))
	}
	halfClose := func(p *pair) error {
		err := unix.Shutdown(p.client, unix.SHUT_WR)
		return errors.Join(err, p.untilState(p.server, sockets.CloseWait))
	}
	closes := func(p *pair) error {
		p.closeClient()
		return p.untilState(p.server, sockets.CloseWait)
	}
	resets := func(p *pair) error {
		return errors.Join(p.resetClient(), p.untilState(p.server, tcpClosed))
	}
	weShut := func(how int) func(p *pair) error {
		return func(p *pair) error {
			err := unix.Shutdown(p.server, how)
			if how != unix.SHUT_RD { // else nothing is sent
				err = errors.Join(err, p.untilState(p.server, sockets.FinWait2))
			}
			return err
		}
	}
	// The client's kernel answers bytes that cannot be read any more with a reset.
	weSend := func(p *pair) error {
		_, err := unix.Write(p.server, []byte("answer"))
		return errors.Join(err, p.untilState(p.server, tcpClosed))
	}
	bothEnd := func(p *pair) error {
		return errors.Join(unix.Shutdown(p.client, unix.SHUT_WR), p.untilState(p.server, tcpClosed))
	}
	in := func(steps ...func(p *pair) error) func(p *pair) error {
		return func(p *pair) error {
			for _, step := range steps {
				if err := step(p); err != nil {
					return err
				}
			}
			return nil
		}
	}
	return []happening{
		{What: "nothing", do: in()},
		{What: "it sends 5 bytes", do: send},
		{What: "it half-closes", do: halfClose},
		{What: "it sends 5 bytes, half-closes", do: in(send, halfClose)},
		{What: "it closes", do: closes},
		{What: "it closes, and we send", do: in(closes, weSend)},
		{What: "it resets", do: resets},
		{What: "it sends 5 bytes, resets", do: in(send, resets)},
		{What: "we shut down SHUT_WR", do: weShut(unix.SHUT_WR)},
		{What: "we SHUT_WR, it half-closes", do: in(weShut(unix.SHUT_WR), bothEnd)},
		{What: "we shut down SHUT_RD", do: weShut(unix.SHUT_RD)},
		{What: "we shut down both", do: weShut(unix.SHUT_RDWR)},
	}
}

func runEvents(ctx context.Context, o Options) (*Result, error) {
	var seen []happening
	for _, h := range happenings() {
		if ctx.Err() != nil {
			break
		}
		o.say("%s", h.What)
		if err := h.observe(ctx); ctx.Err() != nil {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", h.What, err)
		}
		seen = append(seen, h)
	}
	if len(seen) == 0 {
		return nil, ctx.Err()
	}
	return eventsResult(seen), ctx.Err()
}

// observe makes a connection, puts the server's end into two interest lists, one
// for levels and one for edges, lets it happen, and asks.
func (h *happening) observe(ctx context.Context) error {
	p, err := newPair(ctx, 0)
	if err != nil {
		return err
	}
	defer p.close()

	const interest = unix.EPOLLIN | unix.EPOLLRDHUP
	level, err := watchOne(p.server, interest)
	if err != nil {
		return err
	}
	defer closeAll(level)
	edge, err := watchOne(p.server, interest|unix.EPOLLET)
	if err != nil {
		return err
	}
	defer closeAll(edge)

	if err := h.do(p); err != nil {
		return err
	}
	for range 3 {
		for _, list := range []struct {
			fd   int
			told *[]string
		}{{level, &h.Level}, {edge, &h.Edge}} {
			reported, err := ready(list.fd)
			if err != nil {
				return err
			}
			*list.told = append(*list.told, eventNames(reported))
		}
	}
	return h.read(p.server)
}

// read reads until there is nothing more to learn.
func (h *happening) read(fd int) error {
	var buffer [16]byte
	for {
		n, err := unix.Read(fd, buffer[:])
		if err == unix.EINTR {
			continue
		}
		h.Read = append(h.Read, outcome(n, err))
		if err != nil || n == 0 {
			return nil
		}
	}
}

// watchOne is an epoll descriptor with one entry in its interest list.
func watchOne(fd int, interest uint32) (int, error) {
	list, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("epoll_create1: %w", err)
	}
	event := unix.EpollEvent{Events: interest, Fd: int32(fd)}
	if err := unix.EpollCtl(list, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		closeAll(list)
		return -1, fmt.Errorf("epoll_ctl: %w", err)
	}
	return list, nil
}

// ready asks an interest list with one entry, without waiting.
func ready(list int) (uint32, error) {
	var events [1]unix.EpollEvent
	var n int
	err := retry(func() (err error) {
		n, err = unix.EpollWait(list, events[:], 0)
		return err
	})
	if err != nil || n < 1 {
		return 0, err
	}
	return events[0].Events, nil
}

func eventNames(events uint32) string {
	var names []string
	for _, e := range []struct {
		bit  uint32
		name string
	}{
		{unix.EPOLLIN, "IN"}, {unix.EPOLLOUT, "OUT"}, {unix.EPOLLRDHUP, "RDHUP"},
		{unix.EPOLLHUP, "HUP"}, {unix.EPOLLERR, "ERR"},
	} {
		if events&e.bit != 0 {
			names = append(names, e.name)
		}
	}
	return strings.Join(names, "|")
}

func eventsResult(seen []happening) *Result {
	table := Table{
		Title: "The interest is EPOLLIN and EPOLLRDHUP; epoll_wait is called three times.",
		Head:  []string{"what happens", "epoll reports", "level", "edge", "read returns"},
	}
	reported, levels, edges := 0, 0, 0
	var hups []string
	for _, h := range seen {
		table.Rows = append(table.Rows, []string{
			h.What, cmp.Or(h.Level[0], "(nothing)"), times(h.Level), times(h.Edge),
			strings.Join(h.Read, ", "),
		})
		if reportedIn(h.Level) > 0 {
			reported++
		}
		if reportedIn(h.Level) == len(h.Level) {
			levels++
		}
		if reportedIn(h.Edge) == 1 {
			edges++
		}
		if strings.Contains(h.Level[0], "|HUP") {
			hups = append(hups, h.What)
		}
	}
	return &Result{
		Demo:   "events",
		Tables: []Table{table},
		Sentences: []string{
			fmt.Sprintf("%d of %d cases are reported. Level-triggered: %d of them by every call."+
				" Edge-triggered: %d of them by one call only.", reported, len(seen), levels, edges),
			fmt.Sprintf("EPOLLHUP, which is not in the interest, is reported for: %s.", enumerate(hups)),
		},
		Data: seen,
	}
}

func times(reports []string) string {
	return fmt.Sprintf("%d of %d", reportedIn(reports), len(reports))
}

func reportedIn(reports []string) int {
	n := 0
	for _, r := range reports {
		if r != "" {
			n++
		}
	}
	return n
}
