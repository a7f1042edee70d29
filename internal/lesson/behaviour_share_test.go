//go:build linux

package lesson_test

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/observe/trace"
	"lesson/internal/play"
	"lesson/internal/proof"
)

// sharing holds the rules about what one client can do to the others: B10, B11, B17.
var sharing = []behaviour{
	{"B10 a silent client delays no other", many, silentNeighbour},
	{"B10 a silent client delays all others until its timeout", oneByOne, headOfLine},
	{"B10 a client that floods delays no other for long", many, flood},
	{"B10 a client in the accept queue is served without a further client", again, crowd},
	{"B11 a reused descriptor gets no event of its predecessor", epolls, reused},
	{"B17 two servers share a port", eventLoop, twoServers},
}

func silentNeighbour(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	var silent []*play.Conn
	for i := range 6 {
		c := r.dial()
		proof.Must(t, c.Send([]byte("GET /"[:i])))
		digested(t, c)
		silent = append(silent, c)
	}
	for range 20 {
		r.asks()
	}
	for _, c := range silent { // they were there all the time, and still are
		proof.Must(t, c.Send([]byte("\n\n")))
		answered(t, c, response)
	}
	r.counted(counts{accepted: 26, served: 26})
}

// The same in step 2 is the lesson: head-of-line blocking. The quick one has
// its own time from the moment when it is accepted; should this machine need all
// of it to serve a client, the test tries again.
func headOfLine(t *T, l lesson.Lesson) {
	for range 10 {
		r := newRig(t, l)
		r.options.Timeout = short
		began := time.Now()
		silent, quick := r.dial(), r.dial()
		proof.Must(t, quick.Send([]byte(request)))
		got, err := quick.ReadAll(patience)
		took, late := time.Since(began), r.counts().timedOut
		unanswered(t, silent)
		proof.Must(t, quick.Close())
		if late > 1 {
			continue
		}
		if string(got) != response || err != nil {
			t.Errorf("behind a silent client, the quick one got %q, %v", got, err)
		}
		if late != 1 || took < short {
			t.Errorf("served after %v, with %d clients timed out, want %v and 1", took, late, short)
		}
		r.counted(counts{accepted: 2, served: 1, timedOut: 1})
		return
	}
	t.Errorf("this machine is too slow to serve a client within %v", short)
}

// A turnWatch is a trace.Observer of an event loop: the most calls that it
// makes for one descriptor between two epoll_wait.
type turnWatch struct {
	waits   string // the call between two turns
	reads   map[int]int
	accepts int

	mostReads, mostAccepts atomic.Int64
}

func (w *turnWatch) Enter(c *trace.Call) {
	switch c.Name {
	case w.waits:
		w.reads, w.accepts = make(map[int]int), 0
	case "read":
		w.reads[c.FD]++
		w.mostReads.Store(max(w.mostReads.Load(), int64(w.reads[c.FD])))
	case "accept4":
		w.accepts++
		w.mostAccepts.Store(max(w.mostAccepts.Load(), int64(w.accepts)))
	}
}

func (w *turnWatch) Leave(*trace.Call) {}

// over is the wrap of a rig that lets w watch, if the lesson has turns at all.
func (w *turnWatch) over(l lesson.Lesson) func(kernel.Kernel) kernel.Kernel {
	return func(k kernel.Kernel) kernel.Kernel {
		if !eventLoop(l) {
			return k
		}
		w.waits = l.Waits
		return trace.Traced(k, w)
	}
}

// bounded wants few calls per turn: a few reads per connection, so many
// accepts. Edge-triggered, a connection may have two turns in one, and end its
// request in between.
func (w *turnWatch) bounded(t *T) {
	t.Helper()
	const mostReads, mostAccepts = 12, 64
	if n := w.mostReads.Load(); n > mostReads {
		t.Errorf("read %d times from one connection in one turn, want at most %d", n, mostReads)
	}
	if n := w.mostAccepts.Load(); n > mostAccepts {
		t.Errorf("accepted %d times in one turn, want at most %d", n, mostAccepts)
	}
}

// flood: clients that send as fast as they can, with a terminator and without,
// and come again when they are closed.
func flood(t *T, l lesson.Lesson) {
	const flooders = 3
	mostBlocks := int64(400_000)
	if !t.alone { // a client may be stalled for long, while the flood continues
		mostBlocks *= 100
	}
	var turns turnWatch
	r := newRig(t, l)
	r.wrap = turns.over(l)
	addr := r.server().Addr()
	var stop atomic.Bool
	var blocks atomic.Int64
	var all sync.WaitGroup
	defer all.Wait()
	defer stop.Store(true)
	for i := range flooders {
		all.Go(func() {
			block := []byte(strings.Repeat("x", 32<<10))
			if i == 0 {
				copy(block, request)
			}
			for !stop.Load() && blocks.Load() < mostBlocks {
				c, err := r.connect(addr)
				if err != nil {
					t.Error(err)
					return
				}
				for !stop.Load() && blocks.Add(1) < mostBlocks && c.Send(block) == nil {
				}
				_ = c.Close()
			}
		})
	}
	proof.Eventually(t, "the flood has begun", func() bool { return blocks.Load() > 100 })
	for i := 0; i < 20 && !t.Failed(); i++ {
		r.asks()
	}
	if blocks.Load() >= mostBlocks {
		t.Errorf("it took the whole flood to serve 20 others")
	}
	turns.bounded(t)
}

// crowd: they are all there before the server looks. Edge-triggered, all of
// them together are one event.
func crowd(t *T, l lesson.Lesson) {
	const clients = 100
	var turns turnWatch
	r := newRig(t, l)
	r.wrap = turns.over(l)
	s := r.listen()
	var conns []*play.Conn
	for range clients {
		c := r.dialTo(s.Addr())
		proof.Must(t, c.Send([]byte(request)))
		conns = append(conns, c)
	}
	s.serve()
	for _, c := range conns {
		answered(t, c, response)
		proof.Must(t, c.Close())
	}
	r.counted(counts{accepted: clients, served: clients})
	turns.bounded(t)
}

// A staleKernel reports, together with the event that ends a connection, a
// new client and the old event once more. It notes what is done to a connection
// between the accept4 that made it and the next epoll_wait, which should be
// nothing: no event in this batch can have been for it.
type staleKernel struct {
	kernel.Kernel
	listener int

	mu     sync.Mutex
	parked bool   // in epoll_wait
	target int    // the connection whose end is awaited; -1 for none
	order  string // of the batch: c is the connection's event, l the listener's
	arrive func() // brings the new client
	fresh  []int  // accepted in this batch
	reused bool   // the new client got the number target
	wrong  []string
}

func (k *staleKernel) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	if k.listener < 0 { // the listener is the first to be watched
		k.listener = fd
	}
	return k.Kernel.EpollCtl(epfd, op, fd, event)
}

func (k *staleKernel) EpollWait(
	epfd int, events []unix.EpollEvent, milliseconds int,
) (int, error) {
	k.mu.Lock()
	k.fresh, k.parked = nil, true
	k.mu.Unlock()
	n, err := k.Kernel.EpollWait(epfd, events, milliseconds)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.parked = false
	for _, event := range events[:max(n, 0)] {
		if int(event.Fd) != k.target {
			continue
		}
		if k.arrive == nil {
			continue // its end once more, or what its successor has sent
		}
		k.arrive()
		k.arrive = nil
		event.Events |= unix.EPOLLHUP | unix.EPOLLERR
		for i, who := range k.order {
			events[i] = event
			if who == 'l' {
				events[i] = unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(k.listener)}
			}
		}
		return len(k.order), nil
	}
	return n, err
}

func (k *staleKernel) Accept4(fd, flags int) (int, error) {
	conn, err := k.Kernel.Accept4(fd, flags)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.fresh = append(k.fresh, conn)
		if conn == k.target {
			k.reused, k.target = true, -1
		}
	}
	return conn, err
}

func (k *staleKernel) touches(call string, fd int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if slices.Contains(k.fresh, fd) {
		k.wrong = append(k.wrong, call)
	}
}

func (k *staleKernel) Read(fd int, p []byte) (int, error) {
	k.touches("read", fd)
	return k.Kernel.Read(fd, p)
}

func (k *staleKernel) Send(fd int, p []byte, flags int) (int, error) {
	k.touches("send", fd)
	return k.Kernel.Send(fd, p, flags)
}

func (k *staleKernel) Shutdown(fd, how int) error {
	k.touches("shutdown", fd)
	return k.Kernel.Shutdown(fd, how)
}

func (k *staleKernel) Close(fd int) error {
	k.touches("close", fd)
	return k.Kernel.Close(fd)
}

func reused(t *T, l lesson.Lesson) {
	for _, order := range []string{"clc", "ccl", "lcc", "lclclc"} {
		for _, sent := range []string{"GET /", request} { // closed while reading, while lingering
			// Other tests in this process take descriptors too, so the number
			// is not always the next to be handed out.
			const most = 200
			for round := 1; !reusedOnce(t, l, order, sent); round++ {
				if round == most {
					t.Fatalf("in %d rounds, no descriptor was reused", most)
				}
			}
		}
	}
}

func reusedOnce(t *T, l lesson.Lesson, order, sent string) bool {
	stale := &staleKernel{listener: -1, target: -1, order: order}
	r := newRig(t, l)
	r.wrap = func(k kernel.Kernel) kernel.Kernel {
		stale.Kernel = k
		return stale
	}
	old := r.dial()
	proof.Must(t, old.Send([]byte(sent)))
	if sent == request {
		answered(t, old, response)
	} else {
		digested(t, old)
	}
	theirs := t.machine.theirs(old)
	proof.Eventually(t, "the server waits for the client's end", func() bool {
		stale.mu.Lock()
		defer stale.mu.Unlock()
		return stale.parked
	})

	addr := r.servers[0].Addr()
	var next *play.Conn
	var failed error
	arrived := make(chan struct{})
	stale.mu.Lock()
	stale.target = theirs
	stale.arrive = func() {
		defer close(arrived)
		next, failed = r.connect(addr)
		if failed == nil {
			failed = next.Send([]byte(request[:5]))
		}
	}
	stale.mu.Unlock()
	proof.Must(t, old.Close())
	closed := func() bool { return r.servers[0].ledger.connections() == 0 }
	proof.Eventually(t, "the connection has ended", func() bool {
		select {
		case <-arrived:
			return true
		default:
			return closed()
		}
	})
	select {
	case <-arrived:
		proof.Must(t, failed)
	default:
		return false // it had lingered out before we closed it
	}
	defer next.Close()
	proof.Must(t, next.Send([]byte(request[5:])))
	answered(t, next, response)
	proof.Must(t, next.Close())
	r.stop()
	for _, call := range stale.wrong {
		t.Errorf("batch %q: %s on a connection before it had an event", order, call)
	}
	return stale.reused
}

func twoServers(t *T, l lesson.Lesson) {
	const clients = 64 // all of them by chance at one server: once in 2^63 runs
	r := newRig(t, l)
	r.options.ReusePort = true
	r.options.Addr = r.start().Addr()
	r.start()
	for range clients {
		r.asks()
	}
	for _, s := range r.servers {
		if s.Counts().Accepted.Load() == 0 {
			t.Error("one of the two has accepted no client")
		}
	}
	r.counted(counts{accepted: clients, served: clients})
}
