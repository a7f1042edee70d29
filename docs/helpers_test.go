//go:build linux

package docs_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// What holds the pages to the truth must itself be held to it: each of these
// tables has something that must be found.

func TestParse(t *testing.T) {
	p := parse("x.md", strings.Join([]string{
		"# Title", "text", "```console", "$ one", "## not a heading", "```", "", "## Two ##",
		"~~~", "```", "~~~", "[a](b.md)",
	}, "\n"))
	wantHeadings := []heading{{1, "Title", 1}, {2, "Two", 8}}
	if !reflect.DeepEqual(p.headings, wantHeadings) {
		t.Errorf("headings %+v, want %+v", p.headings, wantHeadings)
	}
	wantBlocks := []block{
		{"console", 4, []string{"$ one", "## not a heading"}},
		{"", 10, []string{"```"}},
	}
	if !reflect.DeepEqual(p.blocks, wantBlocks) {
		t.Errorf("blocks %+v, want %+v", p.blocks, wantBlocks)
	}
	if got := links(p); !reflect.DeepEqual(got, []link{{12, "b.md"}}) {
		t.Errorf("links %+v", got)
	}
}

func TestFindLinks(t *testing.T) {
	tests := []struct{ line, want string }{
		{"[a](b.md) and [c](d.md#e)", "b.md d.md#e"},
		{"[`code`](b.md)", "b.md"},
		{"`[not](one)` but ![image](i.png)", "i.png"},
		{"[![image](i.png)](page.md)", "i.png page.md"},
		{`[a](b.md "title")`, "b.md"},
		{"[site](https://go.dev/) <https://go.dev> [mail](mailto:x@y)", ""},
		{"[name]: b.md", "b.md"},
		{"[embedmd]:# (../x.go)", ""},
		{`<img alt="x" src="i.svg"> <a href="b.md">b</a>`, "i.svg b.md"},
		{"accept4(5) [5 EPOLLIN]", ""},
	}
	for _, test := range tests {
		var got []string
		for _, l := range links(parse("x.md", test.line)) {
			got = append(got, l.target)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %q, want %q", test.line, got, test.want)
		}
	}
}

func TestAnchors(t *testing.T) {
	p := parse("x.md", strings.Join([]string{
		"# 1. One client", "## What the kernel does meanwhile", "## `epoll_wait`, and why?",
		"## A [link](x.md) & more", "## Again", "## Again", `<a id="here"></a>`, "## Größe -- 2",
	}, "\n"))
	want := []string{"1-one-client", "what-the-kernel-does-meanwhile", "epoll_wait-and-why",
		"a-link--more", "again", "again-1", "größe----2", "here"}
	if got := anchors(p); !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
}

func TestResolve(t *testing.T) {
	here := parse("docs/x.md", "# Title")
	tests := []struct {
		target string
		good   bool
	}{
		{"docs_test.go", true},
		{"../go.mod", true},
		{"../docs", true},
		{".", true},
		{"../go.mod#L1", true},
		{"../go.mod#L1-L3", true},
		{"#title", true},
		{"x.md", true},
		{"x.md#title", true},
		{"#nothing", false},
		{"x.md#nothing", false},
		{"nothing.md", false},
		{"../go.mod#L100000", false},
		{"../go.mod#L0", false},
		{"../go.mod#title", false},
		{"../docs#L1", false},
		{"../../etc", false},
		{"/etc/passwd", false},
	}
	for _, test := range tests {
		err := resolve(here, test.target, []*page{here})
		if (err == nil) != test.good {
			t.Errorf("%s: %v", test.target, err)
		}
	}
}

func TestShellWords(t *testing.T) {
	tests := []struct{ line, want string }{
		{"lesson blocking --trace    # a comment", "[lesson blocking --trace]"},
		{"lesson diff -y a b | less -R", "[lesson diff -y a b][less -R]"},
		{"lesson loop > log 2>&1 &", "[lesson loop]"},
		{"lesson loop 2>/dev/null --quiet", "[lesson loop --quiet]"},
		{"lesson loop >>log; lesson list", "[lesson loop][lesson list]"},
		{"lesson loop & lesson loop --addr '[::1]:9'", "[lesson loop][lesson loop --addr [::1]:9]"},
		{"printf 'a | b # c' | nc -N 127.0.0.1 8080", "[printf a | b # c][nc -N 127.0.0.1 8080]"},
		{"kill $(pidof lesson | head)", "[kill $(pidof lesson | head)]"},
		{"make && ./build/lesson list", "[make][./build/lesson list]"},
		{"# nothing", ""},
		{"lesson a # one\nlesson b \\\n  c", "[lesson a][lesson b c]"},
		{"curl http://x/#y", "[curl http://x/#y]"},
	}
	for _, test := range tests {
		got := ""
		for _, command := range shellWords(test.line) {
			got += fmt.Sprint(command)
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", test.line, got, test.want)
		}
	}
}

func TestPrompts(t *testing.T) {
	b := block{first: 10, lines: []string{
		"earlier", "$ one \\", "  two", "answer", "> said", "$ three '", "four'", "$",
	}}
	want := []prompt{
		{11, "one \\\n  two", []string{"answer", "> said"}}, {15, "three '\nfour'", []string{"$"}},
	}
	if got := prompts(b); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestLessonArgs(t *testing.T) {
	tests := []struct {
		words string
		args  string
		ours  bool
	}{
		{"lesson epoll --edge", "epoll --edge", true},
		{"build/lesson list", "list", true},
		{"./build/lesson", "", true},
		{"go run ./cmd/lesson diff a b", "diff a b", true},
		{"NO_COLOR=1 lesson list", "list", true},
		{"go test ./...", "", false},
		{"lessons", "", false},
		{"", "", false},
	}
	for _, test := range tests {
		args, ours := lessonArgs(strings.Fields(test.words))
		if strings.Join(args, " ") != test.args || ours != test.ours {
			t.Errorf("%s: %q, %v", test.words, args, ours)
		}
	}
}

func TestAccepts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args, answer string
		good         bool
	}{
		{"", "", true},
		{"blocking", "", true},
		{"blocking --trace --timeout 5s", "", true},
		{"threaded --netpoll", "", true},
		{"epoll --help", "", true},
		{"help epoll", "", true},
		{"diff epoll edgetriggered", "", true},
		{"man build/man", "", true}, // does nothing: the folder is not there
		{"blocking --nosuch", "", false},
		{"blocking extra", "", false},
		{"epoll --loops 0", "", false},
		{"threaded --netpoll --trace", "", false},
		{"epoll --loops 0", "lesson: --loops must be from 1 to 256, not 0", true},
		{"nosuch", "", false},
		{"nosuch --flag", "", false},
		{"diff epoll nosuch", "", false},
		{"diff epoll", "", false},
		{"list --nosuch", "", false},
		{"demo", "", true},
		{"demo events", "", true},
		{"demo nosuch", "", false},
		{"exercise list", "", true},
		{"exercise check 20", "", true},
		{"exercise check 99", "", false},
		{"exercise nosuch 1", "", false},
		{"quiz 4", "", true},
		{"quiz 99", "", false},
		{"check slow --lesson epoll", "", true},
		{"check nosuch --lesson epoll", "", false},
		{"check slow --lesson nosuch", "", false},
		{"check -- nosuch --only nosuch", "", true},
		{"race --scenario stuck --only loop,epoll", "", true},
		{"race --scenario=nosuch", "", false},
		{"race --only loop,nosuch", "", false},
		{"tour --only epoll,exercise/06-one-read-per-edge", "", true},
		{"tour --only exercise/nosuch", "", false},
	}
	for _, test := range tests {
		err := accepts(t, strings.Fields(test.args), test.answer)
		if (err == nil) != test.good {
			t.Errorf("lesson %s: %v", test.args, err)
		}
	}
}

func TestMakesCall(t *testing.T) {
	const source = `package p

// Read( in a comment
func (s *Server) f() error {
	defer s.CloseListener()
	if s.Kernel.Shutdown(1, 2) != nil {
		return nil
	}
	g := func() error {
		return nil
	}
	return g()
}

func h() {
	s.Kernel.Read(1, nil)
	x, y := s.Kernel.EpollWait(1,
		nil, 2)
}
`
	tests := []struct {
		line int
		call string
		good bool
	}{
		{6, "shutdown", true},
		{16, "read", true},
		{17, "epoll_wait", true},
		{3, "read", false},        // a comment
		{5, "close", false},       // deferred, not called here
		{7, "close", true},        // but here,
		{12, "close", true},       // here,
		{13, "close", true},       // and here
		{10, "close", false},      // another function's end
		{19, "close", false},      // nothing is deferred
		{16, "send", false},       // another call
		{18, "epoll_wait", false}, // not its first line
		{99, "read", false},
		{16, "open", false},
	}
	for _, test := range tests {
		err := sourceMakesCall("p.go", source, test.line, test.call)
		if (err == nil) != test.good {
			t.Errorf("line %d, %s: %v", test.line, test.call, err)
		}
	}
}
