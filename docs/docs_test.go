//go:build linux

// Package docs_test holds the documentation to what it says about the program:
// quoted code, links, commands, traces, and the shape of a chapter.
package docs_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"lesson/docs"
	"lesson/internal/lesson"
	"lesson/internal/tool/quiz"
)

// root is the repository, from this folder.
const root = ".."

// A page is one Markdown file, taken apart.
type page struct {
	file     string // from the root of the repository: "docs/01-one-client.md"
	text     string
	prose    []string // its lines; those of fenced blocks are empty
	headings []heading
	blocks   []block
}

type heading struct {
	level int
	text  string
	line  int
}

// A block is a fenced block. The first of its lines is in line first.
type block struct {
	info  string // what follows the fence: "console"
	first int
	lines []string
}

// at is where a line of the page is, as editors and people read it.
func (p *page) at(line int) string { return fmt.Sprintf("%s:%d", p.file, line) }

var (
	fence = regexp.MustCompile("^ {0,3}(```+|~~~+) *([^`]*)$")
	atx   = regexp.MustCompile(`^(#{1,6}) +(.*?)(?: +#+)? *$`)
)

func parse(file, text string) *page {
	p := &page{file: file, text: text}
	closing := "" // the fence of the block that is open
	for i, line := range strings.Split(text, "\n") {
		prose := ""
		m := fence.FindStringSubmatch(line)
		switch {
		case closing == "" && m != nil:
			closing = m[1]
			info, _, _ := strings.Cut(strings.TrimSpace(m[2]), " ")
			p.blocks = append(p.blocks, block{info: info, first: i + 2})
		case closing != "" && m != nil && strings.HasPrefix(m[1], closing) && m[2] == "":
			closing = ""
		case closing != "":
			b := &p.blocks[len(p.blocks)-1]
			b.lines = append(b.lines, line)
		default:
			prose = line
			if m := atx.FindStringSubmatch(line); m != nil {
				p.headings = append(p.headings, heading{len(m[1]), m[2], i + 1})
			}
		}
		p.prose = append(p.prose, prose)
	}
	return p
}

// pages are README.md and docs/*.md.
func pages(t *testing.T) []*page {
	t.Helper()
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []*page
	for _, file := range append([]string{"../README.md"}, files...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("a page is missing: %v", err)
		}
		all = append(all, parse(filepath.Join("docs", file), string(text)))
	}
	return all
}

// Every relative link leads somewhere: to a file, a heading, a line.
func TestLinks(t *testing.T) {
	all := pages(t)
	for _, p := range all {
		for _, l := range links(p) {
			if err := resolve(p, l.target, all); err != nil {
				t.Errorf("%s: the link to %q: %v", p.at(l.line), l.target, err)
			}
		}
	}
}

type link struct {
	line   int
	target string
}

var (
	codeSpan = regexp.MustCompile("``[^`].*?``|`[^`]*`")
	// Of [text](target "title"), all that matters follows the text. It may be
	// an image, which begins with "!", or have one for its text.
	inline    = regexp.MustCompile(`\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)`)
	reference = regexp.MustCompile(`^ {0,3}\[([^\]]+)\]:\s*(\S+)`)
	attribute = regexp.MustCompile(`<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)="([^"]+)"`)
)

// links are the links and images of a page, those to other sites left out.
func links(p *page) []link {
	var found []link
	add := func(line int, target string) {
		if u, err := url.Parse(target); err == nil && u.Scheme == "" && u.Host == "" {
			found = append(found, link{line, target})
		}
	}
	for i, line := range p.prose {
		line = codeSpan.ReplaceAllString(line, "")
		if m := reference.FindStringSubmatch(line); m != nil {
			if m[1] != "embedmd" {
				add(i+1, m[2])
			}
			continue
		}
		for _, m := range inline.FindAllStringSubmatch(line, -1) {
			add(i+1, m[1])
		}
		for _, m := range attribute.FindAllStringSubmatch(line, -1) {
			add(i+1, m[1])
		}
	}
	return found
}

var lineAnchor = regexp.MustCompile(`^L(\d+)(?:-L(\d+))?$`)

// resolve says what is wrong with a link on page p.
func resolve(p *page, target string, all []*page) error {
	name, anchor, _ := strings.Cut(target, "#")
	name, err := url.PathUnescape(name)
	if err != nil {
		return err
	}
	file := p.file
	if name != "" {
		file = filepath.Join(filepath.Dir(p.file), name)
	}
	if filepath.IsAbs(name) || file == ".." || strings.HasPrefix(file, "../") {
		return errors.New("it leads out of the repository")
	}
	if i := slices.IndexFunc(all, func(p *page) bool { return p.file == file }); i >= 0 {
		if anchor != "" && !slices.Contains(anchors(all[i]), anchor) {
			return fmt.Errorf("%s has no heading #%s", file, anchor)
		}
		return nil
	}
	info, err := os.Stat(filepath.Join(root, file))
	if err != nil {
		return errors.New("there is no such file")
	}
	if anchor == "" {
		return nil
	}
	m := lineAnchor.FindStringSubmatch(anchor)
	if m == nil || info.IsDir() {
		return fmt.Errorf("%s has no #%s", file, anchor)
	}
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		return err
	}
	lines := bytes.Count(text, []byte("\n"))
	for _, number := range m[1:] {
		if n, _ := strconv.Atoi(number); number != "" && (n < 1 || n > lines) {
			return fmt.Errorf("%s has no line %s", file, number)
		}
	}
	return nil
}

var (
	linkText = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	htmlID   = regexp.MustCompile(`<[^>]+\b(?:id|name)="([^"]+)"`)
)

// anchors are what can follow "#" in a link to a page, by GitHub's rules: a
// heading in lower case, blanks made hyphens, all but letters, digits, "-" and
// "_" left out; the second of a name has "-1" after it.
func anchors(p *page) []string {
	var all []string
	count := make(map[string]int)
	for _, h := range p.headings {
		text := linkText.ReplaceAllString(h.text, "$1")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, text)
		if n := count[name]; n > 0 {
			all = append(all, fmt.Sprintf("%s-%d", name, n))
		} else {
			all = append(all, name)
		}
		count[name]++
	}
	for _, line := range p.prose {
		for _, m := range htmlID.FindAllStringSubmatch(line, -1) {
			all = append(all, m[1])
		}
	}
	return all
}

// binary is the command lesson, built once.
var binary = sync.OnceValues(func() (string, error) {
	file := filepath.Join(scratch, "lesson")
	out, err := exec.Command("go", "build", "-o", file, "../cmd/lesson").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %v\n%s", err, out)
	}
	return file, nil
})

var scratch string // a folder for the binary

func TestMain(m *testing.M) {
	var err error
	scratch, err = os.MkdirTemp("", "lesson-docs")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(status)
}

// Every command of ours that a page shows is one that the program takes.
func TestCommands(t *testing.T) {
	count := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.info != "console" {
				continue
			}
			for _, typed := range prompts(b) {
				for _, words := range shellWords(typed.text) {
					args, ours := lessonArgs(words)
					if !ours {
						continue
					}
					count++
					if err := accepts(t, args, typed.answer); err != nil {
						t.Errorf("%s: %s: %v", p.at(typed.line), typed.text, err)
					}
				}
			}
		}
	}
	t.Logf("%d commands", count)
}

// The commands that prove an answer of the quiz are ones that the program takes.
func TestQuizCommands(t *testing.T) {
	chapters, err := quiz.Chapters()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range chapters {
		for _, q := range c.Questions {
			for _, words := range shellWords(q.Proof) {
				if args, ours := lessonArgs(words); ours {
					if err := accepts(t, args, ""); err != nil {
						t.Errorf("%s, %q: %s: %v", c.File, q.Text, q.Proof, err)
					}
				}
			}
		}
	}
}

// A prompt is a line that somebody types, and the first line that comes back.
type prompt struct {
	line         int
	text, answer string
}

// prompts are the lines of a block that begin with "$ ". One that ends in a
// backslash goes on in the next.
func prompts(b block) []prompt {
	var found []prompt
	for i := 0; i < len(b.lines); i++ {
		text, typed := strings.CutPrefix(b.lines[i], "$ ")
		if !typed {
			continue
		}
		line := b.first + i
		for strings.HasSuffix(text, `\`) && i+1 < len(b.lines) {
			i++
			text = strings.TrimSuffix(text, `\`) + strings.TrimPrefix(b.lines[i], "> ")
		}
		answer := ""
		if i+1 < len(b.lines) {
			answer = b.lines[i+1]
		}
		found = append(found, prompt{line, text, answer})
	}
	return found
}

// shellWords are the commands of a line, each in its words. It knows of a shell
// what our pages use: quotes, comments, redirections, and what ends a command.
func shellWords(line string) [][]string {
	var commands [][]string
	var command []string
	word, inWord, skip := "", false, false // skip: the word is where output goes
	endWord := func() {
		if inWord && !skip {
			command = append(command, word)
		}
		if inWord {
			skip = false
		}
		word, inWord = "", false
	}
	endCommand := func() {
		endWord()
		if len(command) > 0 {
			commands = append(commands, command)
		}
		command, skip = nil, false
	}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'' || c == '"':
			end := strings.IndexByte(line[i+1:], c)
			if end < 0 {
				end = len(line) - i - 1
			}
			word, inWord = word+line[i+1:i+1+end], true
			i += end + 1
		case c == '$' && strings.HasPrefix(line[i:], "$("):
			end := strings.IndexByte(line[i:], ')')
			if end < 0 {
				end = len(line) - i - 1
			}
			word, inWord = word+line[i:i+end+1], true
			i += end
		case c == ' ' || c == '\t':
			endWord()
		case c == '#' && !inWord:
			endCommand()
			return commands
		case c == '>' || c == '<':
			if strings.Trim(word, "0123456789") == "" {
				word, inWord = "", false // 2>: the descriptor
			}
			endWord()
			for i+1 < len(line) && strings.IndexByte("><&", line[i+1]) >= 0 {
				i++
			}
			skip = true
		case c == '|' || c == ';' || c == '&':
			endCommand()
		default:
			word, inWord = word+string(c), true
		}
	}
	endCommand()
	return commands
}

var assignment = regexp.MustCompile(`^\w+=`)

// lessonArgs are the arguments of a command of ours.
func lessonArgs(words []string) (args []string, ours bool) {
	for len(words) > 0 && assignment.MatchString(words[0]) {
		words = words[1:]
	}
	names := []string{"lesson", "build/lesson", "./build/lesson", "go run ./cmd/lesson"}
	for _, text := range names {
		name := strings.Fields(text)
		if len(words) >= len(name) && slices.Equal(words[:len(name)], name) {
			return words[len(name):], true
		}
	}
	return nil, false
}

// nowhere is an address that no server can listen on: the program says so when
// it has nothing else to say against the command line.
const nowhere = "nowhere"

// accepts says what the program has against these arguments. answer is what the
// page shows for an answer: a command may be shown because it fails.
func accepts(t *testing.T, args []string, answer string) error {
	t.Helper()
	name := ""
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			name = arg
			break
		}
	}
	help := slices.Contains(args, "--help") || slices.Contains(args, "-h") || name == "help"
	switch name {
	case "blocking", "loop", "threaded", "epoll", "edgetriggered":
		if help {
			break
		}
		// Everything is looked at before the address is: flags, what they may
		// be, what goes together.
		_, stderr, status := runLesson(t, append(slices.Clone(args), "--addr", nowhere)...)
		if status == 1 && strings.Contains(stderr, "bad address \""+nowhere+"\"") {
			return nil
		}
		if strings.HasPrefix(answer, "lesson: ") && answer == strings.TrimSpace(stderr) {
			return nil
		}
		return errors.New(strings.TrimSpace(stderr))
	case "", "list", "diff", "version", "completion", "help":
		if _, stderr, status := runLesson(t, args...); status != 0 {
			if strings.HasPrefix(answer, "lesson: ") && answer == strings.TrimSpace(stderr) {
				return nil
			}
			return fmt.Errorf("status %d: %s", status, strings.TrimSpace(stderr))
		}
		return nil
	}
	// With --help it does nothing, but looks at the flags; a command that does not
	// exist is an argument of lesson itself, whose help it then shows.
	// What follows "--" is the command of another program.
	before := len(args)
	if dash := slices.Index(args, "--"); dash >= 0 {
		before = dash
	}
	stdout, stderr, status := runLesson(t, slices.Insert(slices.Clone(args), before, "--help")...)
	if status != 0 {
		return fmt.Errorf("status %d: %s", status, strings.TrimSpace(stderr))
	}
	if !strings.Contains(stdout, "\n  lesson "+name+" ") {
		return fmt.Errorf("there is no lesson %s", name)
	}
	return nil
}

func runLesson(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	file, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file, args...)
	var out, log strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &log
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// A line of a trace, wherever it is shown, names a line of source that makes
// that call. It goes stale when the code above it moves.
func TestTraces(t *testing.T) {
	count := 0
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			for i, line := range b.lines {
				found := traceLine.FindAllStringSubmatch(line, -1)
				for _, m := range raceLine.FindAllStringSubmatch(line, -1) {
					found = append(found, []string{m[0], m[2], m[3], m[1]})
				}
				for _, m := range found {
					count++
					number, _ := strconv.Atoi(m[2])
					if err := makesCall(m[1], number, m[3]); err != nil {
						t.Errorf("%s: %v", p.at(b.first+i), err)
					}
				}
			}
		}
	}
	t.Logf("%d lines of traces", count)
}

// traceLine is one of --trace, raceLine one of lesson race.
var (
	traceLine = regexp.MustCompile(`(\w[\w/]*\.go):(\d+)\s+(\w+)\(`)
	raceLine  = regexp.MustCompile(`in (\w+), (\w[\w/]*\.go):(\d+)`)
)

// The shape of a chapter.
var sections = []string{
	"What you will see", "Run it", "The code", "What the kernel does meanwhile", "Break it",
	"Questions", "Next",
}

var chapter = regexp.MustCompile(`^docs/[0-9][0-9]-.*\.md$`)

func TestChaptersHaveOneShape(t *testing.T) {
	for _, p := range pages(t) {
		if !chapter.MatchString(p.file) || p.file == "docs/00-start-here.md" {
			continue
		}
		var got []string
		titles := 0
		for _, h := range p.headings {
			switch h.level {
			case 1:
				titles++
			case 2:
				got = append(got, h.text)
			}
		}
		if !slices.Equal(got, sections) {
			t.Errorf("%s has the sections %q, want %q", p.file, got, sections)
		}
		if titles != 1 {
			t.Errorf("%s has %d titles, want one", p.file, titles)
		}
		questions := section(p, "Questions")
		asked := strings.Count(questions, "<summary>")
		if asked == 0 {
			t.Errorf("%s asks no questions with folded answers (<details><summary>)", p.file)
		}
		for _, tag := range []string{"<details>", "</details>", "</summary>"} {
			if n := strings.Count(questions, tag); n != asked {
				t.Errorf("%s has %d questions and %d %s", p.file, asked, n, tag)
			}
		}
		if len(nextLinks(p)) == 0 {
			t.Errorf("%s: \"Next\" leads nowhere", p.file)
		}
	}
}

// section is the prose under a heading of level 2.
func section(p *page, name string) string {
	first, last := -1, len(p.prose)
	for _, h := range p.headings {
		switch {
		case h.level > 2:
		case first >= 0 && h.line > first:
			last = min(last, h.line-1)
		case h.level == 2 && h.text == name:
			first = h.line
		}
	}
	if first < 0 {
		return ""
	}
	return strings.Join(p.prose[first:last], "\n")
}

// nextLinks are the links to pages in the section "Next".
func nextLinks(p *page) []link {
	return slices.DeleteFunc(links(parse(p.file, section(p, "Next"))), func(l link) bool {
		return !strings.Contains(l.target, ".md")
	})
}

// A page that nothing leads to is not read.
func TestPagesAreLinked(t *testing.T) {
	linked := make(map[string]bool)
	all := pages(t)
	for _, p := range all {
		if p.file != "README.md" && p.file != "docs/00-start-here.md" {
			continue
		}
		for _, l := range links(p) {
			name, _, _ := strings.Cut(l.target, "#")
			linked[filepath.Join(filepath.Dir(p.file), name)] = true
		}
	}
	for _, p := range all {
		if p.file != "README.md" && !linked[p.file] {
			t.Errorf("neither README.md nor docs/00-start-here.md links to %s", p.file)
		}
	}
}

// Every lesson has its chapter, in the repository and in the program.
func TestLessonsHaveChapters(t *testing.T) {
	for _, l := range lesson.WithVariants() {
		text, err := os.ReadFile(filepath.Join(root, l.Chapter))
		if err != nil {
			t.Errorf("the chapter of lesson %s is missing: %v", l.Name, err)
			continue
		}
		carried, err := docs.Chapters.ReadFile(filepath.Base(l.Chapter))
		if err != nil || !bytes.Equal(carried, text) {
			t.Errorf("the program does not carry %s: %v", l.Chapter, err)
		}
		for _, file := range l.Files {
			if !strings.Contains(string(text), file) {
				t.Errorf("%s does not mention %s", l.Chapter, file)
			}
		}
	}
}
