package report

import (
	"testing"

	"lesson/internal/protocol"
)

// The rule for whatever comes from outside: no character of it reaches a terminal that
// is not printable.
func TestPrintable(t *testing.T) {
	for _, test := range []struct{ what, text, want string }{
		{"nothing", "", ""},
		{"a path", "/home/a/server.go", "/home/a/server.go"},
		{"letters of other scripts, a space", "größe 大 é", "größe 大 é"},
		{"what Go escapes in quotes", `say "a\n" 'b' \`, `say "a\n" 'b' \`},
		{"an escape sequence", "\x1b[2J\x1b]0;title\a", `\x1b[2J\x1b]0;title\a`},
		{"line ends and tabs", "a\r\n\tb", `a\r\n\tb`},
		{"other controls", "\x00\x7f\b", `\x00\x7f\b`},
		{"the controls of ISO 6429 as UTF-8", "\u0085\u009b2J", `\u0085\u009b2J`},
		{"bytes that are not UTF-8", "a\xff\x9bé", `a\xff\x9bé`},
		{"the replacement character itself", "\ufffd", "\ufffd"},
		{"characters that reverse the text", "a\u202eb\u2066c", `a\u202eb\u2066c`},
		{"other line ends and spaces", "a\u2028b\u00a0c", `a\u2028b\u00a0c`},
		{"nothing visible", "\u200b\ufeff", `\u200b\ufeff`},
	} {
		got := Printable(test.text)
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.what, got, test.want)
		}
		if again := Printable(got); again != got {
			t.Errorf("%s: printable text changes, from %q to %q", test.what, got, again)
		}
	}
	if got, want := PrintableLines("\x1b[1m\n\tb\n"), "\\x1b[1m\n\\tb\n"; got != want {
		t.Errorf("lines: %q, want %q", got, want)
	}
}

// The lessons print requests by the same rule: protocol.AppendPrintable, which does not
// allocate, and knows ASCII only.
func TestPrintableAgreesWithTheLessons(t *testing.T) {
	for b := range 128 {
		ours := Printable(string(rune(b)))
		theirs := string(protocol.AppendPrintable(nil, []byte{byte(b)}))
		switch b {
		case '\n', '\\': // part of a request's layout there; doubled there
			continue
		}
		if (len(ours) == 1) != (len(theirs) == 1) {
			t.Errorf("byte %#x is %q here and %q in a request", b, ours, theirs)
		}
	}
}
