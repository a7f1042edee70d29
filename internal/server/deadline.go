//go:build linux

package server

import "time"

// Bounds on lingering. After the response the server reads and discards until
// the client closes, but no longer than LingerTime and no more than LingerBytes.
// A server that stops waits for lingering connections, so LingerTime also keeps a
// stop within two seconds.
const (
	LingerTime  = time.Second
	LingerBytes = 1 << 20
)

// AcceptPause limits how long a server waits before it calls accept again after it has
// run out of descriptors or memory. An event loop calls it earlier if one of its own
// connections ends.
const AcceptPause = 100 * time.Millisecond

// Deadlines holds connections in the order of their deadlines. Each gets the same
// time, so the order of the deadlines is the order of Add: no heap is needed, and
// Add, Remove and First cost the same however many there are. The memory is the
// caller's: a Deadline in each connection.
type Deadlines[C any] struct {
	After       time.Duration // how long each gets; 0 means forever
	first, last *Deadline[C]
}

// A Deadline is one connection's place in the queue.
type Deadline[C any] struct {
	conn       *C
	at         time.Duration
	prev, next *Deadline[C]
}

// Add appends c, whose Deadline is d. now must not be earlier than at any Add
// before.
func (q *Deadlines[C]) Add(c *C, d *Deadline[C], now time.Duration) {
	at := now + q.After
	if at < now { // a sum too large for a Duration
		at = Never
	}
	*d = Deadline[C]{conn: c, at: at, prev: q.last}
	if q.last == nil {
		q.first = d
	} else {
		q.last.next = d
	}
	q.last = d
}

// Remove removes d, which must be in q.
func (q *Deadlines[C]) Remove(d *Deadline[C]) {
	if d.prev == nil {
		q.first = d.next
	} else {
		d.prev.next = d.next
	}
	if d.next == nil {
		q.last = d.prev
	} else {
		d.next.prev = d.prev
	}
	*d = Deadline[C]{}
}

// First returns the connection with the earliest deadline, nil if there is none.
func (q *Deadlines[C]) First() *C {
	if q.first == nil {
		return nil
	}
	return q.first.conn
}

// Expired returns the first connection if its deadline has passed, else nil.
func (q *Deadlines[C]) Expired(now time.Duration) *C {
	if q.first == nil || q.After == 0 || q.first.at > now {
		return nil
	}
	return q.first.conn
}

// Next returns the earliest deadline, or Never if there is none.
func (q *Deadlines[C]) Next() time.Duration {
	if q.first == nil || q.After == 0 {
		return Never
	}
	return q.first.at
}

// Never is later than any other moment.
const Never = time.Duration(1<<63 - 1)

// Milliseconds returns the timeout with which epoll_wait wakes at next: -1 for
// Never. It rounds up. If it rounded down, epoll_wait would return up to a
// millisecond early, the loop would find nothing to do and call it again with 0:
// it would spin until next.
func Milliseconds(now, next time.Duration) int {
	switch {
	case next == Never:
		return -1
	case next <= now:
		return 0
	}
	const most = 1 << 30 // the kernel takes an int
	return int(min((next-now-1)/time.Millisecond+1, most))
}
