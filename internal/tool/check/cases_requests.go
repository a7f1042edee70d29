//go:build linux

package check

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/sockets"
	"lesson/internal/play"
	"lesson/internal/protocol"
)

var requests = []Case{
	{
		Address: "requests/whole", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{"answers nothing", "keeps its end back"},
		NoExercise: "A server that fails this case serves no client.",
		Must:       "A whole request in one segment is answered, and then the server closes.",
		Why: "This is what a server is for. An HTTP/1.0 client recognizes the end of an answer" +
			" by end of file.",
		Cause:  "The server does not find the end of the request, does not write, or does not close.",
		script: []step{connect("a"), send("a", whole), answeredSomehow("a"), next()},
	},
	{
		Address: "requests/answer", Severity: Should, Models: everyone,
		Chapter: oneClient, Contract: "B2", FailedBy: []string{"own words"},
		NoExercise: "The answer is misspelt: there is nothing to find.",
		Must:       "The answer is the lessons' own, to the byte.",
		Why:        "One answer for all makes servers comparable: what differs is how they wait.",
		Cause:      "A header, a line end (CR LF) or the body differs; Content-Length counts the body only.",
		script:     []step{connect("a"), send("a", whole), ourAnswer("a")},
	},
	{
		Address: "requests/bare-newlines", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{"CR LF only"},
		NoExercise: "One form of the terminator was forgotten, and the report shows which.",
		Must:       `Two line feeds ("\n\n") end a request.`,
		Why:        "Lines typed into nc end in a bare line feed; such a client would otherwise wait forever.",
		Cause:      `The server looks only for "\r\n\r\n".`,
		script:     []step{connect("a"), send("a", "GET / HTTP/1.0\n\n"), answeredAtLineFeeds("a"), next()},
	},
	{
		Address: "requests/mixed-newlines", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{"CR LF only"},
		NoExercise: "One form of the terminator was forgotten, and the report shows which.",
		Must:       `"\n\r\n" ends a request, with or without a "\r" before it.`,
		Why:        "Lines end in LF or in CR LF, and one request may mix the two.",
		Cause:      `The server looks only for "\r\n\r\n".`,
		script:     []step{connect("a"), send("a", "GET / HTTP/1.0\n\r\n"), answeredAtLineFeeds("a"), next()},
	},
	{
		Address: "requests/split-terminator", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{"01-last-chunk"},
		Must:  "The terminator is found however the segments cut it.",
		Why:   "TCP is a stream of bytes: where one write ended is not where one read ends.",
		Cause: onlyLastRead,
		script: []step{
			connect("a"), send("a", "GET / HTTP/1.0\r\n"), taken("a"),
			send("a", "\r"), taken("a"), send("a", "\n"), answered("a"), next(),
		},
	},
	{
		Address: "requests/split-newlines", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{"CR LF only"},
		Must:  "Two line feeds are found when a segment ends between them.",
		Why:   "The second line feed may come alone, seconds after the first.",
		Cause: `The server searches only the bytes of the last read, or looks only for "\r\n\r\n".`,
		script: []step{
			connect("a"), send("a", "GET / HTTP/1.0\n"), taken("a"), maySend("a", "\n"),
			answeredAtLineFeeds("a"), next(),
		},
	},
	{
		Address: "requests/byte-by-byte", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{"01-last-chunk"},
		Must:   "A request that comes one byte at a time is answered.",
		Why:    "A short read is not the end of anything.",
		Cause:  onlyLastRead,
		script: []step{connect("a"), sendEach("a", short), answered("a"), next()},
	},
	{
		Address: "requests/not-before-its-end", Severity: Must, Models: everyone,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{"first read"},
		Must: "Nothing is answered before the terminator has come.",
		Why: "A server that answers after the first read has seen only half the request, and leaves" +
			" the other half unread.",
		Cause: firstRead,
		script: []step{
			connect("a"), send("a", half), taken("a"), unanswered("a"),
			send("a", rest), answered("a"), next(),
		},
	},
	{
		Address: "requests/large", Severity: Must, Models: everyone,
		when:    behindEdge,
		Chapter: edgeTriggered, Contract: "B6", FailedBy: []string{"06-one-read-per-edge", "22-own-buffer"},
		Must: "A request of 7,000 bytes is read and answered.",
		Why:  "It is longer than a typical buffer, so the server must read more than once.",
		Cause: "The server reads once for each event. Edge-triggered epoll does not repeat the event" +
			" for what is left in the receive buffer: read until EAGAIN.",
		script: []step{connect("a"), send("a", largeRequest(7000)), answeredOrRefused("a"), next()},
	},
	{
		Address: "requests/large-in-two", Severity: Must, Models: everyone,
		when:    behindEdge,
		Chapter: edgeTriggered, Contract: "B6", FailedBy: []string{"06-one-read-per-edge", "23-not-armed"},
		Must:  "A request that comes in two large pieces is read and answered.",
		Why:   "All of the first piece must be read, however many reads that takes, and then the second.",
		Cause: "The server forgets what a read has left in the receive buffer.",
		script: []step{
			connect("a"), send("a", largeRequest(7000)[:6<<10]), taken("a"),
			maySend("a", largeRequest(7000)[6<<10:]), answeredOrRefused("a"), next(),
		},
	},
	{
		Address: "requests/buffer-sizes", Severity: Must, Models: everyone,
		when:    readInVain,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{
			"06-one-read-per-edge", "22-own-buffer", "reads on while its buffer is full",
		},
		Must: "A request that fills a buffer to its last byte is answered.",
		Why: "A read that fills its buffer does not mean that more will come. The buffers of programs" +
			" are often of such a size.",
		Cause: "The server reads on while a read fills its buffer, and the next read blocks. After each" +
			" read, look for the terminator first.",
		script: wholeBuffers(512, 1<<10, 2<<10, 4<<10, 8<<10),
	},
	{
		Address: "requests/no-leftovers", Severity: Must, Models: goingOn,
		Chapter: levelTriggered, Contract: "B1",
		FailedBy: []string{"begins where the last one ended"},
		Must:     "No part of one client's request is left for the next client.",
		Why: "The next connection gets the same descriptor, and with it whatever is kept under" +
			" that number.",
		Cause: "The buffer of a connection is not emptied when the connection ends, or when its" +
			" descriptor's number is used again.",
		script: []step{
			connect("first"), send("first", emptyLine), taken("first"),
			preparing(own("whether an empty line alone is answered is remembered", answersEmptyLine)),
			closes("first"), closedToo("first"),
			connect("a"), send("a", "GE"), taken("a"), closes("a"), closedToo("a"),
			connect("b"), send("b", whole), answered("b"),
			connect("c"), send("c", "GET / HTTP/1.0\r\n"), taken("c"), closes("c"), closedToo("c"),
			connect("d"), send("d", emptyLine), taken("d"), nothingLeft("d"),
			closes("d"), next(),
		},
	},
	{
		Address: "requests/any-bytes", Severity: Must, Models: everyone,
		ends:    true,
		Chapter: oneClient, Contract: "B1", FailedBy: []string{"text only"},
		NoExercise: "The bug needs a language whose strings end at NUL or must be UTF-8. The exercises" +
			" are in Go.",
		Must: "A request with bytes that are not text is answered like any other.",
		Why:  "A client sends bytes; decoding them as text fails on the first byte that is not text.",
		Cause: "The request is decoded (as UTF-8, say) to be printed, and the error ends the server;" +
			" or the search for the terminator uses a function that stops at NUL (strstr).",
		script: []step{
			connect("a"), send("a", "GET /\x00\x01\xff\xfe\xc3\x28 HTTP/1.0\r\n\r\n"),
			answeredOrRefused("a"), next(),
		},
	},
	{
		Address: "requests/printed-safely", Severity: Should, Models: everyone,
		Chapter: oneClient, Contract: "B13", FailedBy: []string{"prints as it comes"},
		NoExercise: "It is about printing, not about waiting.",
		needs:      toStart,
		Must:       "What a client sends does not reach the terminal unescaped.",
		Why: "Escape sequences move the cursor, change the title, and on some terminals enter text: a" +
			" client must not control the terminal on which the server runs.",
		Cause: printsRaw,
		script: []step{
			connect("a"), send("a", "GET /\x1b[31mred\x1b]0;title\x07 HTTP/1.0\r\n\r\n"),
			preparing(answeredOrRefused("a")),
			preparing(own("the server is ended (SIGTERM), so that it has written all", endsToWrite)),
			own("no escape character must be in its output", noEscapes),
		},
	},
}

// wholeBuffers is clients whose requests have these sizes: one where the server serves no more.
func wholeBuffers(sizes ...int) []step {
	last := fmt.Sprint(sizes[len(sizes)-1])
	return []step{own("clients send requests of exactly 512, 1024, 2048, 4096 and "+last+" bytes, one after"+
		" the other; each must be answered, or refused (4xx)", func(t *trial) error {
		if t.model == Blocking {
			sizes = sizes[1:2]
		}
		for _, size := range sizes {
			name := fmt.Sprintf("one of %d bytes", size)
			for _, s := range []step{connect(name), send(name, largeRequest(size))} {
				if err := s.do(t); err != nil {
					return err
				}
			}
			got, end := t.read(name)
			if end == nil && (t.answer.equal(got) || isRefusal(got)) {
				_ = t.clients[name].Close()
				continue
			}
			f := t.hears(t.clients[name], got, end, fmt.Sprintf("%v, then end of file", t.answer))
			f.got = fmt.Sprintf("%s: %s", name, f.got)
			return f
		}
		return nil
	}), next()}
}

// answersEmptyLine finds out whether the server answers an empty line that nothing precedes.
func answersEmptyLine(t *trial) error {
	got, _ := t.clients["first"].ReadAll(silence) // it may also be refused, or get nothing
	t.answersLine = len(got) > 0 && !isRefusal(got)
	return nil
}

// nothingLeft demands that an empty line is not answered, as the end of what another client
// has left. If the server answers an empty line alone, that cannot be seen.
func nothingLeft(name string) step {
	demand := unansweredOrRefused(name)
	return step{text: demand.text, do: func(t *trial) error {
		err := demand.do(t)
		var f *failure
		if !t.answersLine || !errors.As(err, &f) {
			return err
		}
		if !t.answer.lessons() {
			t.note("the server answers an empty line alone, so what is left cannot be seen")
			return nil
		}
		f.cause = cmp.Or(f.cause, lineAlone)
		return f
	}}
}

const lineAlone = "The server answers an empty line alone, as if it were a request. A request has a line" +
	" before the empty one: it is complete at \\n\\n or \\n\\r\\n."

// largeRequest is a request of that many bytes, in headers of 128 bytes each. The rest is a
// query, because a server of files answers 404 for another path.
func largeRequest(size int) string {
	const before, after, end = "GET /?", " HTTP/1.0\r\n", "\r\n"
	header := "X: " + strings.Repeat("x", 123) + "\r\n"
	rest := size - len(before+after+end)
	return before + strings.Repeat("y", rest%len(header)) + after +
		strings.Repeat(header, rest/len(header)) + end
}

// answeredSomehow demands an answer that any client would take for one.
func answeredSomehow(name string) step {
	text := name + ` must be answered "HTTP/1.… 200 …", and then read end of file`
	const want = "a status line with 200, and end of file at the end"
	return step{text: text, do: func(t *trial) error {
		c := t.clients[name]
		var all []byte
		var slept time.Time // since when the server has slept, with the answer sent
		got, end := t.reading(t.patience, func(_ int, within time.Duration) ([]byte, error) {
			more, err := c.ReadAll(within)
			all = append(all, more...)
			switch {
			case !errors.Is(err, play.ErrTimeout) || !t.answer.equal(all) || !t.sleepsBeforeEnd(c):
				slept = time.Time{}
			case slept.IsZero():
				slept = time.Now()
			case time.Since(slept) > lateEnd:
				err = errEndsLate
			}
			return more, err
		})
		switch {
		case end == errEndsLate:
			f := fails(fmt.Sprintf("the answer, and no end of file: the server slept for %v", lateEnd), want)
			f.cause = keepsItsEndBack
			return f
		case status(got) == 200 && end == nil:
			return nil
		}
		return t.hears(c, got, end, want)
	}}
}

// lateEnd is how long a server sleeps that has answered and waits for something else than
// a processor before it ends the answer.
const lateEnd = 300 * time.Millisecond

var errEndsLate = errors.New("the server sleeps before it ends its answer")

const keepsItsEndBack = "The server ends its side only when the client does, or after a time limit." +
	" Call shutdown(SHUT_WR) as soon as the answer is sent; linger after that."

// sleepsBeforeEnd reports whether the server sleeps, and has not ended its side.
func (t *trial) sleepsBeforeEnd(c *play.Conn) bool {
	theirs, err := t.theirs(c)
	if err != nil || theirs.State != sockets.Established || !t.server.visible() {
		return false
	}
	asleep, err := t.server.asleep()
	return err == nil && asleep
}

// ourAnswer demands the bytes that all lessons answer.
func ourAnswer(name string) step {
	text := fmt.Sprintf("%s must read %q", name, protocol.Response)
	return step{text: text, do: func(t *trial) error {
		got, end := t.read(name)
		if bytes.Equal(got, protocol.Response) {
			return nil
		}
		same := 0
		for same < min(len(got), len(protocol.Response)) && got[same] == protocol.Response[same] {
			same++
		}
		words := t.words(got, end)
		if same > 0 {
			words = fmt.Sprintf("%d bytes that differ from byte %d on: %s", len(got), same+1,
				quote(got[same:]))
		}
		return fails(words, fmt.Sprintf("from there on %s", quote(protocol.Response[same:])))
	}}
}

// sendEach sends byte by byte, each when the last has been read.
func sendEach(name, text string) step {
	what := fmt.Sprintf("%s sends %s, a byte at a time; the server must read each", name, shown(text))
	return step{text: what, do: func(t *trial) error {
		for i := range len(text) {
			if err := t.sends(name, text[i:i+1]); err != nil {
				return err
			}
			if err := taken(name).do(t); err != nil {
				return err
			}
		}
		return nil
	}}
}

// endsToWrite makes the server write what it has kept, as C's stdio does when the
// output is no terminal. One that does not end, or does not write, is not to
// blame here.
func endsToWrite(t *trial) error {
	t.mayEnd = true
	if err := t.server.Signal(unix.SIGTERM); err != nil {
		return err
	}
	_, err := until(t.ctx, writesWithin, func() (bool, error) { return t.server.Ended(), nil })
	return err
}

const writesWithin = 2 * time.Second

const printsRaw = "Requests are printed as they arrive. Escape what is not printable."

func noEscapes(t *trial) error {
	output := t.server.Proc.Output()
	if i := bytes.IndexByte(output, 0x1b); i >= 0 {
		return &failure{
			got:   "in its output: " + quote(output[i:]),
			want:  `something like "\x1b" in its place, or nothing`,
			cause: printsRaw, // and not that SIGTERM has ended it
		}
	}
	return nil
}
