package protocol

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// feed adds the pieces one after the other until the request is decided, as a
// server does, and says how far it came and what was collected. Each piece is
// destroyed once it has been added: a server reads the next one over it.
func feed(r *Request, pieces ...[]byte) (Status, []byte) {
	status := Incomplete
	for _, piece := range pieces {
		p := bytes.Clone(piece)
		status = r.Add(p)
		for i := range p {
			p[i] = '\n'
		}
		if status != Incomplete {
			break
		}
	}
	return status, r.Bytes()
}

// oracle is what the whole stream must come to, found in another way: by
// searching for both terminators and taking the one that ends first.
func oracle(stream []byte) (Status, []byte) {
	end := len(stream) + 1
	for _, terminator := range []string{"\n\n", "\n\r\n"} {
		if i := bytes.Index(stream, []byte(terminator)); i >= 0 {
			end = min(end, i+len(terminator))
		}
	}
	switch {
	case end <= MaxRequest && end <= len(stream):
		return Complete, stream[:end]
	case len(stream) > MaxRequest:
		return Oversize, stream[:MaxRequest]
	}
	return Incomplete, stream
}

var statusNames = [...]string{Incomplete: "Incomplete", Complete: "Complete", Oversize: "Oversize"}

// check feeds the stream, cut into pieces, and compares with the oracle.
func check(t *testing.T, stream []byte, pieces ...[]byte) {
	t.Helper()
	var r Request
	gotStatus, got := feed(&r, pieces...)
	wantStatus, want := oracle(stream)
	if gotStatus != wantStatus || !bytes.Equal(got, want) {
		t.Errorf("%s cut into %d pieces: got %s, %s; want %s, %s", excerpt(stream), len(pieces),
			statusNames[gotStatus], excerpt(got), statusNames[wantStatus], excerpt(want))
	}
}

func excerpt(p []byte) string {
	if len(p) > 60 {
		return fmt.Sprintf("%d bytes %q…%q", len(p), p[:20], p[len(p)-20:])
	}
	return strconv.Quote(string(p))
}

// Contract: B1, B6.
func TestRequest(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name   string
		stream string
		status Status
		bytes  string
	}{
		{"nothing", "", Incomplete, ""},
		{"one line", "GET / HTTP/1.0\r\n", Incomplete, "GET / HTTP/1.0\r\n"},
		{"curl", "GET / HTTP/1.1\r\nA: x\r\n\r\n", Complete, "GET / HTTP/1.1\r\nA: x\r\n\r\n"},
		{"line feeds", "GET /\n\n", Complete, "GET /\n\n"},
		{"mixed", "GET /\n\r\n", Complete, "GET /\n\r\n"},
		{"only a terminator", "\n\n", Complete, "\n\n"},
		{"only the other", "\n\r\n", Complete, "\n\r\n"},
		{"empty line first", "\r\n\r\n", Complete, "\r\n\r\n"},
		{"a body follows", "POST /\n\nname=value", Complete, "POST /\n\n"},
		{"a second request follows", "A\n\nB\n\n", Complete, "A\n\n"},
		{"a third line feed", "A\n\n\n", Complete, "A\n\n"},
		{"both in one", "A\n\r\n\n", Complete, "A\n\r\n"},
		{"line feed between", "A\n\r\r\n\n", Complete, "A\n\r\r\n\n"},
		{"carriage returns only", "A\r\r\r\r", Incomplete, "A\r\r\r\r"},
		{"two carriage returns between", "A\n\r\r\n", Incomplete, "A\n\r\r\n"},
		{"a blank between", "A\n \n", Incomplete, "A\n \n"},
		{"the wrong way round", "A\r\n\r", Incomplete, "A\r\n\r"},
		{"any byte may be in it", "\x00\xff\x1b\n\n", Complete, "\x00\xff\x1b\n\n"},

		{"8192 with the terminator", x(8190) + "\n\n", Complete, x(8190) + "\n\n"},
		{"8192 with the other", x(8189) + "\n\r\n", Complete, x(8189) + "\n\r\n"},
		{"8192 without", x(8192), Incomplete, x(8192)},
		{"8192, half a terminator", x(8191) + "\n", Incomplete, x(8191) + "\n"},
		{"8193 without", x(8193), Oversize, x(8192)},
		{"8193 with the terminator", x(8191) + "\n\n", Oversize, x(8191) + "\n"},
		{"8193 with the other", x(8190) + "\n\r\n", Oversize, x(8190) + "\n\r"},
		{"far too much", x(1 << 20), Oversize, x(8192)},
		{"a small one, then far too much", "A\n\n" + x(1<<20), Complete, "A\n\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var r Request
			status, got := feed(&r, []byte(test.stream))
			if status != test.status || string(got) != test.bytes {
				t.Errorf("got %s, %s; want %s, %s", statusNames[status], excerpt(got),
					statusNames[test.status], excerpt([]byte(test.bytes)))
			}
			// The oracle, which the other tests trust, must agree.
			status, got = oracle([]byte(test.stream))
			if status != test.status || string(got) != test.bytes {
				t.Errorf("the oracle says %s, %s", statusNames[status], excerpt(got))
			}
			if cap(r.bytes) > 2*MaxRequest {
				t.Errorf("it holds %d bytes of memory", cap(r.bytes))
			}
		})
	}
}

// A stream may be cut into segments between any two bytes, so also inside its
// terminator; and into single bytes. Of a long one, only the end is interesting.
// Contract: B1.
func TestRequestCutAnywhere(t *testing.T) {
	streams := []string{
		"GET / HTTP/1.0\r\nHost: x\r\n\r\nbody",
		"GET /\n\nbody",
		"GET /\n\r\nbody",
		"\r\n\r\n",
		"A\n\r\r\n\n",
		"no end\r\n",
		strings.Repeat("x", MaxRequest-2) + "\n\n",
		strings.Repeat("x", MaxRequest-1) + "\n\n",
		strings.Repeat("x", MaxRequest+1),
	}
	for _, text := range streams {
		stream := []byte(text)
		for i := max(0, len(stream)-50); i <= len(stream); i++ {
			check(t, stream, stream[:i], stream[i:])
		}
		check(t, stream, bytes.Split(stream, nil)...)
	}
}

func TestRequestCutInThree(t *testing.T) {
	stream := []byte("ab\r\n\r\ncd")
	for i := 0; i <= len(stream); i++ {
		for j := i; j <= len(stream); j++ {
			check(t, stream, stream[:i], stream[i:j], stream[j:])
		}
	}
}

// However a stream is cut, the result is the same. The streams are made mostly
// of what terminators are made of; every eighth one ends near MaxRequest. Contract: B1.
func TestRequestCutAtRandom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 4000 {
		var stream []byte
		if i%8 == 0 {
			stream = bytes.Repeat([]byte("x"), MaxRequest-random.IntN(20))
		}
		for range random.IntN(40) {
			stream = append(stream, "\n\n\r\rabc"[random.IntN(7)])
		}
		longest := 1 + random.IntN(len(stream)+1)
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(random.IntN(longest+1), len(rest)) // 0 is a piece too
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		check(t, stream, pieces...)
	}
}

// No byte is looked at twice, so the cost is linear: whatever has been collected
// is replaced by a line feed at once. Add would find a terminator if it went
// back. Contract: B1.
func TestRequestCostIsLinear(t *testing.T) {
	var r Request
	grown, room := 0, 0
	for i := range MaxRequest {
		if status := r.Add([]byte("x")); status != Incomplete {
			t.Fatalf("byte %d: %s; Add has looked back", i+1, statusNames[status])
		}
		r.bytes[i] = '\n'
		if cap(r.bytes) != room {
			grown, room = grown+1, cap(r.bytes)
		}
	}
	if len(r.Bytes()) != MaxRequest {
		t.Errorf("collected %d bytes, want %d", len(r.Bytes()), MaxRequest)
	}
	// What has been collected is copied when the memory grows: rarely.
	if grown > 30 {
		t.Errorf("the memory has grown %d times in %d bytes", grown, MaxRequest)
	}
	if status := r.Add([]byte("\n")); status != Oversize {
		t.Errorf("byte %d: %s, want Oversize", MaxRequest+1, statusNames[status])
	}
}

func TestRequestReset(t *testing.T) {
	var r Request
	for _, first := range []string{"A\n\n", "A\n", "A\n\r", strings.Repeat("x", 9000)} {
		feed(&r, []byte(first))
		r.Reset()
		if len(r.Bytes()) != 0 {
			t.Fatalf("after %s: %q is left", excerpt([]byte(first)), r.Bytes())
		}
		// Half a terminator must not be left either.
		if status, got := feed(&r, []byte("\nB")); status != Incomplete || string(got) != "\nB" {
			t.Errorf("after %s: %s, %q", excerpt([]byte(first)), statusNames[status], got)
		}
		r.Reset()
	}
}

func TestRequestAllocates(t *testing.T) {
	var r Request
	p := []byte("GET / HTTP/1.0\r\n\r\n")
	r.Add(p)
	allocs := testing.AllocsPerRun(100, func() {
		r.Reset()
		r.Add(p)
	})
	if allocs != 0 {
		t.Errorf("%v allocations for a request in memory that was used before", allocs)
	}
}

// Contract: B2.
func TestResponses(t *testing.T) {
	tests := []struct {
		name string
		got  []byte
		want string
	}{
		{"Response", Response, "HTTP/1.0 200 OK\r\nDate: Mon, 1 Jan 1996 01:01:01 GMT\r\n" +
			"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world!"},
		{"TooLarge", TooLarge, "HTTP/1.0 431 Request Header Fields Too Large\r\n" +
			"Content-Type: text/plain\r\nContent-Length: 23\r\n\r\nThe request is too big."},
	}
	for _, test := range tests {
		if string(test.got) != test.want {
			t.Errorf("%s is %q, want %q", test.name, test.got, test.want)
		}
		head, body, _ := strings.Cut(string(test.got), "\r\n\r\n")
		length := fmt.Sprintf("\r\nContent-Length: %d", len(body))
		if !strings.Contains(head+"\r\n", length+"\r\n") {
			t.Errorf("%s: the body has %d bytes, the head is %q", test.name, len(body), head)
		}
	}
}

// Contract: B13.
func TestAppendPrintable(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"text", "Hello, world! ~", "Hello, world! ~"},
		{"line feed", "a\nb", "a\nb"},
		{"carriage return and line feed", "a\r\nb\r\n", "a\nb\n"},
		{"bare carriage return", "a\rb", `a\x0db`},
		{"carriage return at the end", "a\r", `a\x0d`},
		{"two carriage returns", "\r\r\n", "\\x0d\n"},
		{"escape", "\x1b[31m", `\x1b[31m`},
		{"control sequence in one byte", "\x9b31m", `\x9b31m`},
		{"zero", "\x00", `\x00`},
		{"bell, backspace, delete", "\a\b\x7f", `\x07\x08\x7f`},
		{"tab", "a\tb", `a\x09b`},
		{"not UTF-8", "\xff\xfe", `\xff\xfe`},
		{"UTF-8", "é", `\xc3\xa9`},
		{"backslash", `a\b`, `a\\b`},
		{"what looks like an escape", `\x1b`, `\\x1b`},
	}
	for _, test := range tests {
		if got := string(AppendPrintable(nil, []byte(test.in))); got != test.want {
			t.Errorf("%s: %q became %q, want %q", test.name, test.in, got, test.want)
		}
		if got := string(AppendPrintable([]byte("> "), []byte(test.in))); got != "> "+test.want {
			t.Errorf("%s: appended to something: %q", test.name, got)
		}
	}
}

// Whatever goes in, nothing comes out but printable ASCII and line feeds, and
// it can be taken back: only "\r\n" and "\n" look the same.
func TestAppendPrintableProperty(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		in := make([]byte, random.IntN(50))
		for i := range in {
			in[i] = byte(random.IntN(256))
			if random.IntN(3) == 0 {
				in[i] = "\r\n\\x1"[random.IntN(5)]
			}
		}
		out := AppendPrintable(nil, in)
		for _, b := range out {
			if b != '\n' && (b < ' ' || b > '~') {
				t.Fatalf("%q became %q: it has byte %#x", in, out, b)
			}
		}
		back, err := strconv.Unquote(`"` + quotable.Replace(string(out)) + `"`)
		want := strings.ReplaceAll(string(in), "\r\n", "\n")
		if err != nil || back != want {
			t.Fatalf("%q became %q, which means %q (%v)", in, out, back, err)
		}
	}
}

var quotable = strings.NewReplacer("\n", `\n`, `"`, `\"`)

func TestPool(t *testing.T) {
	var p Pool
	given := make(map[*Request]bool)
	for range 3 * maxSpare {
		r := p.Get()
		if given[r] {
			t.Fatal("got the same request twice")
		}
		given[r] = true
		feed(r, []byte("unfinished\n"))
	}
	for r := range given {
		p.Put(r)
	}
	if len(p.spare) != maxSpare {
		t.Errorf("after a burst the pool keeps %d, want %d", len(p.spare), maxSpare)
	}
	again := make(map[*Request]bool)
	for range maxSpare {
		r := p.Get()
		if !given[r] || again[r] {
			t.Fatal("what was put back is not returned again, once each")
		}
		again[r] = true
		if status, got := feed(r, []byte("\n")); status != Incomplete || string(got) != "\n" {
			t.Fatalf("got a request with something in it: %s, %q", statusNames[status], got)
		}
	}
	if r := p.Get(); given[r] || len(r.Bytes()) != 0 {
		t.Error("an empty pool must make a new request")
	}
}

func TestPoolAllocates(t *testing.T) {
	var p Pool
	p.Put(new(Request))
	if allocs := testing.AllocsPerRun(100, func() { p.Put(p.Get()) }); allocs != 0 {
		t.Errorf("%v allocations for lending and taking back", allocs)
	}
}

// FuzzRequest cuts a stream in places that the fuzzer chooses. The stream is
// padding, so that short inputs reach MaxRequest, and a tail. Of cuts, each
// byte is the length of a piece: itself below 128, from there on in steps of
// 128. The last length is used for all the rest.
func FuzzRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, padding uint16, tail, cuts []byte) {
		stream := append(bytes.Repeat([]byte("x"), int(padding)), tail...)
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := len(rest)
			if len(cuts) > 0 {
				n = min(pieceLength(cuts[0]), len(rest))
				if len(cuts) > 1 {
					cuts = cuts[1:]
				} else if n == 0 {
					n = len(rest) // empty pieces forever
				}
			}
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		check(t, stream, pieces...)
	})
}

func pieceLength(b byte) int {
	if b < 128 {
		return int(b)
	}
	return int(b-127) * 128
}
