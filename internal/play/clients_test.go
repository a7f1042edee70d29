//go:build linux

package play

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lesson/internal/proof"
	"lesson/internal/protocol"
)

// serve listens until the test ends, and calls do for each connection, on a goroutine of
// its own.
func serve(t *testing.T, do func(*net.TCPConn)) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	proof.Must(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.AcceptTCP()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
				do(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// answers reads a request of any length up to its empty line, answers, and then reads to
// end of file.
func answers(conn *net.TCPConn) {
	var request protocol.Request
	buffer := make([]byte, 512)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		status := request.Add(buffer[:n])
		if status == protocol.Incomplete {
			continue
		}
		answer := protocol.Response
		if status == protocol.Oversize {
			answer = protocol.TooLarge
		}
		_, _ = conn.Write(answer)
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
		return
	}
}

// at returns clients of the server at addr.
func at(t *testing.T, addr netip.AddrPort, known ...Client) *Clients {
	t.Helper()
	clients := NewClients(Options{
		Addr: func() netip.AddrPort { return addr }, Clients: known,
	})
	t.Cleanup(clients.Close)
	return clients
}

// on is at with a function that lets "c" act, and fails when that does.
func on(t *testing.T, addr netip.AddrPort) (*Clients, func(Act)) {
	t.Helper()
	p := at(t, addr)
	return p, func(a Act) {
		t.Helper()
		a.Client = "c"
		proof.Must(t, p.Do(a))
	}
}

// Do does one act, and waits until it is done.
func (c *Clients) Do(a Act) error {
	done := make(chan error, 1)
	if err := c.Queue(a, func(err error) { done <- err }); err != nil {
		return err
	}
	return <-done
}

// c returns what has become of the one client.
func c(p *Clients) Seen { return p.Record().Clients[0] }

// asAct returns the act of "c" with that verb.
func asAct(v Verb) Act { return Act{Client: "c", Do: v} }

func TestConnectSendReadClose(t *testing.T) {
	p, do := on(t, serve(t, answers))
	do(Act{Do: Connect})
	do(Act{Do: Send, Bytes: firstHalf})
	if got := c(p); got.Connected == 0 || !got.Addr.IsValid() || got.Asked != 0 || got.How != Open {
		t.Errorf("after half a request: %+v", got)
	}
	do(Act{Do: Wait})
	do(Act{Do: Send, Bytes: secondHalf})
	do(Act{Do: Read})
	proof.Eventually(t, "an answer", func() bool { return c(p).How == Answered })
	got := c(p)
	if got.Answer != string(protocol.Response) || got.Got != int64(len(protocol.Response)) ||
		got.Sent != int64(len(Request)) {
		t.Errorf("%+v", got)
	}
	if !(0 < got.Connected && got.Connected <= got.Asked && got.Asked <= got.FirstByte &&
		got.FirstByte <= got.Ended) {
		t.Errorf("times are not in order: %+v", got)
	}
	proof.Eventually(t, "the read is done", func() bool { return c(p).Acts[4].Until > 0 })
	do(Act{Do: Close})
	got = c(p)
	if got.How != Answered {
		t.Errorf("closing made it %q", got.How)
	}
	var verbs []Verb
	for _, a := range got.Acts {
		verbs = append(verbs, a.Do)
		if a.At == 0 || a.Until < a.At || a.Err != "" {
			t.Errorf("%+v", a)
		}
	}
	if want := []Verb{Connect, Send, Wait, Send, Read, Close}; !slices.Equal(verbs, want) {
		t.Errorf("acts %v, want %v", verbs, want)
	}
	if err := p.Do(Act{Client: "c", Do: Send, Bytes: "x"}); err == nil {
		t.Error("sent after closing")
	}
	do(Act{Do: Connect}) // again
	if got := c(p); got.How != Open || got.Got != 0 || got.Ended != 0 {
		t.Errorf("connected again: %+v", got)
	}
}

func TestReadAndCloseCloses(t *testing.T) {
	ended := make(chan error, 1)
	addr := serve(t, func(conn *net.TCPConn) {
		answers(conn)
		_, err := conn.Read(make([]byte, 1))
		ended <- err
	})
	p, do := on(t, addr)
	do(Act{Do: Connect})
	do(Act{Do: Send, Bytes: Request})
	do(Act{Do: ReadAndClose})
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the server read %v, want end of file", err)
	}
	proof.Eventually(t, "answered", func() bool { return c(p).How == Answered })
}

func TestReadSlowly(t *testing.T) {
	p := at(t, serve(t, answers), Client{Name: "c", SmallBuffer: true})
	for _, a := range []Act{
		{Do: Connect}, {Do: Send, Bytes: Request}, {Do: ReadSlowly, Pause: time.Millisecond},
	} {
		a.Client = "c"
		proof.Must(t, p.Do(a))
	}
	proof.Eventually(t, "answered", func() bool { return c(p).How == Answered })
	got := c(p)
	least := time.Duration(len(protocol.Response)-2) * time.Millisecond
	if took := got.Ended - got.FirstByte; took < least {
		t.Errorf("read in %v, want at least %v", took, least)
	}
}

func TestHalfClose(t *testing.T) {
	p, do := on(t, serve(t, func(conn *net.TCPConn) {
		if all, err := io.ReadAll(conn); err == nil {
			_, _ = conn.Write(all) // an echo, after the end
		}
	}))
	do(Act{Do: Connect})
	do(Act{Do: Send, Bytes: "hello"})
	do(Act{Do: HalfClose})
	do(Act{Do: ReadAndClose})
	proof.Eventually(t, "an end", func() bool { return c(p).How != Open })
	if got := c(p); got.How != Closed || got.Answer != "hello" {
		t.Errorf("%+v", got)
	}
}

// What a client does to itself is no answer, whether or not it is reading.
func TestLeaving(t *testing.T) {
	for _, verb := range []Verb{Close, Reset} {
		for _, reading := range []bool{false, true} {
			ended := make(chan error, 1)
			p, do := on(t, serve(t, func(conn *net.TCPConn) {
				_, err := io.Copy(io.Discard, conn)
				ended <- err
			}))
			do(Act{Do: Connect})
			do(Act{Do: Send, Bytes: firstHalf})
			if reading {
				do(Act{Do: Read})
			}
			do(Act{Do: verb})
			if err := <-ended; (err != nil) != (verb == Reset) {
				t.Errorf("%s: the server read %v", verb, err)
			}
			p.Close()
			if got := c(p); got.How != Left {
				t.Errorf("%s, reading %v: %q, want %q", verb, reading, got.How, Left)
			}
		}
	}
}

func TestFlood(t *testing.T) {
	t.Run("until it is refused", func(t *testing.T) {
		p, do := on(t, serve(t, answers))
		do(Act{Do: Connect})
		do(Act{Do: Read})
		do(Act{Do: Flood, Bytes: Bytes(strings.Repeat("x", 4096))})
		p.acting.Wait()
		got := c(p)
		if got.How != TooLarge || got.Sent <= protocol.MaxRequest || got.Asked != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("to its bound", func(t *testing.T) {
		p, do := on(t, serve(t, func(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }))
		do(Act{Do: Connect})
		do(Act{Do: Flood, Bytes: "xx", Most: 1000})
		p.acting.Wait()
		if got := c(p); got.How != Flooded || got.Sent != 1000 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("until it closes", func(t *testing.T) {
		p, do := on(t, serve(t, func(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }))
		do(Act{Do: Connect})
		do(Act{Do: Flood, Bytes: "xx", Most: 1 << 40})
		proof.Eventually(t, "something sent", func() bool { return c(p).Sent > 0 })
		do(Act{Do: Close})
		p.acting.Wait()
		if got := c(p); got.How != Left {
			t.Errorf("%+v", got)
		}
	})
	t.Run("until the play is over, although the server does not read", func(t *testing.T) {
		over := make(chan bool)
		p, do := on(t, serve(t, func(*net.TCPConn) { <-over }))
		defer close(over)
		do(Act{Do: Connect})
		do(Act{Do: Flood, Bytes: Bytes(strings.Repeat("x", 1<<20))})
		p.Close()
	})
}

func TestTheServersEnds(t *testing.T) {
	for _, s := range []struct {
		name   string
		server func(*net.TCPConn)
		want   Outcome
	}{
		{"end of file at once", func(*net.TCPConn) {}, Closed},
		{"half an answer", func(conn *net.TCPConn) { _, _ = conn.Write(protocol.Response[:50]) }, Closed},
		{"a reset", func(conn *net.TCPConn) { _ = conn.SetLinger(0) }, WasReset},
	} {
		p, do := on(t, serve(t, func(conn *net.TCPConn) {
			_, _ = io.ReadFull(conn, make([]byte, len(Request)))
			s.server(conn)
		}))
		do(Act{Do: Connect})
		do(Act{Do: Send, Bytes: Request})
		do(Act{Do: Read})
		p.acting.Wait()
		if got := c(p).How; got != s.want {
			t.Errorf("%s: %q, want %q", s.name, got, s.want)
		}
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	p := at(t, proof.NoServer(t))
	if err := p.Do(Act{Client: "c", Do: Connect}); err == nil {
		t.Error("connected without a listener")
	}
	if got := c(p); got.How != Unconnected || got.Acts[0].Err == "" {
		t.Errorf("%+v", got)
	}
	for _, verb := range Verbs()[1:] {
		if err := p.Do(asAct(verb)); (err == nil) != (verb == Wait) {
			t.Errorf("%s without a connection: %v", verb, err)
		}
	}
	if err := p.Do(Act{Client: "another", Do: Send}); !errors.Is(err, ErrNotThere) {
		t.Errorf("an unknown client has sent: %v", err)
	}
	p, do := on(t, serve(t, answers))
	do(Act{Do: Connect})
	if err := p.Do(asAct(Connect)); err == nil {
		t.Error("connected twice")
	}
	do(Act{Do: Read})
	if err := p.Do(asAct(Read)); !errors.Is(err, errReading) || c(p).Acts[3].Err == "" {
		t.Errorf("a second read: %v, %+v", err, c(p).Acts[3])
	}
	if err := p.Do(asAct("dance")); err == nil {
		t.Error("danced")
	}
	p.Close()
	if err := p.Do(Act{Client: "d", Do: Connect}); !errors.Is(err, ErrOver) {
		t.Errorf("connected after the end: %v", err)
	}
}

// The acts of a client that has to wait are bounded, and do not delay another client.
func TestAClientThatWaitsDelaysNoOther(t *testing.T) {
	over := make(chan bool)
	p, do := on(t, serve(t, func(*net.TCPConn) { <-over }))
	defer close(over)
	do(Act{Do: Connect})
	full := Act{Client: "c", Do: Send, Bytes: Bytes(strings.Repeat("x", 1<<20))}
	proof.Eventually(t, "a queue that is full", func() bool {
		return errors.Is(p.Queue(full, nil), ErrTooMany)
	})
	proof.Must(t, p.Do(Act{Client: "d", Do: Connect}))
	p.Close() // also ends the send
}

func TestABoundOnWhatIsSent(t *testing.T) {
	addr := serve(t, answers)
	p := NewClients(Options{Addr: func() netip.AddrPort { return addr }, MostSent: 10})
	defer p.Close()
	proof.Must(t, p.Do(asAct(Connect)))
	proof.Must(t, p.Do(Act{Client: "c", Do: Send, Bytes: "1234567890"}))
	if err := p.Do(Act{Client: "c", Do: Send, Bytes: "1"}); err == nil || c(p).Sent != 10 {
		t.Errorf("sent %d bytes: %v", c(p).Sent, err)
	}
}

// Every change is reported, in order; the acts that are kept are bounded.
func TestChangesOfAClientThatReads(t *testing.T) {
	addr := serve(t, answers)
	changes := make(chan Seen, 100)
	p := NewClients(Options{
		Addr: func() netip.AddrPort { return addr }, Changed: func(s Seen) { changes <- s },
	})
	defer p.Close()
	next := func(what string, is func(Seen) bool) {
		t.Helper()
		if s := <-changes; !is(s) {
			t.Errorf("%s: %+v", what, s)
		}
	}
	proof.Must(t, p.Do(Act{Client: "c", Do: Connect, Reads: true}))
	next("connecting", func(s Seen) bool { return s.Connected == 0 && s.How == Open })
	next("connected", func(s Seen) bool { return s.Connected > 0 && s.Addr.IsValid() })
	for i := range len(Request) {
		proof.Must(t, p.Do(Act{Client: "c", Do: Send, Bytes: Bytes(Request[i : i+1])}))
		if i < len(Request)-1 {
			next("sent", func(s Seen) bool { return s.Sent == int64(i+1) && s.Asked == 0 })
		}
	}
	proof.Eventually(t, "the answer", func() bool { return c(p).How == Answered })
	proof.Must(t, p.Do(asAct(Close)))
	for len(changes) > 1 {
		<-changes
	}
	next("closed", func(s Seen) bool { return s.Gone && s.How == Answered })
	for range 2 * keptActs {
		proof.Must(t, p.Do(asAct(Wait)))
	}
	if n := len(c(p).Acts); n != keptActs {
		t.Errorf("%d acts are kept", n)
	}
}

// faster returns a scenario whose acts come so many times as fast.
func faster(s Scenario, times time.Duration) Scenario {
	s.Acts = slices.Clone(s.Acts)
	for i := range s.Acts {
		s.Acts[i].At /= times
		s.Acts[i].Pause /= times
	}
	return s
}

func TestPlay(t *testing.T) {
	for _, s := range slices.Concat(Many(), Few()) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			s = faster(s, 50)
			s.Lasts += proof.Patience
			p := at(t, serve(t, answers), s.Clients...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if s.Name == "stuck" || s.Name == "long-request" { // a client of it stays
				go func() {
					defer cancel()
					proof.Eventually(t, "all acts", func() bool { return acts(p) == len(s.Acts) })
				}()
			}
			r := p.Play(ctx, s)
			if len(r.Clients) != len(s.Clients) || r.Lasted >= s.Lasts {
				t.Errorf("%d clients, %v", len(r.Clients), r.Lasted)
			}
			next := map[string]int{}
			for _, a := range s.Acts {
				i := slices.IndexFunc(r.Clients, func(c Seen) bool { return c.Name == a.Client })
				if got := r.Clients[i].Acts[next[a.Client]]; got.Do != a.Do || got.At < a.At {
					t.Errorf("%s did %+v, want %+v", a.Client, got, a)
				}
				next[a.Client]++
			}
			if slices.Contains(Few().Names(), s.Name) {
				return // its clients close when the scenario says so
			}
			for _, c := range r.Clients {
				want := map[string]Outcome{Flooder: TooLarge, Stuck: Open}[c.Role]
				if want == "" {
					want = Answered
				}
				if c.How != want {
					t.Errorf("%s: %q, want %q: %+v", c.Name, c.How, want, c.Acts)
				}
			}
		})
	}
}

// acts returns how many acts have been done, or tried.
func acts(p *Clients) (n int) {
	for _, c := range p.Record().Clients {
		for _, a := range c.Acts {
			if a.Until > 0 {
				n++
			}
		}
	}
	return n
}

// Play returns, whatever the server does.
func TestPlayIsBounded(t *testing.T) {
	over := make(chan bool)
	addr := serve(t, func(*net.TCPConn) { <-over })
	defer close(over)
	s := slowClient()
	for i, a := range s.Acts {
		if a.At >= 2*time.Second {
			s.Acts[i].At = time.Hour // slow has not asked yet
		}
	}
	s.Lasts = time.Hour
	p := at(t, addr, s.Clients...)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		proof.Eventually(t, "all quick clients ask", func() bool {
			return !slices.ContainsFunc(p.Record().Clients, func(c Seen) bool {
				return c.Role == Quick && c.Asked == 0
			})
		})
	}()
	for _, c := range p.Play(ctx, s).Clients {
		want := Open
		if c.Role == Quick {
			want = GaveUp
		}
		if c.How != want {
			t.Errorf("%s: %q, want %q", c.Name, c.How, want)
		}
	}
	s.Lasts = 50 * ms
	if r := at(t, addr, s.Clients...).Play(t.Context(), s); r.Lasted < s.Lasts {
		t.Errorf("lasted %v", r.Lasted)
	}
}
