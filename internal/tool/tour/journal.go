//go:build linux

package tour

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"lesson/internal/kernel"
	"lesson/internal/observe/trace"
)

// clock is CLOCK_MONOTONIC as the lessons' traces have it: see kernel.Kernel.
var clock kernel.Linux

// An event is something that is reported to a page. Every event has a header.
type event interface{ head() *header }

type header struct {
	Seq  int64         `json:"seq"` // numbers the events of a session, from 1
	At   time.Duration `json:"at"`
	Type string        `json:"type"`
}

func (h *header) head() *header { return h }

// A callEvent is one half of a system call of a server.
type callEvent struct {
	header
	Server string      `json:"server"`
	Event  trace.Event `json:"event"`
}

// A missedEvent says that calls of a server were left out, and which calls are
// open now: all others that a page takes for open have been left.
type missedEvent struct {
	header
	Server string        `json:"server"`
	Calls  int64         `json:"calls"`
	Open   []trace.Event `json:"open"`
}

// Bounds of what is kept of a session.
const (
	keptNews  = 4096
	keptCalls = 4096 // per server

	keptBytes = 1 << 20 // in all news: see bytesIn
)

// A ring keeps the last so many.
type ring[T any] struct {
	items  []T
	most   int
	pushed int64 // ever
	oldest int64 // the number of the first that is kept, from 0
}

func (r *ring[T]) push(item T) {
	if len(r.items) < r.most {
		r.items = append(r.items, item)
	} else {
		r.items[r.pushed%int64(r.most)] = item
	}
	r.pushed++
	r.oldest = max(r.oldest, r.pushed-int64(r.most))
}

// full reports whether push drops the oldest.
func (r *ring[T]) full() bool { return r.pushed-r.oldest == int64(r.most) }

// drop drops the oldest, and returns it.
func (r *ring[T]) drop() T {
	var none T
	at := &r.items[r.oldest%int64(r.most)]
	dropped := *at
	*at = none
	r.oldest++
	return dropped
}

// since returns the newest items of those after the first n ever pushed, at most so
// many, and how many were left out.
func (r *ring[T]) since(n int64, most int) (items []T, lost int64) {
	from := max(n, r.oldest, r.pushed-int64(most))
	for i := from; i < r.pushed; i++ {
		items = append(items, r.items[i%int64(r.most)])
	}
	return items, from - n
}

// A callRing is the calls of one server, and what they have shown.
type callRing struct {
	ring[event]
	state   *trace.State
	conduct conduct
}

// A journal keeps what has happened in a session, as far as there is room: a page
// that reads too slowly loses calls, and no server ever waits for it.
type journal struct {
	mu      sync.Mutex
	seq     int64
	news    ring[event] // all but calls
	bytes   int         // in the news: see bytesIn
	calls   map[string]*callRing
	state   map[string]event       // the newest news of each thing
	readers map[chan struct{}]bool // told that there is something to read
}

func newJournal() *journal {
	return &journal{
		news:  ring[event]{most: keptNews},
		calls: map[string]*callRing{}, state: map[string]event{},
		readers: map[chan struct{}]bool{},
	}
}

// tell adds news. Only the newest with a key describes how things are; "" is for
// what has merely happened.
func (j *journal) tell(key, kind string, e event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.seq++
	*e.head() = header{Seq: j.seq, At: clock.Now(), Type: kind}
	for j.news.full() || j.bytes > 0 && j.bytes+bytesIn(e) > keptBytes {
		j.bytes -= bytesIn(j.news.drop())
	}
	j.bytes += bytesIn(e)
	j.news.push(e)
	if key != "" {
		j.state[key] = e
	}
	j.wake()
}

// bytesIn returns about how many bytes an event takes beyond those that all events take:
// for what clients have sent and received, and for each connection that the kernel knows.
func bytesIn(e event) int {
	const conn, entry = 128, 64
	switch e := e.(type) {
	case *actEvent:
		return len(e.Act.Bytes)
	case *clientEvent:
		return len(e.Got)
	case *kernelEvent:
		return conn*len(e.Conns) + entry*len(e.Interest)
	}
	return 0
}

// forget drops the state of something that is no more.
func (j *journal) forget(key string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.state, key)
}

// begins makes room for the calls of a server that starts: none of them is open.
func (j *journal) begins(server string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.calls[server] == nil {
		j.calls[server] = &callRing{ring: ring[event]{most: keptCalls}}
	}
	j.calls[server].state, j.calls[server].conduct = trace.NewState(), conduct{}
}

// call adds half a call of a server that is shown. It runs on the server's own thread.
func (j *journal) call(server string, e trace.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.calls[server]
	if r == nil {
		return
	}
	r.state.Note(e)
	r.conduct.note(e)
	j.seq++
	r.push(&callEvent{header{Seq: j.seq, At: e.At, Type: "call"}, server, e})
	j.wake()
}

// removed forgets the calls of a server that is shown no more.
func (j *journal) removed(server string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.calls, server)
}

// look calls see with what the calls of a server have shown so far.
func (j *journal) look(server string, see func(*trace.State)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := j.calls[server]; r != nil {
		see(r.state)
	}
}

// listen lets a channel that has room for one know that something has happened, until stop
// is called.
func (j *journal) listen(news chan struct{}) (stop func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.readers[news] = true
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.readers, news)
	}
}

// conductOf returns what the calls of a server have shown.
func (j *journal) conductOf(server string) conduct {
	j.mu.Lock()
	defer j.mu.Unlock()
	r := j.calls[server]
	if r == nil {
		return conduct{}
	}
	c := r.conduct
	c.answered = maps.Clone(c.answered)
	c.open, c.held = r.state.Open(), r.state.Descriptors()
	return c
}

func (j *journal) wake() {
	for reader := range j.readers {
		select {
		case reader <- struct{}{}:
		default: // it knows already
		}
	}
}

// A reader is how far one stream has come.
type reader struct {
	journal *journal
	more    chan struct{} // there is something to read
	news    int64         // how many it has had
	calls   map[string]*allowance
	seq     int64 // the last that it has been given
	close   func()

	unbounded bool // it may have all calls that are kept
}

// An allowance bounds the calls of one server that a page is given: many at once,
// and then so many a second. A browser can draw no more.
type allowance struct {
	had  int64 // how many calls are behind it
	left float64
	at   time.Duration
}

const (
	callsAtOnce    = 2000
	callsPerSecond = 800
)

// newReader reads on after an event, as far as it is kept; 0 is from the beginning.
func (j *journal) newReader(after int64) *reader {
	r := &reader{
		journal: j, more: make(chan struct{}, 1), calls: map[string]*allowance{}, seq: after,
	}
	r.more <- struct{}{}
	r.close = j.listen(r.more)
	j.mu.Lock()
	defer j.mu.Unlock()
	r.news = behind(&j.news, after)
	for server, calls := range j.calls {
		had := behind(&calls.ring, after)
		r.calls[server] = &allowance{had: had, left: callsAtOnce, at: clock.Now()}
	}
	return r
}

// behind is how many of all that was pushed are not after that event. When some that
// are not kept any more may have been, one of them at least counts as not read.
func behind(r *ring[event], after int64) int64 {
	if after == 0 {
		return 0
	}
	n := r.pushed
	for n > r.oldest && r.items[(n-1)%int64(r.most)].head().Seq > after {
		n--
	}
	if n == r.oldest {
		return max(n-1, 0)
	}
	return n
}

// next is what has happened since the last next, in order.
func (r *reader) next() []event {
	batch := r.take()
	slices.SortStableFunc(batch, func(a, b event) int {
		return cmp.Compare(a.head().Seq, b.head().Seq)
	})
	return batch
}

func (r *reader) take() []event {
	j := r.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	now := clock.Now()
	batch, lost := j.news.since(r.news, keptNews)
	if lost > 0 {
		batch = j.withState(batch)
	}
	r.news = j.news.pushed
	for server, calls := range j.calls {
		a := r.calls[server]
		if a == nil {
			a = &allowance{left: callsAtOnce, at: now}
			r.calls[server] = a
		}
		a.left = min(callsAtOnce, a.left+callsPerSecond*(now-a.at).Seconds())
		a.at = now
		if r.unbounded {
			a.left = keptCalls
		}
		some, lost := calls.since(a.had, int(a.left))
		a.left -= float64(len(some))
		a.had = calls.pushed
		batch = append(batch, some...)
		if lost > 0 {
			batch = append(batch, &missedEvent{
				header{Seq: j.seq, At: now, Type: "missed"}, server, lost, calls.state.Open(),
			})
		}
	}
	for server := range r.calls {
		if j.calls[server] == nil {
			delete(r.calls, server)
		}
	}
	r.seq = j.seq
	return batch
}

// withState adds how things are to news of which the first are lost.
func (j *journal) withState(news []event) []event {
	known := map[event]bool{}
	for _, e := range news {
		known[e] = true
	}
	for _, e := range j.state {
		if !known[e] {
			news = append(news, e)
		}
	}
	return news
}

// all is everything that is kept, in order, for a recording.
func (j *journal) all() []event {
	r := j.newReader(0)
	defer r.close()
	r.unbounded = true
	return r.next()
}
