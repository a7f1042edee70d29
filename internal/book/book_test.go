//go:build linux

package book

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"lesson/docs"
)

func TestEveryPageRenders(t *testing.T) {
	for _, p := range Pages() {
		english, err := p.Render()
		if err != nil {
			t.Errorf("%s: %v", p.ID, err)
			continue
		}
		for _, language := range []string{docs.English, docs.Chinese} {
			p, err := p.In(language)
			if err != nil {
				t.Errorf("%s: %v", p.ID, err)
				continue
			}
			r, err := p.Render()
			if err != nil {
				t.Errorf("%s: %v", p.ID, err)
			}
			if p.Title == "" || r.Title != p.Title || len(r.TOC) == 0 || r.HTML == "" {
				t.Errorf("%s: title %q, %d headings, %d bytes", p.ID, r.Title, len(r.TOC), len(r.HTML))
			}
			for i, h := range r.TOC {
				if h.Anchor == "" || !strings.Contains(r.HTML, `id="`+h.Anchor+`"`) {
					t.Errorf("%s: the heading %q has no anchor", p.ID, h.Text)
				}
				// The title has none that anything links to.
				if i > 0 && h.Anchor != english.TOC[i].Anchor {
					t.Errorf("%s: the heading %q has the anchor %s, in English %s",
						p.ID, h.Text, h.Anchor, english.TOC[i].Anchor)
				}
			}
			if strings.Contains(r.HTML, "style=") {
				t.Errorf("%s: a style that the page's policy refuses", p.ID)
			}
		}
	}
}

func TestChaptersComeFirstAndInOrder(t *testing.T) {
	last := ""
	for _, p := range Pages() {
		if p.Kind == Chapter {
			if p.ID < last {
				t.Errorf("%s stands behind %s", p.ID, last)
			}
			last = p.ID
		}
	}
	if Pages()[0].ID != "00-start-here" {
		t.Errorf("the first page is %s", Pages()[0].ID)
	}
}

var lineLink = regexp.MustCompile(`class="line" data-file="([^"]+)" data-line="(\d+)"`)

func TestEveryLineThatIsNamedExists(t *testing.T) {
	for _, p := range Pages() {
		r, err := p.Render()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lineLink.FindAllStringSubmatch(r.HTML, -1) {
			source, err := Source(m[1])
			line, _ := strconv.Atoi(m[2])
			if err != nil || line < 1 || line > strings.Count(source, "\n") {
				t.Errorf("%s links to %s:%s: %v", p.ID, m[1], m[2], err)
			}
		}
	}
}

func TestWhatAChapterNamesIsLinked(t *testing.T) {
	page, err := Find("04-level-triggered")
	if err != nil {
		t.Fatal(err)
	}
	r, err := page.Render()
	if err != nil {
		t.Fatal(err)
	}
	wait := lineWith(t, "epoll/eventloop.go", ".EpollWait(")
	advance := lineWith(t, "epoll/eventloop.go", "func (s *Server) advance(")
	for what, want := range map[string]string{
		"a quoted piece of code":  `<figure class="quote" data-file="epoll/eventloop.go" data-from="`,
		"a line of a trace":       fmt.Sprintf(`data-line="%d" href="#">epoll/eventloop.go:%[1]d</a>`, wait),
		"a function in prose":     fmt.Sprintf(`data-line="%d"><code>advance</code></a>`, advance),
		"a link to a file":        `class="line" data-file="epoll/eventloop.go" data-line="1">`,
		"a link to a chapter":     `class="chapter" data-chapter="05-edge-triggered"`,
		"a word of the code":      `<span class="keyword">func</span>`,
		"HTML that a page has":    `<details><summary>`,
		"a command, and its mark": `<span class="prompt">$ </span>`,
	} {
		if !strings.Contains(r.HTML, want) {
			t.Errorf("%s: no %s", what, want)
		}
	}
}

// lineWith returns the number of the first line of a file that has these words.
func lineWith(t *testing.T, file, words string) int {
	t.Helper()
	source, err := Source(file)
	before, _, found := strings.Cut(source, words)
	if err != nil || !found {
		t.Fatalf("%s: no %q, %v", file, words, err)
	}
	return 1 + strings.Count(before, "\n")
}

func TestSourceIsShownLineByLine(t *testing.T) {
	for _, file := range Files() {
		source, err := Source(file)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		lines := Highlight("go", source)
		if want := strings.Count(source, "\n"); len(lines) != want {
			t.Errorf("%s: %d lines of %d", file, len(lines), want)
		}
		for i, line := range lines {
			if strings.Count(line, "<span") != strings.Count(line, "</span>") {
				t.Errorf("%s:%d: %s", file, i+1, line)
			}
		}
	}
}

func TestOnlyFilesThatAreListedAreShown(t *testing.T) {
	for _, file := range []string{
		"", "/etc/passwd", "../go.mod", "exercise/../../go.mod", "exercise/06-one-read-per-edge/cases.txt",
	} {
		if _, err := Source(file); err == nil {
			t.Errorf("%q is shown", file)
		}
	}
}

func TestHighlight(t *testing.T) {
	tests := []struct{ language, code, want string }{
		{"go", "func f() { len(s) } // if", `<keyword>func</> <function>f</>() ` +
			`{ <builtin>len</>(s) } <comment>// if</>`},
		{"go", "x1 := 0x1f + 'a'", "x1 := <numeral>0x1f</> + <string>&#39;a&#39;</>"},
		{"go", `"a // \" b" // c`, `<string>&#34;a // \&#34; b&#34;</> <comment>// c</>`},
		{"go", "`a\nif`", "<string>`a</>\n<string>if`</>"},
		{"go", "/* a\n*/ b", "<comment>/* a</>\n<comment>*/</> b"},
		{"go", "typeset, iff", "typeset, iff"},
		{"python", "def f(a): # if", "<keyword>def</> <function>f</>(a): <comment># if</>"},
		{"python", `print(b"1\n", 2)`, `<builtin>print</>(<string>b&#34;1\n&#34;</>, <numeral>2</>)`},
		{"no such language", "if 1", "if 1"},
	}
	span := regexp.MustCompile(`<span class="(\w+)">(.*?)</span>`)
	for _, test := range tests {
		html := strings.Join(Highlight(test.language, test.code), "\n")
		if got := span.ReplaceAllString(html, "<$1>$2</>"); got != test.want {
			t.Errorf("%s: %s\n got %s\nwant %s", test.language, test.code, got, test.want)
		}
	}
}

func TestSourceIsEscaped(t *testing.T) {
	for _, language := range []string{"go", "no such language"} {
		got := strings.Join(Highlight(language, `a := "<script>" & b`), "")
		if strings.Contains(got, "<script>") {
			t.Errorf("%s: %s", language, got)
		}
	}
}
