package report

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 10, nil},
		{"one", 10, []string{"one"}},
		{"one two three", 7, []string{"one two", "three"}},
		{"one  two\tthree", 8, []string{"one two", "three"}},
		{"a word-that-is-too-long b", 5, []string{"a", "word-that-is-too-long", "b"}},
		{"one\ntwo three", 20, []string{"one", "two three"}},
		{"one\n\ntwo", 20, []string{"one", "", "two"}},
		{"äöü äöü", 7, []string{"äöü äöü"}}, // columns, not bytes
		{"äöü äöü", 6, []string{"äöü", "äöü"}},
		{"one two", 0, []string{"one", "two"}},
		{"一个线程服务所有客户端。", 10, []string{"一个线程服", "务所有客户", "端。"}},
		{"见 `epoll_wait` 的手册", 12, []string{"见", "`epoll_wait`", "的手册"}},
		{"阻塞在这里，不动。", 10, []string{"阻塞在这", "里，不动。"}}, // no comma begins a line
	} {
		if got := Wrap(c.text, c.width); !slices.Equal(got, c.want) {
			t.Errorf("%q in %d columns: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

func TestHang(t *testing.T) {
	for _, c := range []struct {
		first, rest, text string
		width             int
		want              []string
	}{
		{"why  ", "     ", "one two three", 12, []string{"why  one two", "     three"}},
		{"é ", "  ", "one two", 5, []string{"é one", "  two"}},
		{"", "  ", "one two three", 9, []string{"one two", "  three"}},
		{"a ", "  ", "", 9, nil},
	} {
		if got := Hang(c.first, c.rest, c.text, c.width); !slices.Equal(got, c.want) {
			t.Errorf("%q behind %q: %q, want %q", c.text, c.first, got, c.want)
		}
	}
}

func TestFit(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{{"ééé", 3, "ééé"}, {"éééé", 3, "éé…"}, {"éé", 1, "…"}, {"é", 0, "…"}, {"", 0, ""},
		{"阻塞", 4, "阻塞"}, {"阻塞了", 5, "阻塞…"}, {"阻塞了", 4, "阻…"}} {
		if got := Fit(c.text, c.width); got != c.want {
			t.Errorf("%q in %d columns: %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

func TestList(t *testing.T) {
	for want, names := range map[string][]string{
		"": nil, "a": {"a"}, "a and b": {"a", "b"}, "a, b and c": {"a", "b", "c"},
	} {
		if got := List(names); got != want {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 cases hold", 1: "1 case holds", 2: "2 cases hold"} {
		if got := Plural(n, "case holds", "cases hold"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// A command line, typed into a shell, is the same command again.
func TestCommandLine(t *testing.T) {
	for _, words := range [][]string{
		{"lesson", "bench", "--conns", "1,16"},
		{"it's", "a=b c", "", "{port}", "$HOME", "*", "~", "a\nb", `"\`, "#no", "`id`", "!1"},
	} {
		line := CommandLine(words...)
		out, err := exec.Command("sh", "-c", `printf '%s\0' `+line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, words) {
			t.Errorf("%s is %q, want %q", line, got, words)
		}
	}
	if got := CommandLine("lesson", "bench", "--conns", "1,16"); got != "lesson bench --conns 1,16" {
		t.Errorf("what needs no quotes is %q", got)
	}
}
