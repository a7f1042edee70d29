//go:build linux

package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/protocol"
)

// serve runs a server of the test: it does with each connection what handle does,
// and then closes it.
func serve(t *testing.T, handle func(n int64, c *net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var n atomic.Int64
	all.Go(func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return // closed
			}
			all.Go(func() {
				defer c.Close()
				handle(n.Add(1), c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// hear reads a request.
func hear(c *net.TCPConn) bool {
	p := make([]byte, len(request))
	_, err := io.ReadFull(c, p)
	return err == nil && string(p) == string(request)
}

// respond answers in pieces, as a server may.
func respond(c *net.TCPConn, pieces ...[]byte) {
	for _, p := range pieces {
		if _, err := c.Write(p); err != nil {
			return // the client has had enough
		}
	}
}

// lingering waits until the client has closed.
func lingering(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }

const manyRequests = 100

// loadOn is manyRequests requests for a server, from four clients.
func loadOn(addr netip.AddrPort) load {
	return load{
		server: addr, request: request, answer: newAnswer(protocol.Response), clients: 4,
		during: time.Minute, most: manyRequests, timeout: 30 * time.Second, cpu: anyProcessor,
	}
}

func mustRun(t *testing.T, l load) outcome {
	t.Helper()
	before := openDescriptors(t)
	out, err := l.run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for openDescriptors(t) > before { // the server's own, until it has read the end
		if time.Since(began) > 10*time.Second {
			t.Fatalf("%d descriptors, before %d", openDescriptors(t), before)
		}
		time.Sleep(time.Millisecond)
	}
	if got := out.sinceDue.TotalCount(); got != out.served {
		t.Errorf("%d latencies of %d that were served", got, out.served)
	}
	return out
}

// openDescriptors is how many descriptors this process has open.
func openDescriptors(t *testing.T) int {
	t.Helper()
	n := 0
	for fd := range 4096 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}

func TestEveryRequestIsCounted(t *testing.T) {
	whole := protocol.Response
	wrong := append([]byte(nil), whole...)
	wrong[len(wrong)-1] = '?'
	tests := []struct {
		name   string
		handle func(n int64, c *net.TCPConn)
		served int64
		errors Errors
	}{
		{"right", func(_ int64, c *net.TCPConn) {
			if hear(c) {
				respond(c, whole)
			}
		}, manyRequests, Errors{}},
		{"right, in pieces", func(_ int64, c *net.TCPConn) {
			if hear(c) {
				respond(c, whole[:1], whole[1:40], whole[40:])
			}
		}, manyRequests, Errors{}},
		{"right, and waits for the client to close", func(_ int64, c *net.TCPConn) {
			if hear(c) {
				respond(c, whole)
				_ = c.CloseWrite() // the client may have closed
				lingering(c)
			}
		}, manyRequests, Errors{}},
		{"slow for every tenth", func(n int64, c *net.TCPConn) {
			if n%10 == 0 {
				time.Sleep(20 * time.Millisecond)
			}
			if hear(c) {
				respond(c, whole)
			}
		}, manyRequests, Errors{}},
		{"resets every fourth", func(n int64, c *net.TCPConn) {
			if !hear(c) {
				return
			}
			if n%4 == 0 {
				_ = c.SetLinger(0) // it is open
				return
			}
			respond(c, whole)
		}, 75, Errors{Reset: 25}},
		{"resets after the whole answer", func(n int64, c *net.TCPConn) {
			if hear(c) {
				respond(c, whole)
				_ = c.SetLinger(0) // it is open
			}
		}, 0, Errors{Reset: manyRequests}},
		{"answers every fifth with a byte too few", func(n int64, c *net.TCPConn) {
			if !hear(c) {
				return
			}
			if n%5 == 0 {
				respond(c, whole[:len(whole)-1])
				return
			}
			respond(c, whole)
		}, 80, Errors{Short: 20}},
		{"does not answer", func(_ int64, c *net.TCPConn) { hear(c) }, 0, Errors{Short: manyRequests}},
		{"answers with a byte too many", func(_ int64, c *net.TCPConn) {
			if hear(c) {
				respond(c, whole, []byte("!"))
				lingering(c)
			}
		}, 0, Errors{Wrong: manyRequests}},
		{"answers with another byte", func(_ int64, c *net.TCPConn) {
			if hear(c) {
				respond(c, wrong)
				lingering(c)
			}
		}, 0, Errors{Wrong: manyRequests}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := mustRun(t, loadOn(serve(t, test.handle)))
			if out.served != test.served || out.errors != test.errors {
				t.Errorf("served %d, %+v; want %d, %+v", out.served, out.errors, test.served, test.errors)
			}
			if out.hopeless || out.unsent != 0 {
				t.Errorf("given up %v, not sent %d", out.hopeless, out.unsent)
			}
		})
	}
}

func TestNoAnswerInTime(t *testing.T) {
	l := loadOn(serve(t, func(_ int64, c *net.TCPConn) { lingering(c) }))
	l.most, l.timeout = 8, 100*time.Millisecond
	began := time.Now()
	out := mustRun(t, l)
	if out.served != 0 || out.errors != (Errors{Timeout: 8}) {
		t.Errorf("served %d, %+v", out.served, out.errors)
	}
	if took := time.Since(began); took < 2*l.timeout {
		t.Errorf("8 requests of 4 clients took %v, with a timeout of %v", took, l.timeout)
	}
}

func TestNobodyListens(t *testing.T) {
	l := loadOn(proof.NoServer(t))
	out := mustRun(t, l)
	if out.served != 0 || out.errors != (Errors{Refused: manyRequests}) || out.hopeless {
		t.Errorf("served %d, %+v, given up %v", out.served, out.errors, out.hopeless)
	}
	l.most = 0
	out = mustRun(t, l)
	if !out.hopeless || out.errors.Refused < hopeless || out.errors.Refused > hopeless+int64(l.clients) {
		t.Errorf("without a bound: %+v, given up %v", out.errors, out.hopeless)
	}
}

// A closed loop keeps all of its clients busy.
func TestClosedLoop(t *testing.T) {
	const clients = 7
	var now, most atomic.Int64
	all := make(chan bool)
	var once sync.Once
	addr := serve(t, func(_ int64, c *net.TCPConn) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer now.Add(-1)
		if !hear(c) {
			return
		}
		if now.Load() == clients {
			once.Do(func() { close(all) })
		}
		<-all // no client is answered before all are there
		respond(c, protocol.Response)
	})
	l := loadOn(addr)
	l.clients = clients
	out := mustRun(t, l)
	if out.served != manyRequests || out.errors.All() != 0 {
		t.Errorf("served %d, %+v", out.served, out.errors)
	}
	if out.sinceDue != out.sinceSent {
		t.Error("a closed loop has two kinds of latency")
	}
}

// A closed loop without a bound lasts as long as it should.
func TestAClosedLoopLasts(t *testing.T) {
	l := loadOn(serve(t, func(_ int64, c *net.TCPConn) {
		if hear(c) {
			respond(c, protocol.Response)
		}
	}))
	l.most, l.during = 0, 100*time.Millisecond
	out := mustRun(t, l)
	if out.errors.All() != 0 {
		t.Errorf("served %d, %+v", out.served, out.errors)
	}
	if wall := out.client.wall; wall < l.during || out.elapsed > wall {
		t.Errorf("it lasted %v of %v; the last answer came after %v", wall, l.during, out.elapsed)
	}
}

// The one thing that a closed loop cannot see: a server that stalls for 300 ms delays
// every request that would have been sent in that time. With few clients, only their own
// requests are late, counted from when they were sent.
func TestAStallIsSeenFromWhenRequestsWereDue(t *testing.T) {
	const rate, during, stall = 500, 600 * time.Millisecond, 300 * time.Millisecond
	var lock sync.Mutex
	addr := serve(t, func(n int64, c *net.TCPConn) {
		if !hear(c) {
			return
		}
		lock.Lock()
		if n == rate/4 {
			time.Sleep(stall)
		}
		lock.Unlock()
		respond(c, protocol.Response)
	})
	l := loadOn(addr)
	l.clients, l.most, l.rate, l.during = 2, 0, rate, during
	out := mustRun(t, l)
	if want := int64(rate * during.Seconds()); out.served != want || out.unsent != 0 {
		t.Fatalf("served %d, not sent %d; want %d", out.served, out.unsent, want)
	}
	const late = 50 * time.Millisecond
	due, sent := lateIn(out, late)
	if due < 100 {
		t.Errorf("%d are late by %v from when they were due, want 125", due, late)
	}
	// Two are, and two more for each stall of the machine itself: no client sends another
	// meanwhile.
	if most := int64(l.clients) * int64(out.client.wall/late); sent > most {
		t.Errorf("%d are late by %v from when they were sent, in %v; want 2, and at most %d",
			sent, late, out.client.wall, most)
	}
	if max := time.Duration(out.sinceDue.Max()); max < stall*9/10 {
		t.Errorf("the latest was %v late, with a stall of %v", max, stall)
	}
}

// lateIn counts latencies over a bound.
func lateIn(out outcome, bound time.Duration) (due, sent int64) {
	for _, bar := range out.sinceDue.Distribution() {
		if bar.From > int64(bound) {
			due += bar.Count
		}
	}
	for _, bar := range out.sinceSent.Distribution() {
		if bar.From > int64(bound) {
			sent += bar.Count
		}
	}
	return due, sent
}

// A server that cannot keep up is not spared: what was due and not sent is counted.
func TestUnsentRequestsAreCounted(t *testing.T) {
	const pause = 40 * time.Millisecond
	addr := serve(t, func(_ int64, c *net.TCPConn) {
		if hear(c) {
			time.Sleep(pause)
			respond(c, protocol.Response)
		}
	})
	l := loadOn(addr)
	l.clients, l.most, l.rate, l.during, l.timeout = 1, 0, 1000, 200*time.Millisecond, 150*time.Millisecond
	out := mustRun(t, l)
	if all := out.served + out.errors.All() + out.unsent; all != 200 {
		t.Errorf("served %d, %+v, not sent %d: %d in all, want 200", out.served, out.errors, out.unsent, all)
	}
	if out.unsent < 150 {
		t.Errorf("%d were not sent, though 350 ms are enough for 9 at most", out.unsent)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	addr := serve(t, func(_ int64, c *net.TCPConn) {
		cancel()
		lingering(c)
	})
	began := time.Now()
	_, err := loadOn(addr).run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("interrupted after %v", took)
	}
}

func TestNothingIsAllocatedForARequest(t *testing.T) {
	if testing.CoverMode() != "" {
		t.Skip("counted with coverage, there is more")
	}
	l := loadOn(proof.NoServer(t)) // a server of the test would allocate
	l.clients, l.most, l.during = 1, 1, time.Minute
	g, err := newGenerator(l)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.end() }()
	g.began = g.kernel.Now()
	turn := func() {
		g.load.most++
		if err := g.loop(); err != nil {
			t.Fatal(err)
		}
	}
	turn()
	if n := testing.AllocsPerRun(500, turn); n > 0 {
		t.Errorf("%.1f allocations for each request", n)
	}
}

// A load leaves from many addresses, so that none runs out of ports.
func TestSourcesAreSpread(t *testing.T) {
	var mu sync.Mutex
	from := map[netip.Addr]bool{}
	addr := serve(t, func(_ int64, c *net.TCPConn) {
		mu.Lock()
		from[c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()] = true
		mu.Unlock()
		if hear(c) {
			respond(c, protocol.Response)
		}
	})
	mustRun(t, loadOn(addr))
	made.Add(perSource)
	mustRun(t, loadOn(addr))
	mu.Lock()
	defer mu.Unlock()
	if len(from) < 2 {
		t.Errorf("all connections come from %v", from)
	}
	if loopback := netip.MustParsePrefix("127.1.0.0/16"); from[netip.MustParseAddr("127.0.0.1")] {
		t.Errorf("%v, want those of %v", from, loopback)
	}
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this machine has no IPv6: ", err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			if hear(c.(*net.TCPConn)) {
				respond(c.(*net.TCPConn), protocol.Response)
			}
			_ = c.Close()
		}
	}()
	out := mustRun(t, loadOn(l.Addr().(*net.TCPAddr).AddrPort()))
	if out.served != manyRequests {
		t.Errorf("served %d, %+v", out.served, out.errors)
	}
}

func TestAnswers(t *testing.T) {
	const dated = "HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 21:00:00 GMT\r\nX: y\r\n\r\nhello"
	tests := []struct {
		name, want, got string
		right           bool
	}{
		{"the same", dated, dated, true},
		{"another second", dated, "HTTP/1.1 200 OK\r\nDate: Thu, 26 Nov 2026 00:00:01 GMT\r\nX: y\r\n\r\nhello", true},
		{"another header", dated, "HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 21:00:00 GMT\r\nX: z\r\n\r\nhello", false},
		{"another status", dated, "HTTP/1.1 500 NO\r\nDate: Wed, 25 Nov 2026 21:00:00 GMT\r\nX: y\r\n\r\nhello", false},
		{"another body", dated, "HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 21:00:00 GMT\r\nX: y\r\n\r\nhellO", false},
		{"a date that is body", "a\r\n\r\nx\nDate: 1\r\n", "a\r\n\r\nx\nDate: 2\r\n", false},
		{"longer", "abc", "abcd", false},
		{"a date at the end of the head", "a\r\nDate: 1\r\n\r\n", "a\r\nDate: 2\r\n\r\n", true},
		{"no HTTP", "Date: 1", "Date: 2", false},
	}
	for _, test := range tests {
		for _, cut := range []int{1, 7, 25, 1000} { // in pieces of so many bytes
			a := newAnswer([]byte(test.want))
			right := true
			for got := 0; got < len(test.got) && right; got += cut {
				right = a.goesOn(got, []byte(test.got)[got:min(len(test.got), got+cut)])
			}
			if right != test.right {
				t.Errorf("%s, in pieces of %d: right is %v", test.name, cut, right)
			}
		}
	}
	lesson := newAnswer(protocol.Response)
	later := []byte("HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:02 GMT\r\n")
	if lesson.goesOn(0, later) {
		t.Error("the lessons' answer is constant, and another date is right")
	}
	if s := lesson.String(); s != "" {
		t.Errorf("the lessons' answer is said to be %q", s)
	}
}

func TestLearn(t *testing.T) {
	tests := []struct {
		name   string
		handle func(n int64, c *net.TCPConn)
		err    string
	}{
		{"the lessons' answer", func(_ int64, c *net.TCPConn) { hear(c); respond(c, protocol.Response) }, ""},
		{"one of its own", func(_ int64, c *net.TCPConn) { hear(c); respond(c, []byte("hi")) }, ""},
		{"none", func(_ int64, c *net.TCPConn) { hear(c) }, "without an answer"},
		{"two", func(n int64, c *net.TCPConn) { hear(c); respond(c, []byte{'a' + byte(n)}) }, "it gives two answers"},
		{"one that does not end", func(_ int64, c *net.TCPConn) {
			hear(c)
			respond(c, protocol.Response)
			lingering(c)
		}, "it must close the connection after its answer"},
	}
	for _, test := range tests {
		patience := 30 * time.Second
		if test.name == "one that does not end" {
			patience = 50 * time.Millisecond
		}
		addr := serve(t, test.handle)
		_, err := learn(addr, patience)
		// A program that does not run for that long learns nothing.
		for errors.Is(err, play.ErrTimeout) && !strings.Contains(err.Error(), test.err) && patience < time.Minute {
			patience *= 2
			_, err = learn(addr, patience)
		}
		checkError(t, test.name, err, test.err)
	}
	if _, err := learn(proof.NoServer(t), time.Second); err == nil {
		t.Error("no answer, and no error")
	}
}

// A process that starts meanwhile has our descriptors until it becomes its program. A
// connection that we close lives on there, and epoll reports what still arrives for it.
// A duplicate of the descriptor does the same.
func TestAnEventOfAConnectionThatWasClosed(t *testing.T) {
	for timeout := 50 * time.Millisecond; ; timeout *= 2 {
		duplicated := make(chan bool, 1)
		l := loadOn(serve(t, func(n int64, c *net.TCPConn) {
			if n > 1 {
				respond(c, protocol.Response)
				lingering(c)
				return
			}
			port := c.RemoteAddr().(*net.TCPAddr).Port
			fd, err := unix.Dup(anyOf(descriptorsOf(port)))
			duplicated <- err == nil
			if err != nil {
				return // the client had given up before this goroutine ran
			}
			proof.Eventually(t, "the client to give up", func() bool {
				return len(descriptorsOf(port)) == 1 // the duplicate
			})
			respond(c, protocol.Response)
			time.Sleep(timeout) // so that the client, which has not begun again, gets the event
			_ = unix.Close(fd)
		}))
		l.clients, l.most, l.timeout = 1, 0, timeout
		l.during, l.rate = 10*timeout, 1/(5*timeout).Seconds() // two requests
		out, err := l.run(context.Background())
		if err != nil || out.errors != (Errors{Timeout: 2}) {
			t.Errorf("served %d, %+v, %v; want two that are late", out.served, out.errors, err)
		}
		if <-duplicated || t.Failed() {
			return
		}
	}
}

// descriptorsOf returns the descriptors of this process that are bound to a port.
func descriptorsOf(port int) []int {
	var all []int
	for fd := range 4096 {
		at, err := unix.Getsockname(fd)
		if in, ok := at.(*unix.SockaddrInet4); err == nil && ok && in.Port == port {
			all = append(all, fd)
		}
	}
	return all
}

// anyOf returns the first descriptor, or one that is not open.
func anyOf(descriptors []int) int { return append(descriptors, -1)[0] }
