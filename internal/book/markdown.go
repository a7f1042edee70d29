//go:build linux

package book

import (
	"bytes"
	"fmt"
	"html"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	gmhtml "github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"

	"lesson/internal/lesson"
	"lesson/internal/translation"
)

// markdown renders as GitHub does. The pages are this program's own, so that
// HTML in them (<details>) stays what it is.
var markdown = goldmark.New(
	// Columns are aligned by an attribute: the page's policy refuses inline styles.
	goldmark.WithExtensions(
		extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
		extension.Strikethrough,
	),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
	goldmark.WithRendererOptions(
		gmhtml.WithUnsafe(),
		renderer.WithNodeRenderers(util.Prioritized(blocks{}, 1)),
	),
)

// parse parses a page, and turns what it names of the source into links.
func parse(p Page) ast.Node {
	document := markdown.Parser().Parse(text.NewReader(p.text))
	l := linker{page: p}
	if about, ok := lessonOf(p); ok {
		l.places = places(about.Files)
	}
	// Collected first: a tree must not change while it is walked.
	var nodes []ast.Node
	_ = ast.Walk(document, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if entering {
			nodes = append(nodes, n)
		}
		return ast.WalkContinue, nil
	}) // the function above returns no error
	for _, n := range nodes {
		switch n := n.(type) {
		case *ast.Heading:
			l.heading(n)
		case *ast.Link:
			l.link(n)
		case *ast.CodeSpan:
			l.codeSpan(n)
		case *ast.FencedCodeBlock:
			l.quote(n)
		}
	}
	return document
}

// plain returns the text of a node without its markup.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		switch c := c.(type) {
		case *ast.Text:
			b.Write(c.Segment.Value(source))
			if c.SoftLineBreak() {
				b.WriteByte(' ')
			}
		case *ast.String:
			b.Write(c.Value)
		default:
			b.WriteString(plain(c, source))
		}
	}
	return b.String()
}

// A linker leads from a page to the lines of the source.
type linker struct {
	page   Page
	places map[string]Place // what the page's words are about
}

// anchored is the HTML after a translated heading, with the anchor of the English one.
var anchored = regexp.MustCompile(`^<a id="([^"]+)">$`)

// heading gives a heading the anchor that GitHub gives it, or, in a translation, the one of
// the English heading, which follows it.
func (l linker) heading(n *ast.Heading) {
	n.SetAttributeString("id", []byte(translation.Anchor(plain(n, l.page.text))))
	for child := n.FirstChild(); child != nil; child = child.NextSibling() {
		raw, ok := child.(*ast.RawHTML)
		if !ok {
			continue
		}
		if m := anchored.FindSubmatch(raw.Segments.Value(l.page.text)); m != nil {
			n.SetAttributeString("id", m[1])
			n.RemoveChild(n, raw.NextSibling()) // </a>
			n.RemoveChild(n, raw)
			return
		}
	}
}

// link sorts the links of a page: to another page, to a line, into the world.
func (l linker) link(n *ast.Link) {
	target := string(n.Destination)
	if strings.Contains(target, "://") {
		n.SetAttributeString("target", []byte("_blank"))
		n.SetAttributeString("rel", []byte("noopener noreferrer"))
		return
	}
	target, anchor, _ := strings.Cut(target, "#")
	if target == "" {
		l.toPage(n, l.page.ID, anchor)
		return
	}
	file := path.Join(path.Dir(l.page.File), target)
	for _, p := range Pages() {
		if p.File == file || path.Dir(p.File) == file {
			l.toPage(n, p.ID, anchor)
			return
		}
	}
	shown := strings.Replace(file, "docs/exercises/", "exercise/", 1)
	if _, err := Source(shown); err == nil {
		line, err := strconv.Atoi(strings.TrimPrefix(anchor, "L"))
		if err != nil {
			line = 1
		}
		toLine(n, Place{shown, line})
		return
	}
	// A file of the repository that is not shown here: its text stays.
	parent := n.Parent()
	for child := n.FirstChild(); child != nil; child = n.FirstChild() {
		parent.InsertBefore(parent, n, child)
	}
	parent.RemoveChild(parent, n)
}

func (l linker) toPage(n *ast.Link, id, anchor string) {
	n.Destination = []byte("#" + id)
	n.SetAttributeString("class", []byte("chapter"))
	n.SetAttributeString("data-chapter", []byte(id))
	n.SetAttributeString("data-anchor", []byte(anchor))
}

func toLine(n *ast.Link, at Place) {
	n.Destination = []byte("#")
	n.SetAttributeString("class", []byte("line"))
	n.SetAttributeString("data-file", []byte(at.File))
	n.SetAttributeString("data-line", fmt.Append(nil, at.Line))
}

// codeSpan makes a link of `epoll/eventloop.go:104`, and of the name of a
// function or a system call that the chapter is about.
func (l linker) codeSpan(n *ast.CodeSpan) {
	if n.Parent().Kind() == ast.KindLink || n.Parent().Kind() == ast.KindHeading {
		return
	}
	words := plain(n, l.page.text)
	at, known := l.places[strings.TrimSuffix(words, "()")]
	if m := place().FindStringSubmatch(words); m != nil && m[0] == words {
		line, err := strconv.Atoi(m[2])
		at, known = Place{m[1], line}, err == nil
	}
	if !known {
		return
	}
	link := ast.NewLink()
	toLine(link, at)
	n.Parent().ReplaceChild(n.Parent(), n, link)
	link.AppendChild(link, n)
}

// place is how a trace and a chapter name a line.
var place = sync.OnceValue(func() *regexp.Regexp {
	var files []string
	for _, l := range lesson.All() {
		for _, file := range l.Files {
			files = append(files, regexp.QuoteMeta(file))
		}
	}
	return regexp.MustCompile(`\b(` + strings.Join(files, "|") + `):(\d+)`)
})

// quoted is the line before a block of code that go generate ./docs has put there.
var quoted = regexp.MustCompile(`(?m)^\[embedmd\]:# \((\S+\.go) go[^\n]*\n\x60\x60\x60go\n`)

// quote finds out which lines of which file a block of code quotes.
func (l linker) quote(n *ast.FencedCodeBlock) {
	if n.Lines().Len() == 0 {
		return
	}
	begins := n.Lines().At(0).Start
	for _, m := range quoted.FindAllSubmatchIndex(l.page.text, -1) {
		if m[1] != begins {
			continue
		}
		file := path.Join(path.Dir(l.page.File), string(l.page.text[m[2]:m[3]]))
		source, err := Source(file)
		if err != nil {
			return
		}
		code := string(n.Lines().Value(l.page.text))
		at := strings.Index(source, strings.TrimSuffix(code, "\n"))
		if at < 0 {
			return
		}
		from := 1 + strings.Count(source[:at], "\n")
		n.SetAttributeString("file", file)
		n.SetAttributeString("from", from)
		return
	}
}

// blocks renders blocks of code: highlighted, and with the lines that they quote
// or that a trace names.
type blocks struct{}

func (b blocks) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindFencedCodeBlock, b.code)
}

func (b blocks) code(
	w util.BufWriter, source []byte, node ast.Node, entering bool,
) (ast.WalkStatus, error) {
	if !entering {
		return ast.WalkContinue, nil
	}
	n := node.(*ast.FencedCodeBlock)
	code := string(n.Lines().Value(source))
	language := string(n.Language(source))
	if file, ok := n.AttributeString("file"); ok {
		from, _ := n.AttributeString("from")
		first, _ := from.(int)
		writeQuote(w, file.(string), first, Highlight(language, code))
		return ast.WalkSkipChildren, nil
	}
	lines := plainLines(strings.TrimSuffix(code, "\n"))
	switch language {
	case "go", "python":
		lines = Highlight(language, code)
	case "console", "sh", "text", "":
		for i, line := range lines {
			lines[i] = console(line)
		}
	}
	fmt.Fprintf(w, "<pre class=\"code\" tabindex=\"0\"><code class=\"language-%s\">%s\n</code></pre>\n",
		html.EscapeString(language), strings.Join(lines, "\n"))
	return ast.WalkSkipChildren, nil
}

// console marks the commands of a block, and the lines that its trace names.
func console(line string) string {
	if command, ok := strings.CutPrefix(line, "$ "); ok {
		return `<span class="prompt">$ </span><span class="command">` + command + `</span>`
	}
	return place().ReplaceAllString(line, `<a class="line" data-file="$1" data-line="$2" href="#">$0</a>`)
}

func writeQuote(w util.BufWriter, file string, from int, lines []string) {
	to := from + len(lines) - 1
	name := html.EscapeString(file)
	fmt.Fprintf(w, "<figure class=\"quote\" data-file=\"%s\" data-from=\"%d\" data-to=\"%d\">\n"+
		"<figcaption><a class=\"line\" data-file=\"%[1]s\" data-line=\"%[2]d\" href=\"#\">"+
		"%[1]s:%[2]d–%[3]d</a></figcaption>\n"+
		"<pre class=\"code\" tabindex=\"0\"><code class=\"language-go\">", name, from, to)
	var code bytes.Buffer
	for i, line := range lines {
		fmt.Fprintf(&code, "<span class=\"codeline\" data-line=\"%d\">%s\n</span>", from+i, line)
	}
	_, _ = w.Write(code.Bytes()) // the BufWriter keeps its error
	_, _ = w.WriteString("</code></pre></figure>\n")
}
