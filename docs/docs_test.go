//go:build linux

// Package docs_test holds the documentation to what it says about the program:
// quoted code, links, commands, traces, and the shape of a chapter.
package docs_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
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

	"lesson/docs"
	"lesson/internal/lesson"
	"lesson/internal/play"
	"lesson/internal/proof"
	"lesson/internal/tool/check"
	"lesson/internal/tool/demo"
	"lesson/internal/tool/exercise"
	"lesson/internal/tool/quiz"
	"lesson/internal/translation"
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

// consoles returns the blocks that show a terminal.
func (p *page) consoles() []block {
	other := func(b block) bool { return b.info != "console" }
	return slices.DeleteFunc(slices.Clone(p.blocks), other)
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
	all := append(pages(t), translations(t)...)
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
		name := translation.Anchor(text)
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
	// Readers mostly wait, for clients that are slow on purpose.
	if flag.Parse(); proof.Exhaustive() {
		err = flag.Set("test.parallel", "4")
	}
	status := 1
	if err == nil {
		status = m.Run()
	}
	_ = os.RemoveAll(scratch)
	os.Exit(status)
}

// Every command of ours that a page or an answer of the quiz shows is one that the
// program takes.
func TestCommands(t *testing.T) {
	t.Parallel()
	shown := make(map[string][]string) // where, by the command and its first line of output
	add := func(where, line, answer string) {
		for _, words := range shellWords(line) {
			if args, ours := lessonArgs(words); ours {
				key := strings.Join(append(args, answer), "\x00")
				shown[key] = append(shown[key], fmt.Sprintf("%s: %s", where, line))
			}
		}
	}
	for _, p := range pages(t) {
		for _, b := range p.consoles() {
			for _, typed := range prompts(b) {
				first := strings.Join(typed.answer[:min(1, len(typed.answer))], "")
				add(p.at(typed.line), typed.text, first)
			}
		}
	}
	// If the pages wrote their commands in another way, none would be checked.
	if len(shown) < 70 {
		t.Errorf("%d different commands found, want at least 70", len(shown))
	}
	chapters, err := quiz.Chapters(docs.English)
	proof.Must(t, err)
	for _, c := range chapters {
		for _, q := range c.Questions {
			add(fmt.Sprintf("%s, %q", c.File, q.Text), q.Proof, "")
		}
	}
	for key, where := range shown {
		words := strings.Split(key, "\x00")
		args, answer := words[:len(words)-1], words[len(words)-1]
		if err := accepts(t, args, answer); err != nil {
			t.Errorf("%s: %v", strings.Join(where, "\n"), err)
		}
	}
}

// A change that a page makes with sed changes the file, and it is still Go. It goes stale
// when the code is written in another way.
func TestChanges(t *testing.T) {
	count := 0
	for _, p := range pages(t) {
		for _, b := range p.consoles() {
			for _, typed := range prompts(b) {
				for _, words := range shellWords(typed.text) {
					if words[0] != "sed" || !slices.Contains(words, "-i") {
						continue
					}
					count++
					file := filepath.Join(root, words[len(words)-1])
					before, err := os.ReadFile(file)
					proof.Must(t, err)
					args := slices.DeleteFunc(words[1:], func(w string) bool { return w == "-i" })
					sed := exec.Command("sed", args...)
					sed.Dir = root
					after, err := sed.Output()
					proof.Must(t, err)
					_, err = parser.ParseFile(token.NewFileSet(), file, after, 0)
					if err != nil || bytes.Equal(before, after) {
						t.Errorf("%s: %s: it changes nothing, or something else than Go: %v",
							p.at(typed.line), typed.text, err)
					}
				}
			}
		}
	}
	if count == 0 {
		t.Error("no page changes a file")
	}
}

// A prompt is what a reader types, and the lines that come back.
type prompt struct {
	line   int // of the page
	text   string
	answer []string
}

// prompts are the commands of a block. Each begins with "$ "; it continues in the next
// line after a backslash, within quotes, and in lines that begin with "> ".
func prompts(b block) []prompt {
	var found []prompt
	for i, line := range b.lines {
		text, begins := strings.CutPrefix(line, "$ ")
		if begins {
			found = append(found, prompt{line: b.first + i, text: text})
			continue
		}
		if len(found) == 0 {
			continue // output of a command in an earlier block
		}
		last := &found[len(found)-1]
		more, goesOn := strings.CutPrefix(line, "> ")
		goesOn = goesOn || strings.HasSuffix(last.text, `\`) || quoteIsOpen(last.text)
		if len(last.answer) == 0 && goesOn {
			last.text += "\n" + more
			continue
		}
		last.answer = append(last.answer, line)
	}
	return found
}

// quoteIsOpen reports whether a command ends within quotes.
func quoteIsOpen(command string) bool {
	open := rune(0)
	for _, c := range command {
		switch {
		case open == 0 && (c == '"' || c == '\''):
			open = c
		case c == open:
			open = 0
		}
	}
	return open != 0
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
			for i+1 < len(line) && line[i+1] != '\n' {
				i++
			}
		case c == '\\' && strings.HasPrefix(line[i:], "\\\n"):
			i++
		case c == '\n':
			endCommand()
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
	kind := name
	if _, err := lesson.Find(name); err == nil {
		kind = "a lesson"
	}
	switch kind {
	case "a lesson":
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
	if err := knowsNames(name, args[:before]); err != nil {
		return err
	}
	stdout, stderr, status := runLesson(t, slices.Insert(slices.Clone(args), before, "--help")...)
	if status != 0 {
		return fmt.Errorf("status %d: %s", status, strings.TrimSpace(stderr))
	}
	if name == "exercise" {
		name = strings.Join(args[:min(2, len(args))], " ")
	}
	if !strings.Contains(stdout, "\n  lesson "+name+" ") {
		return fmt.Errorf("there is no lesson %s", name)
	}
	return nil
}

// knowsNames says which name in the arguments of a tool names nothing: --help hides that.
func knowsNames(tool string, args []string) error {
	gallery, err := exercise.Carried()
	if err != nil {
		return err
	}
	var names []string // what follows the tool's name, up to the first flag
	for _, arg := range args[slices.Index(args, tool)+1:] {
		if strings.HasPrefix(arg, "-") {
			break
		}
		names = append(names, arg)
	}
	switch tool {
	case "check":
		_, err = check.Select(names)
	case "demo":
		if len(names) > 0 {
			_, err = demo.Find(names[0])
		}
	case "exercise":
		if len(names) > 1 {
			_, err = gallery.Find(names[1])
		}
	case "quiz":
		all, broken := quiz.Chapters(docs.English)
		_, err = quiz.Select(all, names)
		err = errors.Join(broken, err)
	}
	for i, arg := range args {
		flag, value, joined := strings.Cut(arg, "=")
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		for _, name := range strings.Split(value, ",") {
			var unknown error
			number, isExercise := strings.CutPrefix(name, "exercise/")
			switch {
			case flag == "--scenario":
				_, unknown = play.Many().Find(name)
			case flag == "--only" && tool == "check":
				_, unknown = check.Select([]string{name})
			case flag == "--only" && isExercise:
				_, unknown = gallery.Find(number)
			case flag == "--only" || flag == "--lesson":
				_, unknown = lesson.Find(name)
			}
			err = errors.Join(err, unknown)
		}
	}
	return err
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
				if found == nil && timestamp.MatchString(line) && !noSource.MatchString(line) {
					t.Errorf("%s: not a line of a trace: %q", p.at(b.first+i), line)
				}
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
	// If traces were shown in another form, none of their lines would be checked.
	if count < 350 {
		t.Errorf("%d lines of traces found, want at least 350", count)
	}
}

// timestamp begins a line of --trace, traceLine is one, noSource is one of a program
// without known lines, raceLine is one of lesson race.
var (
	timestamp = regexp.MustCompile(`^ *\d+\.\d{6}  `)
	traceLine = regexp.MustCompile(`(\w[\w/]*\.(?:go|py)):(\d+)\s+(\w+)\(`)
	noSource  = regexp.MustCompile(`^ *[\d.]+  -\s+\w+\(`)
	raceLine  = regexp.MustCompile(`in (\w+), (\w[\w/]*\.go):(\d+)`)
)

// The trace of a lesson, as it is printed now, has the form that TestTraces reads.
func TestTraceForm(t *testing.T) {
	t.Parallel()
	file, err := binary()
	proof.Must(t, err)
	server := exec.Command(file, "blocking", "--trace", "--quiet", "--addr", "127.0.0.1:0")
	out, err := server.StdoutPipe()
	proof.Must(t, err)
	server.Stderr = server.Stdout
	proof.Must(t, server.Start())
	calls := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		if m := listening.FindStringSubmatch(line); m != nil {
			client, err := net.Dial("tcp", m[1])
			proof.Must(t, err)
			proof.Must(t, client.Close())
		}
		switch call := traceLine.FindStringSubmatch(line); {
		case call != nil && timestamp.MatchString(line):
			calls++
			number, _ := strconv.Atoi(call[2])
			if err := makesCall(call[1], number, call[3]); err != nil {
				t.Error(err)
			}
		case timestamp.MatchString(line):
			t.Errorf("not a line of a trace: %q", line)
		}
	}
	proof.Must(t, server.Wait())
	if calls < 9 {
		t.Errorf("%d calls in the trace of a client that leaves, want at least 9", calls)
	}
}

var listening = regexp.MustCompile(`^listening on (\S+)`)

// foreign are the words in capitals that other programs print.
var foreign = []string{"DATA", "EPYC", "ESTAB", "NULL", "RACE", "RECV", "TIME", "USER", "VIRT",
	"WAIT", "WARNING"}

// A word in capitals that no program prints is a placeholder for output that is still
// to be filled in.
func TestNoPlaceholders(t *testing.T) {
	var known strings.Builder
	for _, pattern := range []string{"*/*.go", "internal/*/*.go", "internal/*/*/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		proof.Must(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			proof.Must(t, err)
			known.Write(text)
		}
	}
	words := make(map[string]bool)
	for _, word := range slices.Concat(capitals.FindAllString(known.String(), -1), foreign) {
		words[word] = true
	}
	for _, p := range pages(t) {
		for _, b := range p.consoles() {
			shown := b.lines
			if typed := prompts(b); len(typed) > 0 {
				shown = nil
				for _, typed := range typed {
					shown = append(shown, typed.answer...)
				}
			}
			for _, word := range capitals.FindAllString(strings.Join(shown, "\n"), -1) {
				if !words[word] {
					t.Errorf("%s: %s: show what the program prints; a word that "+
						"another program prints goes into foreign", p.at(b.first), word)
				}
			}
		}
	}
}

var capitals = regexp.MustCompile(`\b[A-Z]{4,}\b`)

// quote is the line over quoted code: the file, and what is quoted of it.
var quote = regexp.MustCompile(`(?m)^\[embedmd\]:# \((\S+) (.*)\)$`)

// Code is quoted in one page. Another page refers to it.
func TestQuotedOnce(t *testing.T) {
	where := make(map[string]string)
	for _, p := range pages(t) {
		for _, m := range quote.FindAllStringSubmatch(p.text, -1) {
			code := filepath.Join(filepath.Dir(p.file), m[1]) + " " + m[2]
			if where[code] != "" {
				t.Errorf("%s and %s both quote %s", where[code], p.file, code)
			}
			where[code] = p.file
		}
	}
	if len(where) < 30 {
		t.Errorf("%d quotes found, want at least 30", len(where))
	}
}

// A quote begins and ends with a whole line of the source. An expression that also
// matches in the middle of a comment would quote from there.
func TestQuotesAreWholeLines(t *testing.T) {
	for _, p := range pages(t) {
		for _, b := range p.blocks {
			if b.first < 3 || len(b.lines) == 0 {
				continue
			}
			m := quote.FindStringSubmatch(p.prose[b.first-3])
			if m == nil {
				continue
			}
			source, err := os.ReadFile(filepath.Join(root, filepath.Dir(p.file), m[1]))
			proof.Must(t, err)
			for _, line := range []string{b.lines[0], b.lines[len(b.lines)-1]} {
				if !strings.Contains("\n"+string(source), "\n"+line+"\n") {
					t.Errorf("%s quotes %q, which is not a whole line of %s: "+
						"let the expression match once", p.at(b.first), line, m[1])
				}
			}
		}
	}
}

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

// The page by symptom leads to every exercise: each has the symptom of a real server.
func TestSymptoms(t *testing.T) {
	text, err := docs.Chapters.ReadFile("symptoms.md")
	if err != nil {
		t.Fatal(err)
	}
	exercises, err := fs.Glob(docs.Exercises, "exercises/[0-9]*")
	if err != nil || len(exercises) == 0 {
		t.Fatalf("%d exercises, %v", len(exercises), err)
	}
	for _, exercise := range exercises {
		if !strings.Contains(string(text), "("+exercise+"/README.md)") {
			t.Errorf("docs/symptoms.md does not lead to %s", exercise)
		}
	}
	const least = 25
	if rows := strings.Count(string(text), "\n| ") - 2*strings.Count(string(text), "\n| symptom"); rows < least {
		t.Errorf("%d symptoms, want at least %d", rows, least)
	}
}

// Every lesson has its chapter, in the repository and in the program.
func TestLessonsHaveChapters(t *testing.T) {
	for _, l := range lesson.All() {
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
