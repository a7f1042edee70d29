//go:build linux

package race

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"lesson/internal/observe/trace"
	"lesson/internal/play"
)

// A view is one play against one server, from both sides: what the clients noted,
// and what the server's trace says.
type view struct {
	record play.Record
	traced bool
	frozen time.Duration // until then the server was stopped
	calls  []call        // ordered by from
	// watched is the clients whose connections were in an interest list: there,
	// the lessons never block in read.
	watched map[string]bool
	// accepted and closed are when the server took a client from its accept
	// queue, and when it closed the connection.
	accepted, closed map[string]time.Duration
}

// A call is one system call of the server's, in the time of the play.
type call struct {
	trace.Event
	from, to time.Duration // to is the end of the play for one that has not been left
	who      string        // the client it is about, "" for none
	alone    bool          // no other call of the server's overlaps with it
}

func (c call) at() string { return fmt.Sprintf("%s:%d", c.File, c.Line) }

// newView puts both sides together. What the server did before the play or after
// it is left out. It was stopped until frozen.
func newView(
	record play.Record, events []trace.Event, traced bool, frozen time.Duration,
) *view {
	v := &view{
		record: record, traced: traced, frozen: frozen, watched: map[string]bool{},
		accepted: map[string]time.Duration{}, closed: map[string]time.Duration{},
	}
	names := map[netip.AddrPort]string{}
	for _, c := range record.Clients {
		names[c.Addr] = c.Name
	}
	delete(names, netip.AddrPort{}) // those that did not connect
	server := trace.NewState()
	add := func(entered, e trace.Event, to time.Duration) {
		c := call{Event: e, from: entered.At - record.Began, to: to, who: names[e.Peer]}
		v.calls = append(v.calls, c)
		if e.Left && e.Name == "accept4" && c.who != "" {
			v.accepted[c.who] = to
		}
	}
	for _, e := range events {
		if entered, known := server.Note(e); e.Left && known {
			add(entered, e, e.At-record.Began)
		}
	}
	for _, e := range server.Open() {
		add(e, e, record.Lasted)
	}
	v.calls = slices.DeleteFunc(v.calls, func(c call) bool {
		return c.to <= 0 || c.from >= record.Lasted
	})
	slices.SortFunc(v.calls, func(a, b call) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.Call, b.Call))
	})
	last := time.Duration(math.MinInt64) // when the last of all earlier calls was left
	for i := range v.calls {
		c := &v.calls[i]
		c.alone = c.from >= last && (i+1 == len(v.calls) || v.calls[i+1].from >= c.to)
		last = max(last, c.to)
		if c.to >= record.Lasted { // what it came to is not part of the play
			c.Left, c.Err, c.Result, c.Ready = false, "", 0, nil
		}
		c.from, c.to = max(c.from, 0), min(c.to, record.Lasted)
		switch {
		case c.who == "":
		case c.Name == "close":
			v.closed[c.who] = c.from
		case c.Name == "epoll_ctl":
			v.watched[c.who] = true
		}
	}
	return v
}

// wait returns when a client wanted its answer, and when the answer began to arrive or
// the client ended. A client that reads much later than it asked wants its answer only
// then. Time in which the server was stopped does not count.
func (v *view) wait(c play.Seen) (from, to time.Duration, waits bool) {
	if c.Asked == 0 {
		return 0, 0, false
	}
	from, to = max(c.Asked, v.frozen), v.record.Lasted
	sent := time.Duration(0) // when the last piece was due
	for _, a := range c.Acts {
		switch a.Do {
		case play.Send:
			sent = a.Due
		case play.Read, play.ReadAndClose, play.ReadSlowly:
			waits = true
			if a.Due > sent {
				from = a.At
			}
		}
	}
	switch {
	case c.FirstByte > 0:
		to = c.FirstByte
	case c.Ended > 0:
		to = c.Ended
	}
	return from, max(from, to), waits
}

// row is the client's side of the play.
func (v *view) row(c play.Seen) Row {
	r := Row{Name: c.Name, Role: c.Role, Addr: c.Addr, How: c.How}
	add := func(what Phase, from, to time.Duration) {
		if from < to {
			r.Spans = append(r.Spans, Span{From: from, To: to, What: what})
		}
	}
	end := v.record.Lasted
	if c.Ended > 0 {
		end = c.Ended
	}
	connecting := 0 * time.Second
	if len(c.Acts) > 0 {
		connecting = c.Acts[0].At
	}
	if c.Connected == 0 {
		if len(c.Acts) > 0 {
			add(Connecting, connecting, end)
		}
		return r
	}
	add(Connecting, connecting, c.Connected)
	from, to, waits := v.wait(c)
	if !waits {
		add(Own, c.Connected, end)
		return r
	}
	r.Waited = to - from
	if v.frozen > 0 {
		from = min(from, c.Asked) // it is in the queue meanwhile
	}
	add(Own, c.Connected, from)
	accepted, known := v.accepted[c.Name]
	switch {
	case !v.traced:
		add(Unserved, from, to)
	case !known:
		add(Queued, from, to)
	default:
		accepted = min(max(accepted, from), to)
		add(Queued, from, accepted)
		add(Waiting, accepted, to)
	}
	if c.FirstByte > 0 {
		add(Served, c.FirstByte, max(end, c.FirstByte+1))
	}
	return r
}

// concurrent says whether two calls of the server have ever overlapped: it has
// several threads, and each can stand somewhere else.
func (v *view) concurrent() bool {
	last := time.Duration(0)
	for _, c := range v.calls {
		if c.from < last {
			return true
		}
		last = max(last, c.to)
	}
	return false
}

// lanes returns the server's side: one lane, or, if several threads make calls at the
// same time, one for the thread that accepts and one for all others.
func (v *view) lanes() []Lane {
	if !v.traced {
		return nil
	}
	var accepting, serving []call
	together := v.concurrent()
	for _, c := range v.calls {
		if together && c.who != "" && c.Name != "accept4" {
			serving = append(serving, c)
		} else {
			accepting = append(accepting, c)
		}
	}
	lanes := []Lane{{Name: "server", Spans: v.oneAfterTheOther(accepting)}}
	if together {
		lanes[0].Name = "accepts"
		lanes = append(lanes, Lane{Name: "threads", Spans: atTheSameTime(serving)})
	}
	return lanes
}

// oneAfterTheOther is calls that do not overlap, and between them: running.
func (v *view) oneAfterTheOther(calls []call) []Span {
	var spans []Span
	last := v.frozen
	if v.frozen > 0 {
		spans = append(spans, Span{To: v.frozen, What: Stopped})
	}
	for _, c := range calls {
		from := max(c.from, last)
		if from >= c.to {
			continue
		}
		if from > last {
			spans = append(spans, Span{From: last, To: from, What: Running})
		}
		spans = append(spans, Span{
			From: from, To: c.to, What: Phase(c.Name), At: c.at(), For: c.who, Err: c.Err,
			Note: returned(c),
		})
		last = c.to
	}
	return spans
}

// returned is what a call has come to, where that says something.
func returned(c call) string {
	switch {
	case !c.Left:
		return "not left"
	case c.Err != "":
		return ""
	case c.Name == "accept4":
		return ""
	case c.Name == "epoll_wait":
		return fmt.Sprintf("%d ready", c.Result)
	case c.Name == "read" || c.Name == "send":
		return fmt.Sprintf("%d bytes", c.Result)
	}
	return ""
}

// atTheSameTime returns how many threads are blocked in read, over time, and the line
// in which most of them are.
func atTheSameTime(calls []call) []Span {
	type change struct {
		when time.Duration
		by   int
		line string
	}
	var changes []change
	for _, c := range calls {
		if c.Name == "read" {
			changes = append(changes, change{c.from, 1, c.at()}, change{c.to, -1, c.at()})
		}
	}
	// At one moment, calls that return come first.
	slices.SortFunc(changes, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.when, b.when), cmp.Compare(a.by, b.by))
	})
	var spans []Span
	many, in := 0, map[string]int{}
	for i, c := range changes {
		many += c.by
		in[c.line] += c.by
		if many == 0 || i+1 == len(changes) || changes[i+1].when == c.when {
			continue
		}
		line := ""
		for l, n := range in {
			if n > in[line] || n == in[line] && l < line {
				line = l
			}
		}
		spans = append(spans, Span{
			From: c.when, To: changes[i+1].when, What: "read", At: line, Many: many,
		})
	}
	return spans
}

// stood is where the server stood, the longest first.
func (v *view) stood() []Place {
	type key struct{ call, at string }
	places := map[key]*Place{}
	per := map[key]map[string]time.Duration{}
	for _, c := range v.calls {
		from := max(c.from, v.frozen)
		if !trace.Waits(c.Name) || from >= c.to {
			continue
		}
		k := key{c.Name, c.at()}
		if places[k] == nil {
			places[k] = &Place{Call: k.call, At: k.at}
			per[k] = map[string]time.Duration{}
		}
		places[k].Stood += c.to - from
		places[k].Calls++
		if c.who != "" && c.Name != "accept4" {
			per[k][c.who] += c.to - from
		}
	}
	var all []Place
	for k, p := range places {
		p.For = most(per[k], p.Stood*9/10)
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b Place) int {
		return cmp.Or(cmp.Compare(b.Stood, a.Stood), strings.Compare(a.At, b.At))
	})
	return all
}

// most returns the clients that make up that much of a time, the longest first.
func most(of map[string]time.Duration, much time.Duration) []string {
	var names []string
	for who := range of {
		names = append(names, who)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(of[b], of[a]), strings.Compare(a, b))
	})
	sum := time.Duration(0)
	for i, who := range names {
		if sum += of[who]; sum >= much {
			return names[:i+1]
		}
	}
	return names
}

// standsFor returns the reads in which the whole server was blocked until one client
// did something, or its time ran out. This is judged by the order of events, and not by
// how long a call took: on a busy machine, any call can take long.
func (v *view) standsFor() []call {
	bounded := map[string]bool{} // clients whose reads have a timeout: blocking
	var stands []call
	for _, c := range v.calls {
		if c.Name == "setsockopt" && strings.Contains(c.Args, "SO_RCVTIMEO") {
			bounded[c.who] = true
		}
		if c.Name != "read" || c.who == "" || !c.alone || v.watched[c.who] {
			continue
		}
		ranOut := c.Err == "EAGAIN" && bounded[c.who]
		if !c.Left || ranOut || v.actsWithin(c) {
			stands = append(stands, c)
		}
	}
	return stands
}

// actsWithin reports whether the client of the call began something that can end a
// read, after the call was entered and before it returned.
func (v *view) actsWithin(c call) bool {
	for _, client := range v.record.Clients {
		if client.Name != c.who {
			continue
		}
		for _, a := range client.Acts {
			at := a.At
			switch a.Do {
			case play.Flood: // one piece after the other
				if at <= c.to && (a.Until == 0 || c.from <= a.Until) {
					return true
				}
				continue
			case play.Send, play.HalfClose, play.Close, play.Reset:
			case play.ReadAndClose, play.ReadSlowly:
				at = client.Ended
			default:
				continue
			}
			if c.from <= at && at <= c.to {
				return true
			}
		}
	}
	return false
}

// kept returns the clients that waited while the server was blocked on another one for
// more than half of the wait, so that this was the reason.
func (v *view) kept() []Kept {
	stands := v.standsFor()
	var all []Kept
	for _, c := range v.record.Clients {
		from, to, waits := v.wait(c)
		if !waits {
			continue
		}
		by := map[string]time.Duration{}
		var sum, longest time.Duration
		var there call
		for _, stand := range stands {
			overlap := min(to, stand.to) - max(from, stand.from)
			if stand.who == c.Name || overlap <= 0 {
				continue
			}
			sum += overlap
			by[stand.who] += overlap
			if overlap > longest {
				longest, there = overlap, stand
			}
		}
		if 2*sum > to-from {
			all = append(all, Kept{
				Client: c.Name, By: most(by, sum*9/10), Call: there.Name, At: there.at(), Waited: to - from,
			})
		}
	}
	return all
}

// mostAccepted returns the largest number of connections that were accepted and not
// closed at the same time.
func (v *view) mostAccepted() int {
	most := 0
	for _, at := range v.accepted {
		open := 0
		for who, from := range v.accepted {
			closed, ok := v.closed[who]
			if from <= at && (!ok || closed > at) {
				open++
			}
		}
		most = max(most, open)
	}
	return most
}

// reports returns how often epoll_wait reported the listener, and how many connections
// were accepted.
func (v *view) reports() (events, accepts int) {
	listener := -1
	for _, c := range v.calls {
		if c.Name == "accept4" {
			listener = c.FD
		}
		if c.Name == "accept4" && c.Err == "" && c.Left {
			accepts++
		}
	}
	for _, c := range v.calls {
		for _, r := range c.Ready {
			if r.FD == listener {
				events++
			}
		}
	}
	return events, accepts
}
