//go:build linux

package play

import (
	"context"
	"encoding/json"
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

// verbs is all of them.
var verbs = []Verb{
	Connect, Send, Flood, HalfClose, Close, Reset, Read, ReadAndClose, ReadSlowly, Wait,
}

// serve listens, and gives each connection to do, on a goroutine of its own, until
// the test ends.
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

// answers reads a request of any length up to its empty line, answers, and reads on to
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

// on is a player without a scenario, and a function that lets "c" act and fails
// when that does.
func on(t *testing.T, addr netip.AddrPort) (*Player, func(Act)) {
	t.Helper()
	p := NewPlayer(Scenario{}, addr)
	t.Cleanup(p.Close)
	return p, func(a Act) {
		t.Helper()
		a.Client = "c"
		proof.Must(t, p.Do(a))
	}
}

// c is what has become of the one client.
func c(p *Player) Seen { return p.Record().Clients[0] }

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
	if got.Answer != string(protocol.Response) || got.Got != len(protocol.Response) ||
		got.Sent != int64(len(request)) {
		t.Errorf("%+v", got)
	}
	if !(got.Connected < got.Asked && got.Asked < got.FirstByte && got.FirstByte <= got.Ended) {
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
	do(Act{Do: Send, Bytes: request})
	do(Act{Do: ReadAndClose})
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the server read %v, want end of file", err)
	}
	proof.Eventually(t, "answered", func() bool { return c(p).How == Answered })
}

func TestReadSlowly(t *testing.T) {
	p := NewPlayer(Scenario{Clients: []Client{{Name: "c", SmallBuffer: true}}}, serve(t, answers))
	t.Cleanup(p.Close)
	for _, a := range []Act{
		{Do: Connect}, {Do: Send, Bytes: request}, {Do: ReadSlowly, Pause: time.Millisecond},
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
		do(Act{Do: Flood, Bytes: strings.Repeat("x", 4096)})
		p.background.Wait()
		got := c(p)
		if got.How != TooLarge || got.Sent <= protocol.MaxRequest || got.Asked != 0 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("to its bound", func(t *testing.T) {
		p, do := on(t, serve(t, func(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }))
		do(Act{Do: Connect})
		do(Act{Do: Flood, Bytes: "xx", Most: 1000})
		p.background.Wait()
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
		p.background.Wait()
		if got := c(p); got.How != Left {
			t.Errorf("%+v", got)
		}
	})
	t.Run("until the play is over, though nobody reads", func(t *testing.T) {
		over := make(chan bool)
		p, do := on(t, serve(t, func(*net.TCPConn) { <-over }))
		defer close(over)
		do(Act{Do: Connect})
		do(Act{Do: Flood, Bytes: strings.Repeat("x", 1<<20)})
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
			_, _ = io.ReadFull(conn, make([]byte, len(request)))
			s.server(conn)
		}))
		do(Act{Do: Connect})
		do(Act{Do: Send, Bytes: request})
		do(Act{Do: Read})
		p.background.Wait()
		if got := c(p).How; got != s.want {
			t.Errorf("%s: %q, want %q", s.name, got, s.want)
		}
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	l, err := net.ListenTCP("tcp", nil)
	proof.Must(t, err)
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(l.Addr().(*net.TCPAddr).Port))
	proof.Must(t, l.Close())
	p := NewPlayer(Scenario{}, addr)
	defer p.Close()
	if err := p.Do(Act{Client: "c", Do: Connect}); err == nil {
		t.Error("connected to nobody")
	}
	if got := c(p); got.How != Unconnected || got.Acts[0].Err == "" {
		t.Errorf("%+v", got)
	}
	for _, verb := range verbs[1:] {
		err := p.Do(Act{Client: "c", Do: verb})
		if (err == nil) != (verb == Wait) {
			t.Errorf("%s without a connection: %v", verb, err)
		}
	}
	if err := p.Do(Act{Client: "somebody else", Do: Send}); err == nil {
		t.Error("a client that is not there has sent")
	}
	p, do := on(t, serve(t, answers))
	do(Act{Do: Connect})
	if err := p.Do(Act{Client: "c", Do: Connect}); err == nil {
		t.Error("connected twice")
	}
	if err := p.Do(Act{Client: "c", Do: "dance"}); err == nil {
		t.Error("danced")
	}
	p.Close()
	if err := p.Do(Act{Client: "d", Do: Connect}); err == nil {
		t.Error("connected after the end")
	}
}

func TestPlay(t *testing.T) {
	for _, s := range All() {
		if s.Name == "stuck" || s.Name == "slow-reader" {
			continue // they are about what a server does
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			s.Lasts += 20 * time.Second
			p := NewPlayer(s, serve(t, answers))
			defer p.Close()
			r := p.Play(t.Context())
			if r.Scenario != s.Name || len(r.Clients) != len(s.Clients) || r.Lasted >= s.Lasts {
				t.Errorf("%s, %d clients, %v", r.Scenario, len(r.Clients), r.Lasted)
			}
			for _, c := range r.Clients {
				want := Answered
				if c.Role == Flooder {
					want = TooLarge
				}
				if c.How != want {
					t.Errorf("%s: %q, want %q: %+v", c.Name, c.How, want, c.Acts)
				}
				for i, a := range s.ActsOf(c.Name) {
					if got := c.Acts[i]; got.Do != a.Do || got.At < a.At {
						t.Errorf("%s: act %d is %+v, want %+v", c.Name, i, got, a)
					}
				}
			}
		})
	}
}

// A play has an end, whatever the server does.
func TestPlayIsBounded(t *testing.T) {
	over := make(chan bool)
	addr := serve(t, func(*net.TCPConn) { <-over })
	defer close(over)
	s := slowClient()
	s.Lasts = 1500 * time.Millisecond
	p := NewPlayer(s, addr)
	defer p.Close()
	r := p.Play(t.Context())
	for _, c := range r.Clients {
		want := Open // slow has not asked yet
		if c.Role == Quick {
			want = GaveUp
		}
		if c.How != want {
			t.Errorf("%s: %q, want %q", c.Name, c.How, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	cancelled := NewPlayer(slowClient(), addr)
	defer cancelled.Close()
	if r := cancelled.Play(ctx); r.Lasted > 4*time.Second {
		t.Errorf("lasted %v after it was cancelled", r.Lasted)
	}
}

func TestScenariosAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range All() {
		if seen[s.Name] || s.Title == "" || s.Question == "" || s.Text == "" || s.Lasts == 0 {
			t.Errorf("%+v", s)
		}
		seen[s.Name] = true
		if !slices.IsSortedFunc(s.Acts, func(a, b Act) int { return int(a.At - b.At) }) {
			t.Errorf("%s: acts are not in order", s.Name)
		}
		for _, c := range s.Clients {
			acts := s.ActsOf(c.Name)
			if len(acts) == 0 || acts[0].Do != Connect {
				t.Errorf("%s: %s does %v", s.Name, c.Name, acts)
			}
		}
		for _, a := range s.Acts {
			if _, ok := s.Client(a.Client); !ok || !slices.Contains(verbs, a.Do) || a.At > s.Lasts {
				t.Errorf("%s: %+v", s.Name, a)
			}
		}
		text, err := json.Marshal(s)
		proof.Must(t, err)
		if !strings.Contains(string(text), `"do":"connect"`) {
			t.Errorf("as JSON: %s", text)
		}
	}
	if _, err := Find("nosuch"); err == nil || !strings.Contains(err.Error(), "slow-client, crowd") {
		t.Errorf("%v", err)
	}
	if len(long) != longFirst+12 || request != firstHalf+secondHalf {
		t.Error("a request is not as long as its scenario says")
	}
}
