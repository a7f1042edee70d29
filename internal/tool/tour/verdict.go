//go:build linux

package tour

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lesson/internal/observe/sockets"
	"lesson/internal/observe/trace"
	"lesson/internal/words"
)

// A verdict names a fault of a server that its calls and the kernel show, or what one client
// has to wait for.
type verdict struct {
	Kind string `json:"kind"`
	words.Sentence
}

// The kinds of verdicts.
const (
	spinning   = "spins"
	lostEdge   = "lost edge"
	leftQueued = "left in the accept queue"
	unwatched  = "not watched"
	leaked     = "leaked descriptor"
	destroyed  = "answer destroyed"
	headOfLine = "head-of-line blocking"
	starved    = "starvation"
)

// lasting is how long a state must last to be judged: what a server is about to do, it has
// done by then.
const lasting = 700 * time.Millisecond

// lastingLooks is in how many looks a state must be seen to be judged. Two can be the last
// before the machine stalls and the first after that, when no server has run in between.
const lastingLooks = 3

// A server spins that makes so many calls one after the other of which none moves a byte or
// waits, in at most spinWithin.
const (
	spinCalls  = 300
	spinWithin = 3 * time.Second
)

// servesAlone is how many calls in a row a server makes for one client before it is said
// to serve that client alone. A lesson makes far fewer in a turn.
const servesAlone = 200

// A conduct is what the calls of a server show beyond trace.State.
type conduct struct {
	idle      int           // calls since one has moved something, or waited
	since     time.Duration // when the first of them returned
	last      trace.Event   // the last of them that was not a wait for many
	exhausted bool          // the last accept found no descriptor left
	alone     turn
	answered  map[netip.AddrPort]bool

	open []trace.Event          // the calls that have not returned
	held map[netip.AddrPort]int // the descriptors of connections that were not closed
}

// A turn is the calls in a row that a server makes for one client.
type turn struct {
	peer  netip.AddrPort
	calls int
	since time.Duration // when the first of them returned
}

// mostAnswered bounds the connections of which a conduct knows that they were answered.
const mostAnswered = 1024

// note follows the server by one event.
func (c *conduct) note(e trace.Event) {
	if !e.Left {
		return
	}
	accepts := strings.HasPrefix(e.Name, "accept")
	if accepts {
		c.exhausted = e.Err == "EMFILE" || e.Err == "ENFILE"
	}
	sends := slices.Contains([]string{"write", "writev", "send", "sendmsg", "sendfile"}, e.Name)
	if sends && e.Result > 0 {
		if c.answered == nil || len(c.answered) >= mostAnswered {
			c.answered = map[netip.AddrPort]bool{}
		}
		c.answered[e.Peer] = true
	}
	if e.Peer != c.alone.peer || e.Blocked || !e.Peer.IsValid() {
		c.alone = turn{peer: e.Peer, since: e.At}
	}
	c.alone.calls++
	many := waitsForMany(e.Name)
	moves := e.Err == "" && (accepts || e.Name == "close" || e.Result > 0 && !many)
	if e.Blocked || moves {
		*c = conduct{exhausted: c.exhausted, answered: c.answered, alone: c.alone}
		return
	}
	if c.idle++; c.idle == 1 {
		c.since = e.At
	}
	if !many || c.last.Name == "" {
		c.last = e
	}
	// Many calls over a long time are not a spin: begin again.
	if c.idle < spinCalls && e.At-c.since > spinWithin {
		c.idle = 0
	}
}

// waitsForMany reports whether a call waits for events of many descriptors.
func waitsForMany(name string) bool {
	return slices.Contains([]string{"epoll_wait", "poll", "ppoll", "select", "pselect6"}, name)
}

// A judge remembers since when what it has seen of a server has been so.
type judge struct {
	since map[string]lasts
}

// A lasts is a state that a server has been in since then, as so many looks have seen.
type lasts struct {
	began time.Duration
	looks int
}

// verdicts judges a server by what the kernel says, by its calls, and by how its clients
// are.
func (j *judge) verdicts(e *kernelEvent, c conduct, reset []netip.AddrPort,
	nameOf func(netip.AddrPort) string, now time.Duration,
) []verdict {
	open := c.open
	found := []verdict{}
	holds := map[string]lasts{}
	judged := func(kind, about string, text func() words.Sentence) {
		key := kind + " " + about
		state, known := j.since[key]
		if !known {
			state.began = now
		}
		state.looks++
		holds[key] = state
		if now-state.began >= lasting && state.looks >= lastingLooks {
			found = append(found, verdict{kind, text()})
		}
	}
	if c.idle >= spinCalls && now-c.since < time.Duration(c.idle)*spinWithin/spinCalls {
		rate := float64(c.idle) / max(now-c.since, time.Millisecond).Seconds()
		text := words.Say("It spins: about %s calls a second, and none moves a byte; again and again %s(%s).",
			rounded(rate), c.last.Name, c.last.Args)
		if name := nameFor(c.last.Peer, nameOf); name != "" {
			text = words.Say("It spins: about %s calls a second, and none moves a byte; again and again %s(%s)"+
				" of client %s.", rounded(rate), c.last.Name, c.last.Args, name)
		}
		found = append(found, verdict{spinning, text})
	}
	asleep := slices.ContainsFunc(open, func(call trace.Event) bool {
		return waitsForMany(call.Name) && now-call.At > lasting/2
	})
	if e.Stands != nil && len(open) == 0 {
		asleep = strings.HasPrefix(e.Stands.Call, "epoll_") || waitsForMany(e.Stands.Call)
	}
	for _, conn := range e.Conns {
		if !asleep {
			break
		}
		j.judgeConnection(e, c, conn, judged)
	}
	if asleep && len(e.Conns) < shownConns {
		for peer, fd := range c.held {
			if !slices.ContainsFunc(e.Conns, func(conn connection) bool { return conn.Peer == peer.String() }) {
				judged(leaked, peer.String(), func() words.Sentence {
					return words.Say("The connection of client %s is over, and the server keeps descriptor %d:"+
						" it is leaked.", nameFor(peer, nameOf), fd)
				})
			}
		}
	}
	for _, peer := range reset {
		if c.answered[peer] {
			found = append(found, verdict{destroyed, words.Say("The answer to client %s was sent, and then destroyed"+
				" by a reset: the server closed while bytes of the client were unread.", nameFor(peer, nameOf))})
		}
	}
	if len(open) == 1 && open[0].Peer.IsValid() && e.Listener != nil && e.Listener.Queue > 0 &&
		trace.Waits(open[0].Name) && now-open[0].At > lasting/2 {
		var wait words.List
		for _, conn := range e.Conns {
			if conn.queued() {
				wait = append(wait, conn.Client)
			}
		}
		if len(wait) > 0 {
			// The call and the queue are looked at one after the other: it must last.
			judged(headOfLine, fmt.Sprint(open[0].Call), func() words.Sentence {
				return words.Say("%s must wait behind %s: head-of-line blocking.",
					wait, nameFor(open[0].Peer, nameOf))
			})
		}
	}
	busy := !slices.ContainsFunc(open, func(call trace.Event) bool { return now-call.At > lasting/2 })
	if busy && c.alone.calls >= servesAlone && now-c.alone.since >= lasting {
		judgeStarvation(e, c.alone.peer, nameOf, judged)
	}
	j.since = holds
	slices.SortFunc(found, func(a, b verdict) int { return cmp.Compare(a.Text, b.Text) })
	return found
}

// judgeConnection judges one connection of a server that sleeps until an event comes.
func (j *judge) judgeConnection(
	e *kernelEvent, c conduct, conn connection, judged func(kind, about string, text func() words.Sentence),
) {
	about := fmt.Sprint(conn.Peer, " ", conn.Unread)
	at := slices.IndexFunc(e.Interest, func(i interest) bool { return i.FD == conn.FD })
	switch {
	case conn.queued() && !c.exhausted:
		judged(leftQueued, about, func() words.Sentence {
			return words.Say("Client %s is in the accept queue, and the server sleeps:"+
				" it has not accepted until the queue was empty.", conn.Client)
		})
	case !conn.Accepted || conn.FD < 0 || e.Interest == nil:
	case at < 0 && (conn.Unread > 0 || conn.State == sockets.CloseWait.String()):
		judged(unwatched, about, func() words.Sentence {
			return words.Say("No interest list has descriptor %d of client %s: the kernel will not report"+
				" what it sends.", conn.FD, conn.Client)
		})
	case at >= 0 && conn.Unread > 0 && strings.Contains(e.Interest[at].Events, "EPOLLET"):
		judged(lostEdge, about, func() words.Sentence {
			return words.Say("%d bytes of client %s are unread, and the server sleeps:"+
				" the edge was reported once, and is lost.", conn.Unread, conn.Client)
		})
	case conn.Unread == 0 && conn.State == sockets.CloseWait.String():
		judged(leaked, about, func() words.Sentence {
			return words.Say("Client %s has ended its side, and the server keeps descriptor %d:"+
				" it is leaked.", conn.Client, conn.FD)
		})
	}
}

// judgeStarvation judges the connections that wait while a server serves one client alone.
func judgeStarvation(
	e *kernelEvent, served netip.AddrPort, nameOf func(netip.AddrPort) string,
	judged func(kind, about string, text func() words.Sentence),
) {
	var wait words.List
	for _, conn := range e.Conns {
		if conn.Peer != served.String() && (conn.queued() || conn.Accepted && conn.Unread > 0) {
			wait = append(wait, conn.Client)
		}
	}
	if len(wait) > 0 {
		judged(starved, fmt.Sprint(served, wait), func() words.Sentence {
			return words.Say("It reads client %s alone, again and again, and %s must wait: starvation.",
				nameFor(served, nameOf), wait)
		})
	}
}

// queued reports whether the connection waits in the accept queue. One that the server has
// closed has no descriptor either, but is in another state.
func (c connection) queued() bool {
	return !c.Accepted &&
		(c.State == sockets.Established.String() || c.State == sockets.CloseWait.String())
}

// nameFor returns the client at the other end, "" when there is none.
func nameFor(peer netip.AddrPort, nameOf func(netip.AddrPort) string) string {
	if !peer.IsValid() {
		return ""
	}
	return nameOf(peer)
}

// rounded returns a number with one digit that counts: "20000".
func rounded(n float64) string {
	unit := 1
	for n >= 10 {
		n, unit = n/10, unit*10
	}
	return fmt.Sprint(int(n+0.5) * unit)
}
