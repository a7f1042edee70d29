//go:build linux

package check

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lesson/internal/protocol"
)

// An answer is what a server sends for a complete request. Another answer counts as the
// same one if the status line, the names of the headers and the body are equal, but for
// what may vary: the values of some headers, and digits anywhere below the status line,
// which may be a clock or a counter.
type answer struct {
	bytes  []byte
	varies []string // further headers whose values vary, in lower case
	body   bool     // the body varies
}

// The headers whose values vary from answer to answer in many servers, in lower case. A date
// keeps its length.
var (
	varying = []string{
		"age", "etag", "request-id", "server-timing", "set-cookie", "traceparent",
		"x-correlation-id", "x-request-id", "x-response-time", "x-runtime",
	}
	dates = []string{"date", "expires", "last-modified"}
)

// learn compares the answer with a second one, and remembers what differs.
func (a *answer) learn(second []byte) {
	if a.equal(second) {
		return
	}
	head1, body1 := splitAnswer(a.bytes)
	head2, body2 := splitAnswer(second)
	lines1, lines2 := strings.SplitAfter(head1, "\n"), strings.SplitAfter(head2, "\n")
	if len(lines1) != len(lines2) || lines1[0] != lines2[0] {
		return // not the same answer at all
	}
	for i, line := range lines1 {
		name, _, isHeader := strings.Cut(line, ":")
		if isHeader && withoutDigits(line) != withoutDigits(lines2[i]) {
			a.varies = append(a.varies, strings.ToLower(name))
		}
	}
	a.body = withoutDigits(body1) != withoutDigits(body2)
}

// equal reports whether got is the answer, but for what may vary. Nothing varies in the
// answer of the lessons.
func (a *answer) equal(got []byte) bool {
	if bytes.Equal(got, a.bytes) || a.lessons() {
		return bytes.Equal(got, a.bytes)
	}
	return a.form(got) == a.form(a.bytes) && a.whole(got)
}

// whole reports whether nothing is missing of a body that varies, as far as
// Content-Length says.
func (a *answer) whole(got []byte) bool {
	if !a.body {
		return true
	}
	head, body := splitAnswer(got)
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(line, ":")
		if length, err := strconv.Atoi(strings.TrimSpace(value)); err == nil &&
			strings.EqualFold(name, "Content-Length") {
			return len(body) == length
		}
	}
	return len(body) > 0
}

// begins reports whether got is the beginning of the answer.
func (a *answer) begins(got []byte) bool {
	return bytes.HasPrefix(a.bytes, got) ||
		!a.lessons() && strings.HasPrefix(a.form(a.bytes), a.form(got))
}

// more returns the bytes that follow the answer in got, nil if there are none.
func (a *answer) more(got []byte) []byte {
	if n := len(a.bytes); len(got) > n && a.equal(got[:n]) {
		return got[n:]
	}
	return nil
}

// form returns an answer, or the beginning of one, without what may vary.
func (a *answer) form(got []byte) string {
	head, body := splitAnswer(got)
	var form strings.Builder
	for i, line := range slices.Collect(strings.Lines(head)) {
		name, _, isHeader := strings.Cut(line, ":")
		lower := strings.ToLower(name)
		switch {
		case i == 0:
			form.WriteString(line)
		case isHeader && slices.Contains(dates, lower):
			form.WriteString(name + ":" + shape(line[len(name)+1:]))
		case isHeader && (slices.Contains(varying, lower) || slices.Contains(a.varies, lower)):
			end := line[len(strings.TrimRight(line, "\r\n")):]
			form.WriteString(name + ":" + end)
		default:
			form.WriteString(withoutDigits(line))
		}
	}
	if !a.body {
		form.WriteString(withoutDigits(body))
	}
	return form.String()
}

// splitAnswer splits an answer after its header section.
func splitAnswer(p []byte) (head, body string) {
	if i := bytes.Index(p, []byte("\r\n\r\n")); i >= 0 {
		return string(p[:i+4]), string(p[i+4:])
	}
	return string(p), ""
}

// shape replaces each letter by an a and each digit by a 0.
func shape(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case '0' <= r && r <= '9':
			return '0'
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
			return 'a'
		}
		return r
	}, text)
}

// withoutDigits replaces each run of digits by one 0.
func withoutDigits(text string) string {
	var out strings.Builder
	digit := false
	for i := range len(text) {
		c := text[i]
		was := digit
		digit = '0' <= c && c <= '9'
		switch {
		case !digit:
			out.WriteByte(c)
		case !was:
			out.WriteByte('0')
		}
	}
	return out.String()
}

// lessons reports whether it is the answer of the lessons, whose syntax is then
// demanded. Another server may refuse what is not valid HTTP.
func (a *answer) lessons() bool { return bytes.Equal(a.bytes, protocol.Response) }

// String names the answer, with its length.
func (a *answer) String() string { return fmt.Sprintf("the answer (%d bytes)", len(a.bytes)) }

// status returns the status code of an answer, 0 if it has none.
func status(got []byte) int {
	fields := bytes.Fields(firstLine(got))
	if len(fields) < 2 || !bytes.HasPrefix(fields[0], []byte("HTTP/1.")) {
		return 0
	}
	code, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0
	}
	return code
}

// isRefusal reports whether an answer refuses the request in a well-formed way: 4xx, or
// a method or a version that the server does not have.
func isRefusal(got []byte) bool {
	code := status(got)
	return code >= 400 && code < 500 || code == 501 || code == 505
}
