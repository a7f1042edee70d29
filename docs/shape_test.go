//go:build linux

package docs_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	blocked  = regexp.MustCompile(`\s*\(blocked [\d.]+ m?s\)`)
	duration = regexp.MustCompile(`\d[\d.,]* ?(ns|µs|ms|s|min)\b`)
	number   = regexp.MustCompile(`(0x|ino:)[0-9a-f]+|\d[\d.,]*`)
	calls    = regexp.MustCompile(`systemcallsperrequest:[a-z_#]+#`)
	bars     = regexp.MustCompile(`[-░▒█▪·]*[░▒█▪·]|^  server +[a-z▪ ]+$`)
)

// shape returns a line without what differs from run to run: numbers, times, widths.
func shape(line string) string {
	line = blocked.ReplaceAllString(line, "")
	line = duration.ReplaceAllString(line, "TIME")
	line = number.ReplaceAllString(line, "#")
	line = bars.ReplaceAllString(line, "▒")
	return strings.Join(strings.Fields(line), "")
}

// shapes returns the shapes of the lines that are not empty.
func shapes(lines []string) []string {
	var all []string
	for _, line := range lines {
		if s := shape(line); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// inOrder returns joined shapes with the calls of a request in the order of their names. They
// are printed in that of their numbers, and on a busy machine a request takes more reads.
func inOrder(text string) string {
	return calls.ReplaceAllStringFunc(text, func(s string) string {
		list, names, _ := strings.Cut(s, ":")
		all := strings.FieldsFunc(names, func(r rune) bool { return r == '#' })
		slices.Sort(all)
		return list + ":" + strings.Join(all, "#")
	})
}

// alike reports whether the lines have the shapes of those wanted. A line "..." stands for
// any number of lines. Where lines are broken makes no difference: with longer numbers, a
// text is broken elsewhere.
func alike(got, want []string, anyOrder bool) bool {
	g, w := shapes(got), shapes(want)
	if anyOrder {
		slices.Sort(g)
		slices.Sort(w)
	}
	text := inOrder(strings.Join(g, ""))
	parts := strings.Split("\n"+inOrder(strings.Join(w, ""))+"\n", "...")
	text = "\n" + text + "\n"
	for i, part := range parts {
		at := strings.Index(text, part)
		if at < 0 || i == 0 && at > 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return text == ""
}

// contains reports whether the lines wanted are among the lines, in their order, others
// between them, and the index of the last one.
func contains(got, want []string, anyOrder bool) (last int, ok bool) {
	next := 0
	for _, line := range want {
		s := shape(line)
		if s == "" || s == "..." {
			continue
		}
		i := slices.IndexFunc(got[next:], func(line string) bool { return shape(line) == s })
		if i < 0 {
			return 0, false
		}
		last = max(last, next+i)
		if !anyOrder {
			next += i + 1
		}
	}
	return last, true
}

func TestShape(t *testing.T) {
	tests := []struct {
		a, b  string
		alike bool
	}{
		{" 0.000253  x.go:58  read(5)   = 6  (blocked 3.107 s)", "12.1 x.go:5 read(6) = 7", true},
		{"waited 1.91 s", "waited   0.4 ms", true},
		{"a  ░░░░█  1 s", "a ▪█ 20 ms", true},
		{"read(6) = 114", "read(6) = -1 EAGAIN", false},
		{"served 1, refused 0", "served 10,000, refused 1", true},
		{"ESTAB", "CLOSE-WAIT", false},
	}
	for _, test := range tests {
		if alike := shape(test.a) == shape(test.b); alike != test.alike {
			t.Errorf("%q and %q: %v", test.a, test.b, alike)
		}
	}
}

func TestAlike(t *testing.T) {
	tests := []struct {
		got, want string
		anyOrder  bool
		alike     bool
	}{
		{"a 1,,b", "a 2,b", false, true},
		{"a,b", "b,a", false, false},
		{"a,b", "b,a", true, true},
		{"a,x,y,b", "a,...,b", false, true},
		{"a,b", "...,b", false, true},
		{"a,b,c", "a,b", false, false},
		{"a", "a,b", false, false},
	}
	for _, test := range tests {
		got, want := strings.Split(test.got, ","), strings.Split(test.want, ",")
		if alike(got, want, test.anyOrder) != test.alike {
			t.Errorf("%q and %q, any order %v: want %v", got, want, test.anyOrder, test.alike)
		}
	}
	got := []string{"4.5 system calls per request: read 2.5, accept4 1,", "  close 1", "model: loop"}
	want := []string{"3 system calls per request: accept4 1, read 1, close 1", "model: loop"}
	if !alike(got, want, false) || alike(got[1:], want, false) {
		t.Error("the calls of a request: only their order may differ")
	}
	lines := []string{"a", "x", "b 1", "c"}
	if last, ok := contains(lines, []string{"a", "...", "b 2"}, false); !ok || last != 2 {
		t.Errorf("contains: %d, %v", last, ok)
	}
	if _, ok := contains(lines, []string{"b 1", "a"}, false); ok {
		t.Error("contains: in the wrong order")
	}
}
