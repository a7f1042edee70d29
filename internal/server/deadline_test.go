//go:build linux

package server

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

type client struct {
	name     string
	deadline Deadline[client]
}

// queue is a Deadlines in which client i was added at i seconds.
func queue(after time.Duration, names ...string) (*Deadlines[client], []*client) {
	q := &Deadlines[client]{After: after}
	var clients []*client
	for i, name := range names {
		c := &client{name: name}
		q.Add(c, &c.deadline, time.Duration(i)*time.Second)
		clients = append(clients, c)
	}
	return q, clients
}

// drain takes all out from the front and returns their names in that order.
func drain(q *Deadlines[client]) string {
	names := ""
	for c := q.First(); c != nil; c = q.First() {
		names += c.name
		q.Remove(&c.deadline)
	}
	return names
}

// Contract: B6.
func TestDeadlinesOrder(t *testing.T) {
	tests := []struct {
		name   string
		remove []int // which of a, b, c, d, in this order
		want   string
	}{
		{"none removed", nil, "abcd"},
		{"first", []int{0}, "bcd"},
		{"middle", []int{1}, "acd"},
		{"last", []int{3}, "abc"},
		{"both ends", []int{0, 3}, "bc"},
		{"neighbours", []int{1, 2}, "ad"},
		{"neighbours, backwards", []int{2, 1}, "ad"},
		{"all but one", []int{3, 0, 1}, "c"},
		{"all", []int{2, 0, 3, 1}, ""},
	}
	for _, test := range tests {
		q, clients := queue(time.Minute, "a", "b", "c", "d")
		for _, i := range test.remove {
			q.Remove(&clients[i].deadline)
		}
		// What was removed can come again, at the end.
		want := test.want
		for _, i := range test.remove {
			q.Add(clients[i], &clients[i].deadline, 10*time.Second)
			want += clients[i].name
		}
		if got := drain(q); got != want {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
		if q.First() != nil || q.Next() != Never || q.Expired(Never) != nil {
			t.Errorf("%s: an empty queue has %v, %v", test.name, q.First(), q.Next())
		}
	}
}

func TestDeadlinesExpired(t *testing.T) {
	q, clients := queue(5*time.Second, "a", "b") // run out at 5 s and at 6 s
	tests := []struct {
		now  time.Duration
		want *client
	}{
		{0, nil},
		{5*time.Second - 1, nil},
		{5 * time.Second, clients[0]}, // to the nanosecond
		{time.Hour, clients[0]},       // always the first: the others come after it
	}
	for _, test := range tests {
		if got := q.Expired(test.now); got != test.want {
			t.Errorf("at %v: %v has expired, want %v", test.now, got, test.want)
		}
	}
	if q.Next() != 5*time.Second {
		t.Errorf("next is at %v, want 5s", q.Next())
	}
	q.Remove(&clients[0].deadline)
	if q.Next() != 6*time.Second || q.First() != clients[1] {
		t.Errorf("then next is at %v, want 6s", q.Next())
	}
	if q.Expired(6*time.Second-1) != nil || q.Expired(6*time.Second) != clients[1] {
		t.Error("the second must expire at 6 s")
	}
}

// A time of 0 is forever, and so is one that ends later than time itself.
func TestDeadlinesForEver(t *testing.T) {
	for _, after := range []time.Duration{0, Never, Never - time.Second} {
		q := &Deadlines[client]{After: after}
		c := new(client)
		q.Add(c, &c.deadline, time.Minute)
		if q.Next() != Never {
			t.Errorf("After %d: next is at %v, want Never", after, q.Next())
		}
		if got := q.Expired(1000 * time.Hour); got != nil {
			t.Errorf("After %d: it has expired", after)
		}
		if q.First() != c {
			t.Errorf("After %d: the first is %v", after, q.First())
		}
	}
}

// The queue against the simplest thing that could be one: a slice. Contract: B6.
func TestDeadlinesModel(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	const after = 10 * time.Second
	q := &Deadlines[client]{After: after}
	type entry struct {
		c  *client
		at time.Duration
	}
	var model []entry
	now := time.Duration(0)
	for range 20_000 {
		now += time.Duration(random.IntN(3)) * time.Second
		switch n := random.IntN(5); {
		case n < 2:
			c := new(client)
			q.Add(c, &c.deadline, now)
			model = append(model, entry{c, now + after})
		case n < 4 && len(model) > 0:
			i := random.IntN(len(model))
			q.Remove(&model[i].c.deadline)
			model = slices.Delete(model, i, i+1)
		default:
			for c := q.Expired(now); c != nil; c = q.Expired(now) {
				if len(model) == 0 || model[0].c != c || model[0].at > now {
					t.Fatalf("at %v the wrong one has expired", now)
				}
				q.Remove(&c.deadline)
				model = model[1:]
			}
			if len(model) > 0 && model[0].at <= now {
				t.Fatalf("at %v one has expired and is not reported", now)
			}
		}
		first, next := (*client)(nil), Never
		if len(model) > 0 {
			first, next = model[0].c, model[0].at
		}
		if q.First() != first || q.Next() != next {
			t.Fatalf("first %p at %v, want %p at %v", q.First(), q.Next(), first, next)
		}
	}
}

func TestDeadlinesAllocate(t *testing.T) {
	q, c := &Deadlines[client]{After: time.Second}, new(client)
	allocs := testing.AllocsPerRun(100, func() {
		q.Add(c, &c.deadline, 0)
		q.Remove(&c.deadline)
	})
	if allocs != 0 {
		t.Errorf("%v allocations: the memory is the caller's", allocs)
	}
}

func TestMilliseconds(t *testing.T) {
	const ms = time.Millisecond
	tests := []struct {
		now, next time.Duration
		want      int
	}{
		{0, Never, -1},
		{time.Hour, Never, -1},
		{0, 0, 0},
		{ms, ms, 0},
		{2 * ms, ms, 0},       // it has passed
		{0, 1, 1},             // a nanosecond is left: wait for it
		{0, ms - 1, 1},        // never early
		{0, ms, 1},            // exact
		{0, ms + 1, 2},        // rounded up
		{ms, 2*ms + 1, 2},     // the difference counts
		{ms - 1, 2*ms + 1, 2}, // however it is divided
		{0, time.Minute, 60_000},
		{0, 24 * time.Hour, 86_400_000},
		{0, 1 << 30 * ms, 1 << 30},
		{0, (1<<30 + 1) * ms, 1 << 30}, // the kernel takes an int
		{0, Never - 1, 1 << 30},
		{time.Second, Never - 1, 1 << 30},
	}
	for _, test := range tests {
		if got := Milliseconds(test.now, test.next); got != test.want {
			t.Errorf("now %d, next %d: %d, want %d", test.now, test.next, got, test.want)
		}
	}
}

// While time is left, the timeout is never 0, never too short, and too long by
// less than a millisecond.
func TestMillisecondsProperty(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 20_000 {
		now := time.Duration(random.Int64N(math.MaxInt64 / 2))
		left := time.Duration(1 + random.Int64N(1<<random.IntN(50)))
		wait := time.Duration(Milliseconds(now, now+left)) * time.Millisecond
		if wait < left || wait >= left+time.Millisecond {
			t.Fatalf("%v are left, waits for %v", left, wait)
		}
	}
}
