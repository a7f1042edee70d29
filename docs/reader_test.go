//go:build linux

package docs_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lesson/internal/proof"
)

// A reader does what a page asks for, from the top to the bottom, in a copy of the
// repository and on a machine of its own: namespaces for processes and for the network.
// What is typed goes into one of these terminals:
//
//   - A lesson, build/server, `crowd hold` and `tour` run in a terminal of their own until the page
//     starts the next one. A reader then presses Ctrl-C first.
//   - `nc HOST PORT`, alone, is typed into: the lines below it are typed, not printed.
//   - Everything else is typed into one shell.
//
// A block without a prompt shows what the lesson has printed since the last such block.
// Comments before a block are for what the page says in words:
//
//	<!-- not run: REASON -->  nothing in the block is run
//	<!-- run: COMMAND -->     a command, not shown; ^C is Ctrl-C in the terminal of the lesson
//	<!-- types: TEXT -->      a line typed into the last nc
//	<!-- not compared: … -->  what the commands print differs from run to run: the REASON
//	<!-- waits -->            the commands are left waiting, in terminals of their own
//	<!-- any order -->        the lines come from several processes, in any order
//	<!-- in the shell -->     the block shows what the shell has printed, not the lesson
//	<!-- file: NAME -->       the block is the content of a file that the reader writes
var marks = regexp.MustCompile(
	`<!-- (not run|not compared|run|types|waits|any order|in the shell|file)(?:: ?(.*?))? -->`)

// unread are the pages that no reader reads, each with its reason.
var unread = map[string]string{
	"docs/bench.md": "it measures for minutes, and needs a quiet machine",
}

// mostNotRun bounds the blocks that are marked as not run or not compared.
const mostNotRun = 55

// Every comment of a page is one that something reads, and what is not run has a reason.
func TestMarks(t *testing.T) {
	skipped := 0
	for _, p := range pages(t) {
		for i, line := range p.prose {
			m := marks.FindStringSubmatch(line)
			switch {
			case m == nil && strings.Contains(line, "<!--") && !generated.MatchString(line):
				t.Errorf("%s: nothing reads the comment %s", p.at(i+1), line)
			case m != nil && strings.HasPrefix(m[1], "not "):
				skipped++
				t.Logf("%s: %s: %s", p.at(i+1), m[1], m[2])
			}
			if m != nil && m[2] == "" && (strings.HasPrefix(m[1], "not ") || m[1] == "run" || m[1] == "file") {
				t.Errorf("%s: what follows the colon in %s?", p.at(i+1), line)
			}
		}
		if reason := unread[p.file]; reason != "" {
			t.Logf("%s: not read: %s", p.file, reason)
		}
	}
	if skipped > mostNotRun {
		t.Errorf("%d blocks are not run or not compared, want at most %d", skipped, mostNotRun)
	}
}

// generated is a comment between which `go generate ./docs` writes.
var generated = regexp.MustCompile(`<!-- (/?figures|count|/count)\b`)

// building bounds how long a reader waits for a lesson that has to be built first.
const building = 3 * time.Minute

// readerOf is the environment variable that names the page to a reader's process, and
// readersLesson the one that names the program of ./cmd/lesson to it.
const readerOf, readersLesson = "LESSON_READER_OF", "LESSON_READERS_LESSON"

// alone returns a command that runs in namespaces of its own.
func alone(command ...string) *exec.Cmd {
	return exec.Command("unshare", append([]string{"--user", "--map-root-user", "--net", "--mount",
		"--pid", "--fork", "--kill-child", "--mount-proc"}, command...)...)
}

// again is held by the page that is read again.
var again sync.Mutex

// readPage has a page read in a process and namespaces of its own.
func readPage(file, program string) ([]byte, error) {
	reader := alone(os.Args[0], "-test.run=^TestOneReader$", "-test.v", "-test.timeout=20m")
	reader.Env = append(os.Environ(), readerOf+"="+file, readersLesson+"="+program)
	return reader.CombinedOutput()
}

func TestReaders(t *testing.T) {
	proof.OnlyExhaustive(t, "every command of every page, in the order of the page; some minutes")
	if out, err := alone("true").CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("unshare: %v\n%s", err, out)
		}
		t.Skipf("no namespaces for a user here, so pages would disturb each other: %s", out)
	}
	program := filepath.Join(t.TempDir(), "lesson")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/lesson").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, p := range pages(t) {
		if unread[p.file] != "" || len(p.consoles()) == 0 {
			continue
		}
		t.Run(filepath.Base(p.file), func(t *testing.T) {
			t.Parallel()
			out, err := readPage(p.file, program)
			if err == nil {
				return
			}
			// The pages show what happens on a quiet machine, and other pages are read at
			// the same time: what fails is read again, one page after the other.
			const tries = 4
			t.Logf("%v\n%s", err, out)
			again.Lock()
			defer again.Unlock()
			for range tries {
				if out, err = readPage(p.file, program); err == nil {
					return
				}
			}
			t.Errorf("%v\n%s", err, out)
		})
	}
}

// TestOneReader is one reader, in its namespaces.
func TestOneReader(t *testing.T) {
	file := os.Getenv(readerOf)
	if file == "" {
		t.Skip("TestReaders starts it in namespaces of its own")
	}
	proof.Must(t, exec.Command("ip", "link", "set", "lo", "up").Run())
	text, err := os.ReadFile(filepath.Join(root, file))
	proof.Must(t, err)
	newReader(t, parse(file, string(text))).read()
}

type reader struct {
	t        *testing.T
	page     *page
	shell    *terminal
	lesson   *terminal // nil when none runs
	holder   *terminal // crowd hold
	typing   *terminal // the last nc
	waiting  []*terminal
	seen     int // lines of the lesson's output that the page has shown
	typed    int // how much the shell had printed before the last block
	commands int
}

// prelude gives a terminal the descriptors of one, and makes short work of three commands:
// go run builds a lesson when a file has changed, and runs it, curl is as quiet as it is on a
// terminal, and so is git, whose answers no page shows.
const prelude = `
for fd in $(ls /proc/$$/fd); do
	[ "$fd" -lt 3 ] || [ "$fd" -eq 255 ] || eval "exec $fd>&-"
done
cd "$DIR"
changed() {
	[ -n "$(find "$DIR" -path "$DIR/.git" -prune -o -type f -newer "$BIN/lesson" -print -quit)" ]
}
go() {
	program=$BIN/lesson
	case "$1 $2 $3" in
	"run -race ./cmd/lesson") shift 3; program=$BIN/race/lesson; command go build -race -o "$program" ./cmd/lesson;;
	"run ./cmd/lesson "*) shift 2; ! changed || { command go build -o "$program" ./cmd/lesson && touch "$program"; };;
	*) command go "$@"; return;;
	esac || return
	"$program" "$@" && return
	set -- $?
	echo "exit status $1" >&2
	return 1
}
curl() { command curl --no-progress-meter "$@"; }
git() { command git "$@" 2> /dev/null; }
`

// ownCopy puts a copy of the repository in its place, for this reader only. At another
// place, all of it would have to be compiled again.
const ownCopy = `cd "$2" && git ls-files -zco --exclude-standard |
	xargs -0 cp --parents --no-dereference -t "$1" && cd "$1" && git init -q && git add -A &&
	git -c user.name=x -c user.email=x@x commit -qm x && mount --bind "$1" "$2"`

func newReader(t *testing.T, p *page) *reader {
	r := &reader{t: t, page: p}
	dir, err := filepath.Abs(root)
	proof.Must(t, err)
	copied := exec.Command("sh", "-c", ownCopy, "sh", t.TempDir(), dir)
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("the copy of the repository: %v\n%s", err, out)
	}
	bin := t.TempDir()
	for name, value := range map[string]string{
		"DIR": dir, "BIN": bin, "PATH": bin + ":" + os.Getenv("PATH"), "HOME": t.TempDir(),
		"GOPATH": goEnv(t, "GOPATH"), "GOCACHE": goEnv(t, "GOCACHE"),
	} {
		t.Setenv(name, value)
	}
	program, err := os.ReadFile(os.Getenv(readersLesson))
	proof.Must(t, err)
	proof.WriteProgram(t, filepath.Join(bin, "lesson"), program)
	r.shell = r.open("while read -r file; do . \"$file\" < /dev/null; echo \"\x01$?\"; done")
	t.Cleanup(func() {
		for _, terminal := range append(r.waiting, r.lesson, r.holder, r.typing, r.shell) {
			terminal.interrupt()
		}
	})
	return r
}

func goEnv(t *testing.T, name string) string {
	out, err := exec.Command("go", "env", name).Output()
	proof.Must(t, err)
	return strings.TrimSpace(string(out))
}

// read reads the page.
func (r *reader) read() {
	last := 0 // the line up to which the page has been read
	for _, b := range r.page.blocks {
		mark := map[string]bool{}
		for _, line := range r.page.prose[last : b.first-1] {
			m := marks.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			switch mark[m[1]] = true; m[1] {
			case "run":
				r.hidden(m[2])
			case "types":
				r.types(m[2])
			case "file":
				file := filepath.Join(os.Getenv("DIR"), m[2])
				text := strings.Join(b.lines, "\n") + "\n"
				proof.Must(r.t, os.WriteFile(file, []byte(text), 0o644))
			}
		}
		last = b.first + len(b.lines)
		switch {
		case b.info != "console" || mark["not run"]:
		case mark["not compared"] && len(prompts(b)) == 0:
		case mark["in the shell"]:
			r.await(b.first, b.lines, mark["any order"], func() []string {
				return r.shell.lines(r.typed)
			})
		case len(prompts(b)) == 0:
			r.shows(b, mark["any order"])
		default:
			r.block(b, mark)
		}
	}
	if r.commands == 0 {
		r.t.Error("the page has no command that is run")
	}
	r.t.Logf("%d commands", r.commands)
}

var (
	// server is a command that ends with Ctrl-C.
	server = regexp.MustCompile(`^(?:\w+=\S+ )*(?:strace .* )?` +
		`(?:go run (?:-race )?\./cmd/lesson|lesson|build/lesson) ` +
		`(?:blocking|loop|threaded|epoll|edgetriggered|tour|trace|crowd hold)\b[^|&]*$` +
		`|^build/server `)
	typedInto = regexp.MustCompile(`^nc [\d.]+ \d+$`)
	ready     = regexp.MustCompile(`(?m)listening on |^\d+$|^http://|listen\(.* = 0|exit status`)
)

func isServer(command string) bool {
	return server.MatchString(command) && !strings.Contains(command, "--export")
}

// withoutComment returns a command without its comment.
func withoutComment(command string) string {
	command, _, _ = strings.Cut(command, "  #")
	return strings.TrimSpace(command)
}

// block types the commands of a block and compares what they print.
func (r *reader) block(b block, mark map[string]bool) {
	r.typed = r.shell.length()
	var want []string
	for _, typed := range prompts(b) {
		calm()
		r.commands++
		switch command := withoutComment(typed.text); {
		case isServer(command):
			r.starts(typed.line, command, typed.answer)
		case typedInto.MatchString(command):
			r.typing = r.open("exec " + command)
			for _, line := range typed.answer {
				r.types(line)
			}
		case mark["waits"]:
			r.waiting = append(r.waiting, r.open(command))
		default:
			r.shell.run(r.t, r.page.at(typed.line), typed.text)
			want = append(want, typed.answer...)
		}
	}
	if len(want) > 0 && !mark["not compared"] {
		r.await(b.first, want, mark["any order"], func() []string {
			return r.shell.lines(r.typed)
		})
	}
}

// hidden does what the page says in words.
func (r *reader) hidden(command string) {
	calm()
	r.commands++
	switch {
	case command == "^C":
		r.lesson.interrupt()
	case isServer(command):
		r.starts(0, command, nil)
	default:
		r.typed = r.shell.length()
		r.shell.run(r.t, command, command)
	}
}

func (r *reader) types(line string) {
	calm()
	_, err := r.typing.in.WriteString(line + "\n")
	proof.Must(r.t, err)
}

// starts runs a lesson, or a holder of connections beside it.
func (r *reader) starts(line int, command string, answer []string) {
	r.holder.interrupt()
	r.holder = nil
	holds := strings.Contains(command, "crowd hold")
	if !holds {
		r.lesson.interrupt()
	}
	started := r.open(command)
	if holds {
		r.holder = started
	} else {
		r.lesson, r.seen = started, 0
	}
	if len(answer) == 0 {
		if !within(building, func() bool { return ready.MatchString(started.text(0)) }) {
			r.t.Fatalf("%s: it has printed only\n%s", command, started.text(0))
		}
		return
	}
	r.await(line, answer, false, func() []string {
		lines := started.lines(0)
		return lines[:min(len(lines), len(answer))]
	})
	if started == r.lesson {
		r.seen = len(answer) - 1 // the last call may not have returned yet
	}
}

// shows compares what the lesson has printed with what the page shows of it.
func (r *reader) shows(b block, anyOrder bool) {
	if r.lesson == nil {
		r.t.Errorf("%s: no lesson runs whose output this could be", r.page.at(b.first))
		return
	}
	var rest []string
	shown := func() bool {
		rest = r.lesson.lines(0)
		rest = rest[min(r.seen, len(rest)):]
		at, ok := contains(rest, b.lines, anyOrder)
		if ok {
			r.seen += at
		}
		return ok
	}
	if !within(proof.Patience, shown) {
		r.t.Errorf("%s: the page shows\n%s\nand the lesson has printed\n%s", r.page.at(b.first),
			strings.Join(b.lines, "\n"), strings.Join(rest[:min(len(rest), 80)], "\n"))
	}
}

// await compares what has been printed with what the page shows.
func (r *reader) await(line int, want []string, anyOrder bool, got func() []string) {
	var lines []string
	same := func() bool {
		lines = got()
		return alike(lines, want, anyOrder)
	}
	if !within(proof.Patience, same) {
		r.t.Errorf("%s: the page shows\n%s\nand this was printed\n%s", r.page.at(line),
			strings.Join(want, "\n"), strings.Join(lines[:min(len(lines), 80)], "\n"))
	}
}

// A terminal runs a command, and keeps what it prints.
type terminal struct {
	cmd   *exec.Cmd
	in    *os.File
	ended chan struct{}

	mu  sync.Mutex
	out bytes.Buffer
}

func (r *reader) open(command string) *terminal {
	in, typed, err := os.Pipe()
	proof.Must(r.t, err)
	terminal := &terminal{in: typed, ended: make(chan struct{})}
	cmd := exec.Command("bash", "-c", prelude+command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	proof.Must(r.t, cmd.Start())
	terminal.cmd = cmd
	proof.Must(r.t, in.Close())
	go func() {
		_ = cmd.Wait() // it may fail: a page may show that
		close(terminal.ended)
	}()
	return terminal
}

func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.Write(p)
}

func (t *terminal) text(from int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.String()[from:]
}

func (t *terminal) length() int { return len(t.text(0)) }

var status = regexp.MustCompile("\x01(\\d+)\n")

// lines returns the lines that were printed, without those that say that a command ended.
// The response of a lesson does not end its line.
func (t *terminal) lines(from int) []string {
	text := status.ReplaceAllString(t.text(from), "")
	text = strings.ReplaceAll(text, "Hello, world!", "Hello, world!\n")
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// run types a command into the shell and waits until it ends.
func (t *terminal) run(test *testing.T, where, command string) {
	file := filepath.Join(test.TempDir(), "typed")
	proof.Must(test, os.WriteFile(file, []byte(command+"\n"), 0o644))
	before := t.length()
	_, err := t.in.WriteString(file + "\n")
	proof.Must(test, err)
	if !within(5*time.Minute, func() bool { return status.MatchString(t.text(before)) }) {
		test.Fatalf("%s: %s has not ended after 5 minutes; it printed\n%s", where, command,
			t.text(before))
	}
}

// interrupt presses Ctrl-C and waits for the end.
func (t *terminal) interrupt() {
	if t == nil {
		return
	}
	_ = t.in.Close() // of a terminal that has been interrupted before, too
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		_ = syscall.Kill(-t.cmd.Process.Pid, signal) // it may have ended
		select {
		case <-t.ended:
			return
		case <-time.After(10 * time.Second):
		}
	}
}

// within waits until something holds, and reports whether it does in that time.
func within(patience time.Duration, holds func() bool) bool {
	for begin := time.Now(); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > patience {
			return false
		}
	}
	return true
}

// calm waits until no process on this machine runs, for two seconds at the most: a
// reader types more slowly than programs react.
func calm() {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		before := runtimes()
		time.Sleep(150 * time.Millisecond)
		if slices.Equal(before, runtimes()) {
			return
		}
	}
}

// runtimes returns what the kernel says of the time that each thread has run, but for
// those of this process.
func runtimes() []string {
	files, _ := filepath.Glob("/proc/[0-9]*/task/*/schedstat")
	var all []string
	for _, file := range files {
		if strings.HasPrefix(file, fmt.Sprintf("/proc/%d/", os.Getpid())) {
			continue
		}
		text, err := os.ReadFile(file)
		if err == nil {
			all = append(all, file+string(text))
		}
	}
	return all
}
