//go:build linux

package server

import "time"

// Deadlines holds connections in the order in which their time runs out. As
// all of them get the same time, that is the order in which they came: no heap
// is needed, and adding, removing and looking at the first cost the same
// however many there are. The memory is the caller's: a Deadline in each
// connection.
type Deadlines[C any] struct {
	After       time.Duration // how long each gets; 0 is for ever
	first, last *Deadline[C]
}

// A Deadline is one connection's place in the queue.
type Deadline[C any] struct {
	conn       *C
	at         time.Duration
	prev, next *Deadline[C]
}

// Add puts c at the end, by its Deadline d. now must not be earlier than at any
// Add before.
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

// Remove takes d out. d must be in q.
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

// First is the connection whose time runs out first, nil when there is none.
func (q *Deadlines[C]) First() *C {
	if q.first == nil {
		return nil
	}
	return q.first.conn
}

// Expired is the first connection if its time has run out, else nil.
func (q *Deadlines[C]) Expired(now time.Duration) *C {
	if q.first == nil || q.After == 0 || q.first.at > now {
		return nil
	}
	return q.first.conn
}

// Next is when the first connection's time runs out; Never when nothing will.
func (q *Deadlines[C]) Next() time.Duration {
	if q.first == nil || q.After == 0 {
		return Never
	}
	return q.first.at
}

// Never is later than any other moment.
const Never = time.Duration(1<<63 - 1)

// Milliseconds is the timeout for epoll_wait to wake at the moment next: -1,
// for ever, for Never. It is rounded up. Rounded down, epoll_wait would return
// up to a millisecond early, find nothing to do, and be called again with 0:
// a busy loop until the moment has come.
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
