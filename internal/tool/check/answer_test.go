//go:build linux

package check

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lesson/internal/protocol"
)

const aDate = "HTTP/1.1 200 OK\r\nDate: Fri, 27 Nov 2026 20:53:21 GMT\r\nContent-Length: 13\r\n\r\nHello, world!"

func TestWhichAnswersAreTheSame(t *testing.T) {
	const (
		later    = "HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 00:00:01 GMT\r\nContent-Length: 13\r\n\r\nHello, world!"
		count9   = "HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\nvisitor9"
		count10  = "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nvisitor10"
		tag1     = "HTTP/1.0 200 OK\r\nX-Tag: abc\r\n\r\nHello"
		tag2     = "HTTP/1.0 200 OK\r\nX-Tag: defg\r\n\r\nHello"
		random1  = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"
		random2  = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\ndefgh"
		half     = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\ndef"
		noLength = "HTTP/1.0 200 OK\r\n\r\n"
	)
	response := string(protocol.Response)
	for _, c := range []struct {
		what          string
		first, second string // the answers that were learnt from; "" for one only
		got           string
		same          bool
	}{
		{"equal", aDate, "", aDate, true},
		{"a clock that ticks", aDate, "", later, true},
		{"a counter", count9, "", count10, true},
		{"a header known to vary after two answers", tag1, tag2, "HTTP/1.0 200 OK\r\nX-Tag: h\r\n\r\nHello", true},
		{"a header not known to vary", tag1, "", tag2, false},
		{"a body known to vary after two answers", random1, random2, random1, true},
		{"a body known to vary, cut short", random1, random2, half, false},
		{"a body known to vary, without a length", noLength + "a", noLength + "b", noLength, false},
		{"a body not known to vary", random1, "", random2, false},
		{"another status", aDate, "", "HTTP/1.1 500 OK" + aDate[len("HTTP/1.1 200 OK"):], false},
		{"a header twice", aDate, "", aDate[:30] + aDate[17:], false},
		{"a header less", aDate, "", "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!", false},
		{"cut short", aDate, "", aDate[:len(aDate)-1], false},
		{"twice", aDate, "", aDate + aDate, false},
		{"an answer that is no HTTP", "hello 1", "", "hello 2", false},
		{"the lessons' answer on another day", response, "", response[:22] + "Tue" + response[25:], false},
	} {
		a := answer{bytes: []byte(c.first)}
		if c.second != "" {
			a.learn([]byte(c.second))
		}
		if got := a.equal([]byte(c.got)); got != c.same {
			t.Errorf("%s: %q and %q are the same: %t, want %t", c.what, c.first, c.got, got, c.same)
		}
	}
}

// Each beginning of an answer is one, wherever it is cut, also when the clock has ticked.
func TestTheBeginningOfAnAnswer(t *testing.T) {
	a := answer{bytes: []byte(aDate)}
	later := []byte("HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 00:00:01 GMT\r\nContent-Length: 13\r\n\r\nHello, world!")
	for n := range later {
		if !a.begins(later[:n]) {
			t.Errorf("%q does not begin %q", later[:n], a.bytes)
		}
	}
	if a.begins([]byte("HTTP/1.1 404")) {
		t.Error("another status begins the answer")
	}
	if more := a.more(append(later, "more"...)); string(more) != "more" {
		t.Errorf("%q follows the answer", more)
	}
}

func TestWhatIsARefusal(t *testing.T) {
	for status, want := range map[string]bool{
		"400 Bad Request": true, "431": true, "405 Method Not Allowed": true, "501 Not Implemented": true,
		"200 OK": false, "302 Found": false, "500 Internal Server Error": false, "": false, "x": false,
	} {
		if got := isRefusal(fmt.Appendf(nil, "HTTP/1.1 %s\r\n\r\n", status)); got != want {
			t.Errorf("%q is a refusal: %t, want %t", status, got, want)
		}
	}
	if isRefusal([]byte("SSH-2.0 400\r\n")) {
		t.Error("another protocol's status is a refusal")
	}
}

// HTTP lets a server wait for CR LF. The lessons' protocol does not, nor may a server wait when
// CR LF has come.
func TestWhoMayWaitForCRLF(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]Verdict{
		"CR LF only": Fails, crlfInOwnWords: NotJudged, deafInOwnWords: Fails, "own words": Holds,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			report, err := Run(t.Context(), Target{Command: command(serveWrong, fault)},
				Options{Model: EventLoop, Only: []string{"requests/bare-newlines"}, Patience: 2 * time.Second})
			must(t, err)
			r := report.Results[0]
			if r.Verdict != want || want == NotJudged && !strings.Contains(r.Reason, "as HTTP allows") {
				t.Errorf("%s %s, got %s, want %s", r.Verdict, r.Reason, r.Got, want)
			}
		})
	}
}

// A server that answers an empty line alone leaves nothing to the next client. The lessons'
// protocol forbids it, and so the cause is named.
func TestWhoMayAnswerAnEmptyLine(t *testing.T) {
	t.Parallel()
	for fault, want := range map[string]Verdict{
		"answers an empty line": Fails, lineInOwnWords: Holds, "own words": Holds,
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			report, err := Run(t.Context(), Target{Command: command(serveWrong, fault)},
				Options{Model: EventLoop, Only: []string{"requests/no-leftovers"}})
			must(t, err)
			r := report.Results[0]
			if r.Verdict != want || want == Fails && !strings.Contains(r.Cause, "answers an empty line alone") {
				t.Errorf("%s because %q, got %s, want %s", r.Verdict, r.Cause, r.Got, want)
			}
		})
	}
}
