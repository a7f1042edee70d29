//go:build linux

package lesson_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"lesson/internal/lesson"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/server"
)

// answering holds the rules about requests and their answers: B1, B2, B3, B6 by size, B13, B14.
var answering = []behaviour{
	{"B1 a terminator counts wherever it is cut", every, cutAnywhere},
	{"B1 a terminator counts in any stream of segments", every, cutAtRandom},
	{"B1 whatever follows the terminator changes nothing", every, followed},
	{"B1 what only looks like a terminator is not answered", every, noTerminator},
	{"B2 the answer is the constant to the byte", every, answer},
	{"B2 the answer is the same with every socket option", every, answerWithOptions},
	{"B2 with TCP_CORK the answer is held back and then sent", traced, corked},
	{"B3 the client gets the whole answer even when it sent a body", every, body},
	{"B3 the client gets the whole answer also when it continues to send", every, sendsLater},
	{"B3 the client gets the whole answer also when it reads slowly", every, slowReader},
	{"B3 lingering ends after a second", every, lingerTime},
	{"B3 lingering ends after a megabyte", every, lingerBytes},
	{"B6 a request of 8192 bytes is served", every, largest},
	{"B6 a request of 8193 bytes is refused with 431", every, oversize},
	{"B13 each request is printed once, escaped, after 40 dashes", every, printed},
	{"B14 IPv6 works", every, ipv6},
}

func cutAnywhere(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	for _, whole := range []string{"GET /\n\n", "GET /\r\n\r\n"} {
		for at := 1; at < len(whole); at++ {
			c := r.dial()
			between := func() { digested(t, c) }
			proof.Must(t, c.SendSlowly(play.Cut([]byte(whole), at), between))
			answered(t, c, response)
			proof.Must(t, c.Close())
		}
	}
}

func cutAtRandom(t *T, l lesson.Lesson) {
	const seed, streams, most = 1, 30, 400
	random := rand.New(rand.NewPCG(seed, 0))
	r := newRig(t, l)
	for range streams {
		// The bytes that terminators are made of, and another one. No whole
		// terminator but the last: see "whatever follows".
		var stream []byte
		for range random.IntN(most) {
			stream = append(stream, "\n\n\r\rx"[random.IntN(5)])
			if terminated(stream) {
				stream[len(stream)-1] = 'x'
			}
		}
		stream = append(stream, []string{"x\n\n", "x\n\r\n"}[random.IntN(2)]...)

		var cuts []int
		for at := range stream {
			if at > 0 && random.IntN(40) == 0 {
				cuts = append(cuts, at)
			}
		}
		c := r.dial()
		between := func() {
			if random.IntN(2) == 0 { // else the server may read two pieces as one
				digested(t, c)
			}
		}
		proof.Must(t, c.SendSlowly(play.Cut(stream, cuts...), between))
		answered(t, c, response)
		proof.Must(t, c.Close())
		if t.Failed() {
			t.Fatalf("seed %d: %q, cut at %v", seed, stream, cuts)
		}
	}
}

func terminated(p []byte) bool {
	return bytes.HasSuffix(p, []byte("\n\n")) || bytes.HasSuffix(p, []byte("\n\r\n"))
}

func followed(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	for _, extra := range []string{"x", "\n", "\r\n\r\n", request, strings.Repeat("x", 9000)} {
		for _, terminator := range []string{"\n\n", "\n\r\n"} {
			c := r.dial()
			proof.Must(t, c.Send([]byte("GET /"+terminator+extra)))
			answered(t, c, response)
			proof.Must(t, c.Close())
		}
	}
}

func noTerminator(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	looks := []string{"\n", "\r\n", "\r\r", "\r\n\r", "\n \n", "\n\r\r\n", "\n\rx\n", "x\n\r"}
	for _, like := range looks {
		c := r.dial()
		proof.Must(t, c.Send([]byte("GET /"+like)))
		proof.Must(t, c.HalfClose()) // now the server knows that nothing more will come
		unanswered(t, c)
		proof.Must(t, c.Close())
	}
	n := int64(len(looks))
	r.counted(counts{accepted: n, left: n})
}

func answer(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	for range 3 {
		r.asks()
	}
	r.counted(counts{accepted: 3, served: 3})
}

func answerWithOptions(t *T, l lesson.Lesson) {
	sets := []func(*server.Options){
		func(o *server.Options) { o.NoDelay = true },
		func(o *server.Options) { o.Cork = true },
		func(o *server.Options) { o.DeferAccept = true },
		func(o *server.Options) { o.ReusePort = true },
		func(o *server.Options) { o.NoDelay, o.Cork, o.DeferAccept = true, true, true },
		func(o *server.Options) { o.Timeout = 0 },
	}
	for _, set := range sets {
		r := newRig(t, l)
		set(&r.options)
		r.asks()
		r.goesOn()
	}
}

func corked(t *T, l lesson.Lesson) {
	var w watcher
	r := newRig(t, l)
	r.options.Cork = true
	r.wrap = w.over
	r.asks()
	r.stop()
	want := regexp.MustCompile(`TCP_CORK, 1\).*\n.* send\(.*\n.*TCP_CORK, 0\)`)
	if told := w.told(); !want.MatchString(told) || strings.Count(told, "TCP_CORK") != 2 {
		t.Errorf("no TCP_CORK around send:\n%s", told)
	}
}

// A reset would destroy what has not been sent yet. It is what close does
// when something lies unread, or comes later: answered wants no reset.
func body(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	bodies := []string{
		strings.Repeat("x", 100<<10),
		request, // pipelined: this server answers one request per connection
		strings.Repeat(request, 100),
	}
	for _, body := range bodies {
		c := r.dial()
		proof.Must(t, c.Send([]byte(request+body)))
		answered(t, c, response)
		proof.Must(t, c.Close())
	}
	n := int64(len(bodies))
	r.counted(counts{accepted: n, served: n})
}

// The server reads on for a second only. Should this machine take longer than
// that between two lines, the reset is in order: then once more.
func sendsLater(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	for range 5 {
		c := r.dial()
		asked := time.Now()
		proof.Must(t, c.Send([]byte(request)))
		got, err := c.Read(len(response), patience)
		proof.Must(t, err)
		if string(got) != response {
			t.Errorf("the client got %q", got)
		}
		var failed error
		for range 3 {
			failed = errors.Join(failed, c.Send([]byte(request)))
		}
		rest, err := c.ReadAll(patience)
		failed = errors.Join(failed, err, c.Send([]byte(request)), c.Close())
		if len(rest) > 0 {
			t.Errorf("after the answer came %q", rest)
		}
		if failed != nil && time.Since(asked) > server.LingerTime/2 {
			continue
		}
		if failed != nil {
			t.Errorf("after the answer: %v", failed)
		}
		break
	}
	r.goesOn()
}

func slowReader(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	c, err := t.machine.dial(r.server().Addr(), play.DialSmall)
	proof.Must(t, err)
	defer c.Close()
	proof.Must(t, c.Send([]byte(request+strings.Repeat("x", 10000))))
	got, err := c.ReadSlowly(patience, time.Millisecond)
	if string(got) != response || err != nil {
		t.Errorf("the client got %q, then %v", got, err)
	}
}

// The server closes, although the client neither closes nor sends.
func lingerTime(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	c := r.dial()
	asked := time.Now()
	proof.Must(t, c.Send([]byte(request)))
	answered(t, c, response)
	gone(t, c)
	if took := time.Since(asked); took < server.LingerTime {
		t.Errorf("closed after %v, want at least %v", took, server.LingerTime)
	}
}

// The server closes, although the client continues to send.
func lingerBytes(t *T, l lesson.Lesson) {
	const most = 64 << 20 // ample for every buffer on the way
	r := newRig(t, l)
	c := r.dial()
	proof.Must(t, c.Send([]byte(request)))
	answered(t, c, response)
	began := time.Now()
	sent, block := 0, make([]byte, 64<<10)
	for sent < most && c.Send(block) == nil {
		sent += len(block)
	}
	late := time.Since(began) > server.LingerTime/2 // then it was the time, not the bytes
	if sent < server.LingerBytes && !late || sent == most {
		t.Errorf("closed after %d bytes, want it soon after %d", sent, server.LingerBytes)
	}
	r.goesOn()
}

// sized is a request of so many bytes, its terminator among them.
func sized(n int) []byte {
	return append(bytes.Repeat([]byte("x"), n-2), "\n\n"...)
}

func largest(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	for _, cuts := range [][]int{nil, {1}, {4096}, {maxRequest - 1}, {1000, 2000, 8000}} {
		c := r.dial()
		between := func() { digested(t, c) }
		proof.Must(t, c.SendSlowly(play.Cut(sized(maxRequest), cuts...), between))
		answered(t, c, response)
		proof.Must(t, c.Close())
	}
}

func oversize(t *T, l lesson.Lesson) {
	r := newRig(t, l)
	pieces := [][][]byte{
		{sized(maxRequest + 1)}, // the terminator comes one byte too late
		play.Cut(sized(maxRequest+1), 1),
		play.Cut(sized(maxRequest+1), 1000, 2000, 8000),
		play.Cut(sized(maxRequest+1), maxRequest-1),
		play.Cut(sized(maxRequest+1), maxRequest),
		{bytes.Repeat([]byte("x"), 100<<10)}, // no terminator at all
	}
	for _, p := range pieces {
		c := r.dial()
		proof.Must(t, c.SendSlowly(p, func() { digested(t, c) }))
		answered(t, c, tooLarge)
		proof.Must(t, c.Close())
	}
	n := int64(len(pieces))
	r.counted(counts{accepted: n, refused: n})
	r.goesOn()
}

// writes keeps each write apart.
type writes struct {
	mu  sync.Mutex
	all []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(p))
	return len(p), nil
}

func printed(t *T, l lesson.Lesson) {
	const dashes = "----------------------------------------\n"
	cases := []struct{ sent, want string }{
		{"GET / HTTP/1.0\r\nHost: x\r\n\r\n", "GET / HTTP/1.0\nHost: x\n\n"},
		{"GET /\n\n", "GET /\n\n"},
		{"\x1b[2J\x00\xff\x7f\n\n", `\x1b[2J\x00\xff\x7f` + "\n\n"},
		{"over\rwritten\n\n", `over\x0dwritten` + "\n\n"},
		{`\x1b` + "\n\n", `\\x1b` + "\n\n"}, // cannot be taken for an escaped one
		{"GET / body not printed\n\nbody", "GET / body not printed\n\n"},
		{"incomplete\n", ""},
		{strings.Repeat("x", maxRequest+1), ""},
	}
	var out writes
	r := newRig(t, l)
	r.options.Requests = &out
	var want []string
	for _, c := range cases {
		conn := r.dial()
		proof.Must(t, conn.Send([]byte(c.sent)))
		proof.Must(t, conn.HalfClose())
		_, err := conn.ReadAll(patience)
		proof.Must(t, err)
		proof.Must(t, conn.Close())
		if c.want != "" {
			want = append(want, dashes+c.want)
		}
	}
	r.stop() // from now on nothing writes to out
	if fmt.Sprintf("%q", out.all) != fmt.Sprintf("%q", want) {
		t.Errorf("printed %q\nwant %q", out.all, want)
	}
}

func ipv6(t *T, l lesson.Lesson) {
	if !t.machine.hasIPv6() {
		t.Skip("this machine has no IPv6")
	}
	r := newRig(t, l)
	r.options.Addr = netip.MustParseAddrPort("[::1]:0")
	r.asks()
	r.goesOn()
	if addr := r.servers[0].Addr(); addr.Addr() != netip.IPv6Loopback() || addr.Port() == 0 {
		t.Errorf("listens on %v", addr)
	}
}
