//go:build linux

package simulated

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/words"
)

// A State is what can be seen of the kernel between two steps.
type State struct {
	Now      string       `json:"now"`
	Queue    []string     `json:"queue"`    // the accept queue: names of clients
	Interest []EntryState `json:"interest"` // the interest list
	Ready    []int        `json:"ready"`    // the ready list: descriptors, in order
	Conns    []ConnState  `json:"conns"`
}

// An EntryState is an entry of the interest list.
type EntryState struct {
	FD     int    `json:"fd"`
	Events string `json:"events"`
}

// A ConnState is an open connection of the server.
type ConnState struct {
	FD     int    `json:"fd"`
	Client string `json:"client"`
	Unread int    `json:"unread"`
	Unsent int    `json:"unsent"`
}

// State returns the state now.
func (k *Kernel) State() State {
	s := State{Now: fmt.Sprintf("%.3f s", (k.now - begin).Seconds())}
	for _, l := range k.sockets {
		for _, c := range l.queue {
			s.Queue = append(s.Queue, c.client.Name)
		}
	}
	for fd, f := range k.files {
		switch {
		case f == nil:
		case f.epoll != nil:
			for _, e := range f.epoll.interest {
				s.Interest = append(s.Interest, EntryState{e.fd, EventNames(e.events &^ (unix.EPOLLERR | unix.EPOLLHUP))})
			}
			for _, e := range f.epoll.ready {
				s.Ready = append(s.Ready, e.fd)
			}
		case f.socket != nil && f.socket.client != nil:
			s.Conns = append(s.Conns, ConnState{fd, f.socket.client.Name, len(f.socket.unread), len(f.socket.unsent)})
		}
	}
	return s
}

// EventNames writes events in short: "IN|ET"; "0" for none.
func EventNames(events uint32) string { return Short(kernel.EventNames(events)) }

// Short writes the names of events in a text without "EPOLL".
func Short(text string) string { return strings.ReplaceAll(text, "EPOLL", "") }

// Silence explains why no event comes for a client that waits: what the server has not
// taken, and what epoll has reported of it.
func (k *Kernel) Silence(c *Client) words.Sentence {
	switch {
	case c == nil || c.conn == nil:
		return words.Sentence{}
	case k.queued(c.conn):
		return words.Say("the connection is in the accept queue%s", k.silenceOf(k.listenerOf(c.conn)))
	case c.conn.file == nil:
		return words.Sentence{}
	}
	fd := k.number(c.conn.file)
	s := c.conn
	switch {
	case len(s.unread) > 0:
		return words.Say("%d bytes of this client are unread in %d%s", len(s.unread), fd, k.silenceOf(s))
	case s.end:
		return words.Say("the end of file of this client is unread in %d%s", fd, k.silenceOf(s))
	case len(s.unsent) > 0:
		return words.Say("%d bytes of the answer are still in the send buffer of %d", len(s.unsent), fd)
	}
	if s.short > 0 && !s.writeShut {
		return words.Say("a send to %d fell short in step %d, and the rest was not sent when there was room%s",
			fd, s.short, k.silenceOf(s))
	}
	if s.readIn > 0 && s.sentIn == 0 {
		return words.Say("the server has read all that this client sent, from %d in step %d, and has sent nothing%s",
			fd, s.readIn, k.silenceOf(s))
	}
	return words.Say("the server has read all that this client sent, from %d%s", fd, k.silenceOf(s))
}

// Reported names what epoll_wait has returned last, as far as it is still ready: "IN of 5".
func (k *Kernel) Reported() words.Sentence {
	var all words.Sentence
	for _, e := range k.last {
		if events := e.file.poll() & e.events; events != 0 {
			one := words.Say("%s of %d", EventNames(events), e.fd)
			if all.Text != "" {
				one = words.Say("%s, %s", all, one)
			}
			all = one
		}
	}
	return all
}

// silenceOf explains the part of epoll in that.
func (k *Kernel) silenceOf(s *socket) words.Sentence {
	if s == nil || s.file == nil || !k.polls() {
		return words.Sentence{}
	}
	if len(s.file.watched) == 0 {
		return words.Say("; no interest list has it")
	}
	e := s.file.watched[0]
	switch {
	case e.events&^privateBits == 0:
		return words.Say("; its EPOLLONESHOT entry fired in step %d and was not armed again", e.reported)
	case e.events&^privateBits == unix.EPOLLERR|unix.EPOLLHUP:
		return words.Say("; its entry asks for no events, so the server must go on by itself")
	case s.poll()&e.events == 0:
		return words.Say("; its entry asks for %s only", EventNames(e.events&^(unix.EPOLLERR|unix.EPOLLHUP)))
	case e.events&unix.EPOLLET != 0 && e.reported > 0:
		return words.Say("; the edge was reported in step %d, and there has been no other since", e.reported)
	}
	return words.Sentence{}
}

// polls reports whether the server has an epoll descriptor.
func (k *Kernel) polls() bool {
	for _, f := range k.files {
		if f != nil && f.epoll != nil {
			return true
		}
	}
	return false
}

func (k *Kernel) listenerOf(c *socket) *socket {
	for _, l := range k.sockets {
		for _, queued := range l.queue {
			if queued == c {
				return l
			}
		}
	}
	return nil
}

// number returns the lowest descriptor of a file.
func (k *Kernel) number(f *file) int {
	for fd, other := range k.files {
		if other == f {
			return fd
		}
	}
	return -1
}

// Unread returns how many bytes of a client the server has not read.
func (k *Kernel) Unread(c *Client) int { return len(c.conn.unread) }

// Changes counts the changes for which a thread could wait.
func (k *Kernel) Changes() int { return k.changed }

// Skip counts a call that a decorator has answered in the kernel's place.
func (k *Kernel) Skip(name string, fd int) { k.enter(name, fd)() }

// ListenPort returns the port of the listener, 0 if there is none.
func (k *Kernel) ListenPort() uint16 {
	for _, s := range k.sockets {
		if s.state == listening {
			return s.local.Port()
		}
	}
	return 0
}
