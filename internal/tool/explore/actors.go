//go:build linux

package explore

import (
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel/simulated"
)

// An actor is a client of the scenario in one execution.
type actor struct {
	Client
	conn *simulated.Client
	next int // the act that comes next

	asked        bool   // its request is whole
	askedStep    int    // steps of the story by then
	askedFlooded int    // and x.flooded
	left         []byte // what a cut has left of it
	sent         []byte
	got          []byte
	end          bool  // has read end of file
	err          error // or a reset
	gone         bool  // has closed or reset
	halfClosed   bool
}

// able returns the clients that can act now.
func (x *execution) able() []*actor {
	var able []*actor
	for _, a := range x.actors {
		if a.next < len(a.acts) && x.can(a) {
			able = append(able, a)
		}
	}
	return able
}

// can reports whether the next act is possible. A read waits for bytes or the end.
func (x *execution) can(a *actor) bool {
	next := a.acts[a.next]
	switch {
	case next.after != "" && x.client(next.after).conn == nil:
		return false
	case next.kind == connects:
		return x.kernel.ListenPort() != 0
	case a.conn == nil || !a.conn.Connected():
		return false
	case next.kind == reads:
		return a.conn.Readable()
	case next.kind == floods:
		return false // flood does it
	}
	return true
}

func (x *execution) client(name string) *actor {
	for _, a := range x.actors {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// flood lets a client that floods send more, if the server has read what it sent. It
// ends when the other clients have gone.
func (x *execution) flood() {
	for _, a := range x.actors {
		if a.next == len(a.acts) || a.acts[a.next].kind != floods || a.conn == nil {
			continue
		}
		others := false
		for _, b := range x.actors {
			others = others || b != a && !b.gone
		}
		more := a.acts[a.next].bytes
		switch {
		case !others:
			a.next++
		case x.kernel.Unread(a.conn) == 0:
			x.acting = true
			x.begin()
			x.kernel.Advance(time.Millisecond) // bytes take time to come
			x.late += time.Millisecond
			x.flooded += len(more)
			x.note("%s sends %d bytes more", a.Name, len(more))
			if err := a.conn.Send(more); err != nil {
				a.next++ // the server has ended it
			}
			x.acting = false
		}
	}
}

// catchUp lets the program's own clock pass as far as the kernel's has in flood: a server
// that never sleeps may have timers. It does so in epoll_wait, where a server holds no lock
// that a timer could need.
func (x *execution) catchUp(call string) {
	if sleep != nil && x.late > 0 && call == "epoll_wait" {
		d := x.late
		x.late = 0
		sleep(d)
	}
}

// answered reports whether the whole answer and the end have reached the client.
func (a *actor) answered() bool {
	return a.gone || a.end || a.err != nil || a.conn.Ended()
}

// act does the next act of a client.
func (x *execution) act(a *actor) {
	x.idle, x.since = 0, 0
	x.acting = true
	defer func() { x.acting = false }()
	x.begin()
	current := a.acts[a.next]
	switch current.kind {
	case connects:
		a.conn = x.kernel.Connect(a.Name, x.kernel.ListenPort())
		x.note("%s connects", a.Name)
		a.next++
		if x.scenario.Queue && a.conn.Retried() {
			x.fail("queue", "%s finds the accept queue full: its kernel tries again a second later", a.Name)
		}
	case sends:
		x.send(a, current.bytes)
	case halfCloses:
		_ = a.conn.HalfClose() // fails if the server has reset it: that is judged
		x.note("%s sends its FIN", a.Name)
		a.next++
	case closes:
		a.conn.Close()
		a.gone = true
		x.note("%s closes", a.Name)
		a.next++
	case resets:
		a.conn.Reset()
		a.gone = true
		x.note("%s resets", a.Name)
		a.next++
	case reads:
		x.read(a, current.size)
	}
}

// send sends the bytes of an act, or a first part of them: where the network cuts the
// stream is a choice.
func (x *execution) send(a *actor, whole []byte) {
	if a.left == nil {
		a.left = whole
	}
	switch {
	case wholeRequest(a.sent) || !a.conn.Readable() || x.scenario.Unbounded:
	case !a.conn.Arrived():
		x.fail("closed", "the server ends the connection of %s in step %d, in the middle of its request",
			a.Name, a.conn.EndedIn())
	default:
		x.fail("early", "%s gets an answer before its request is complete: it has sent %s so far%s",
			a.Name, quote(a.sent), a.conn.Reused())
	}
	n := len(a.left)
	if !a.acts[a.next].whole {
		// A long one is cut only in some places, the same distance from each other.
		if cut := x.choose.pick("cut", min(n, maxCuts)); cut > 0 {
			n = cut * n / min(n, maxCuts)
		}
	}
	p := a.left[:n]
	a.left = a.left[n:]
	if len(a.left) == 0 {
		a.left = nil
		a.next++
	}
	a.sent = append(a.sent, p...)
	if !a.asked && wholeRequest(a.sent) {
		a.asked, a.askedStep, a.askedFlooded = true, len(x.steps()), x.flooded
	}
	x.note("%s sends %s", a.Name, quote(p))
	if err := a.conn.Send(p); err != nil {
		a.err = err // and read will say what was lost
	}
}

func (x *execution) read(a *actor, size int) {
	most := size
	if size == 0 {
		most = 1 << 20
	}
	p, ended, err := a.conn.Read(most)
	a.got = append(a.got, p...)
	switch {
	case err != nil:
		a.err = err
		x.note("%s reads: %v", a.Name, unix.Errno.Error(err.(unix.Errno)))
		a.next++
		x.judgeEnd(a)
	case ended:
		a.end = true
		x.note("%s reads end of file", a.Name)
		a.next++
		x.judgeEnd(a)
	default:
		x.note("%s reads %d bytes", a.Name, len(p))
		if size > 0 {
			a.next++
		}
	}
}
