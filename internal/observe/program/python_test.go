//go:build linux

package program

import (
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/ptrace"
	"lesson/internal/observe/trace"
	"lesson/internal/proof"
)

const pythonSources = "testdata/python"

// pythonOf returns the interpreter that a command of this machine starts, through whatever
// scripts: "" if there is none.
func pythonOf(command string) string {
	out, err := exec.Command(command, "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// python3 returns the interpreter of this machine.
func python3(t *testing.T) string {
	t.Helper()
	python := pythonOf("python3")
	if python == "" && os.Getenv("CI") == "" {
		t.Skip("there is no python3")
	}
	if python == "" {
		t.Fatal("there is no python3, and this is CI")
	}
	return python
}

// servesInPython starts the server of the tests in one of its ways, in a folder.
func servesInPython(t *testing.T, python, dir, way string) (*child.Server, *record) {
	t.Helper()
	return watched(t, python, "-B", filepath.Join(dir, "server.py"), "{port}", way)
}

// pythonLine returns the line of a file whose comment is the name of a call, after a text.
func pythonLine(t *testing.T, file, after, call string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(pythonSources, file))
	proof.Must(t, err)
	before, rest, _ := strings.Cut(string(text), after)
	until, _, _ := strings.Cut(rest, "# "+call+"\n")
	return 1 + strings.Count(before+after+until, "\n")
}

// However a server in Python waits, each thread of it is on a line of its own source, and not
// on one of the library.
func TestLinesOfPython(t *testing.T) {
	t.Parallel()
	python := python3(t)
	for _, way := range []string{"loop", "threads", "processes", "epoll", "library"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s, l := servesInPython(t, python, pythonSources, way)
			testLinesOfPython(t, s, l, way)
		})
	}
}

func testLinesOfPython(t *testing.T, s *child.Server, l *record, way string) {
	calls := func(name string) (made []trace.Event) {
		for _, e := range l.all() {
			if e.Name == name && !e.Left {
				made = append(made, e)
			}
		}
		return made
	}
	clients := 1
	if way == "threads" || way == "processes" { // which wait for all of them
		clients = 2
	}
	var c net.Conn
	for range clients {
		c, _ = dial(t, s)
	}
	proof.Eventually(t, "each client is waited for", func() bool { return len(calls("recv")) == clients })
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	l.await(t, "close returns", func(e trace.Event) bool {
		return e.Name == "close" && e.Left && e.File == "answers.py"
	})
	for call, at := range map[string]struct{ file, after string }{
		"listen":     {"server.py", "\nlistener"},
		"accept4":    {"server.py", "def " + way + "("},
		"epoll_ctl":  {"server.py", "def " + way + "("},
		"epoll_wait": {"server.py", "def " + way + "("},
		"recv":       {"answers.py", "def"},
		"send":       {"answers.py", "def"},
		"close":      {"answers.py", "def"}, // C calls the library there
	} {
		made, want := calls(call), pythonLine(t, at.file, at.after, call)
		events := way == "epoll" || way == "library"
		if expected := events || !strings.HasPrefix(call, "epoll"); expected != (len(made) > 0) {
			t.Errorf("%d calls of %s", len(made), call)
		}
		for _, e := range made {
			if call == "close" && way == "processes" && e.File == "server.py" {
				continue // the parent's
			}
			if e.File != at.file || e.Line != want {
				t.Errorf("%s is on %s:%d, want %s:%d", call, e.File, e.Line, at.file, want)
			}
		}
	}
}

// Every version that is on this machine, and that has lines, has them: also where the
// folder's name is not ASCII.
func TestVersionsOfPython(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "服务器")
	proof.Must(t, os.CopyFS(dir, os.DirFS(pythonSources)))
	for _, version := range []string{"3.10", "3.11", "3.12", "3.13", "3.14"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			pythons := pythonsOf(t, version)
			if len(pythons) == 0 {
				t.Skipf("there is no Python %s here", version)
			}
			for _, python := range pythons {
				s, l := servesInPython(t, python, dir, "loop")
				why := WithoutLines(s.Pid()).Text
				if version == "3.10" {
					accept := l.await(t, "accept4", func(e trace.Event) bool { return e.Name == "accept4" })
					if accept.File != "" || !strings.Contains(why, "CPython 3.11 to 3.14") {
						t.Errorf("%s: line %d, %q", python, accept.Line, why)
					}
					continue
				}
				if why != "" {
					t.Errorf("%s: %s", python, why)
				}
				testLinesOfPython(t, s, l, "loop")
			}
		})
	}
}

// pythonsOf returns the interpreters of a version: those on the PATH, and those of pyenv.
func pythonsOf(t *testing.T, version string) []string {
	t.Helper()
	home, err := os.UserHomeDir()
	proof.Must(t, err)
	candidates, err := filepath.Glob(filepath.Join(home, ".pyenv/versions", version+".*/bin/python3"))
	proof.Must(t, err)
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		candidates = append(candidates, filepath.Join(dir, "python"+version))
	}
	var found []string
	for _, candidate := range candidates {
		if _, err := os.Stat(candidate); err != nil {
			continue
		}
		python := pythonOf(candidate) // a script of pyenv may start none
		if python, err = filepath.EvalSymlinks(python); err == nil && filepath.IsAbs(python) &&
			!slices.Contains(found, python) {
			found = append(found, python)
		}
	}
	return found
}

// A description that is not understood is refused.
func TestOtherPythons(t *testing.T) {
	const runtime, version = 0x10000, 0x8000
	describe := func(change func(words []uint64)) []uint64 {
		words := make([]uint64, 100)
		words[0], words[1] = binary.NativeEndian.Uint64([]byte("xdebugpy")), 0x030d00f0
		change(words)
		return words
	}
	symbols := map[string]uint64{"_PyRuntime": runtime, "Py_Version": version}
	for name, c := range map[string]struct {
		hex     uint64
		words   []uint64
		symbols map[string]uint64
		refused bool
	}{
		"3.11":           {0x030b07f0, nil, symbols, false},
		"3.13":           {0x030d00f0, describe(func([]uint64) {}), symbols, false},
		"older":          {0x030a00f0, nil, map[string]uint64{"_PyRuntime": runtime}, true},
		"newer":          {0x030f00f0, describe(func(w []uint64) { w[1] = 0x030f00f0 }), symbols, true},
		"nothing there":  {0x030d00f0, nil, symbols, true},
		"no description": {0x030d00f0, describe(func(w []uint64) { w[0]++ }), symbols, true},
		"another's":      {0x030d00f0, describe(func(w []uint64) { w[1] = 0x030e00f0 }), symbols, true},
		"without a lock": {0x030d00f0, describe(func(w []uint64) { w[2] = 1 }), symbols, true},
		"far away":       {0x030d00f0, describe(func(w []uint64) { w[9] = 1 << 40 }), symbols, true},
	} {
		p, err := newPython(c.symbols, func(address uint64, p []byte) error {
			words := c.words
			if address == version {
				words = []uint64{c.hex}
			}
			if 8*len(words) < len(p) {
				return unix.EFAULT
			}
			_, err := binary.Encode(p, binary.NativeEndian, words[:len(p)/8])
			return err
		})
		if (err != nil) != c.refused || (p == nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// blockedInPython starts a server with a thread that waits for a client, and one that waits for
// the next one. It returns what is read of each, and the line that it is on.
func blockedInPython(t *testing.T) (accepts, receives *python, accept, receive trace.Event) {
	t.Helper()
	s, err := child.Program{Command: []string{
		python3(t), "-B", pythonSources + "/server.py", "{port}", "threads",
	}}.Start(t.Context())
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, s.End()) })
	dial(t, s)
	accept = trace.Event{Line: pythonLine(t, "server.py", "def threads(", "accept4")}
	receive = trace.Event{Line: pythonLine(t, "answers.py", "def", "recv")}
	proof.Eventually(t, "both wait", func() bool {
		accept.Thread, receive.Thread = 0, 0
		for _, tid := range proc.ThreadIDs(s.Pid()) {
			in, _ := proc.ThreadBlockedIn(tid) // none: not yet
			switch in.Name() {
			case "accept4":
				accept.Thread = tid
			case "recvfrom":
				receive.Thread = tid
			}
		}
		return accept.Thread != 0 && receive.Thread != 0
	})
	look := func(at *trace.Event) *python {
		found, err := newPrograms().of(at.Thread)
		proof.Must(t, err)
		p := found.(*python)
		file, line, _ := p.place(ptrace.Stop{Thread: at.Thread})
		if line != at.Line {
			t.Fatalf("on %s:%d, not on line %d", file, line, at.Line)
		}
		at.File = file
		return p
	}
	accepts, receives = look(&accept), look(&receive)
	return accepts, receives, accept, receive
}

// What was read before is not taken for another thread's, or for another function's.
func TestPythonRemembers(t *testing.T) {
	t.Parallel()
	accepts, receives, accept, receive := blockedInPython(t)
	accepts.state, receives.state = receives.state, accepts.state
	for p, want := range map[*python]trace.Event{accepts: accept, receives: receive} {
		if file, line, _ := p.place(ptrace.Stop{Thread: want.Thread}); file != want.File || line != want.Line {
			t.Errorf("%s:%d, want %s:%d", file, line, want.File, want.Line)
		}
	}
	begins := uint64(0)
	for address, c := range accepts.codes {
		if c.file != "" {
			begins = address
		}
	}
	read := accepts.read
	accepts.read = func(address uint64, b []byte) error {
		err := read(address, b)
		if address == begins {
			b[accepts.at[firstLine]] += 3 // as in a function three lines below
		}
		return err
	}
	if _, line, _ := accepts.place(ptrace.Stop{Thread: accept.Thread}); line != accept.Line+3 {
		t.Errorf("line %d, want %d", line, accept.Line+3)
	}
}

// Whatever is in the memory where a pointer should be: the line is the right one, or there
// is none, and it is found out soon.
func TestDamagedPython(t *testing.T) {
	t.Parallel()
	p, _, accept, _ := blockedInPython(t)
	read, stop := p.read, ptrace.Stop{Thread: accept.Thread}
	wantFile, wantLine := accept.File, accept.Line
	type part struct{ at, size uint64 }
	var parts []part
	forget := func() { p.state, p.codes = 0, map[uint64]code{} }
	forget()
	p.read = func(address uint64, b []byte) error {
		parts = append(parts, part{address, uint64(len(b))})
		return read(address, b)
	}
	p.place(stop)
	if len(parts) < 10 {
		t.Fatalf("it has read %d times", len(parts))
	}
	for _, damaged := range parts {
		for offset := uint64(0); offset+8 <= damaged.size; offset += 8 {
			at := damaged.at + offset
			values := []uint64{0, 1, at, damaged.at, 0x7ff7_ffff_f000, ^uint64(0), ^uint64(7) >> 1}
			for _, value := range values {
				reads, pointer := 0, false
				p.read = func(address uint64, b []byte) error {
					reads++
					if err := read(address, b); err != nil {
						return err
					}
					if address <= at && at+8 <= address+uint64(len(b)) {
						word := b[at-address : at-address+8]
						was := binary.NativeEndian.Uint64(word)
						pointer = read(was, make([]byte, 1)) == nil
						binary.NativeEndian.PutUint64(word, value)
					}
					return nil
				}
				forget()
				file, line, _ := p.place(stop)
				if file != "" && pointer && (file != wantFile || line != wantLine) {
					t.Errorf("%#x at %#x: %s:%d", value, at, file, line)
				}
				if reads > mostThreads+1000 {
					t.Errorf("%#x at %#x: read %d times", value, at, reads)
				}
			}
		}
	}
	// And if it cannot be read at all.
	for fails := range parts {
		reads := 0
		p.read = func(address uint64, b []byte) error {
			if reads++; reads > fails {
				return unix.ESRCH
			}
			return read(address, b)
		}
		forget()
		if file, line, _ := p.place(stop); file != "" {
			t.Errorf("without the memory after %d reads: %s:%d", fails, file, line)
		}
	}
}

// A location table is read as CPython writes it, also one that ends too early.
func TestLineIn(t *testing.T) {
	entry := func(kind, instructions byte, rest ...byte) []byte {
		return append([]byte{0x80 | kind<<3 | (instructions - 1)}, rest...)
	}
	table := slices.Concat(
		entry(0, 2, 0x12),        // two instructions on the first line
		entry(11, 1, 1, 2),       // one on the next
		entry(15, 1),             // one without a line
		entry(13, 8, 0x40|41, 2), // eight, 84 lines back
		entry(14, 1, 6, 0, 1, 1), // one, three lines on
	)
	for index, want := range []int{100, 100, 101, 0, 17, 17, 17, 17, 17, 17, 17, 17, 20, 0} {
		if got := lineIn(table, 100, uint64(index)); got != want {
			t.Errorf("instruction %d: line %d, want %d", index, got, want)
		}
	}
	for end := range table {
		lineIn(table[:end], 100, 13) // and returns
	}
}

func TestIsOwn(t *testing.T) {
	for file, want := range map[string]bool{
		"/home/a/server.py":                               true,
		"/home/a/lib/server.py":                           true,
		"/home/a/python3/server.py":                       true,
		"/usr/lib/python3.11/selectors.py":                false,
		"/usr/lib64/python3.12/selectors.py":              false,
		"/home/a/.venv/lib/python3.13/site-packages/x.py": false,
		"/usr/lib/python3/dist-packages/x.py":             false,
		"/usr/lib/python311.zip/x.py":                     false,
		"<frozen importlib._bootstrap>":                   false,
		"<string>":                                        false,
		"server.py" /* in which folder is not known */ :   false,
		"":                                                false,
	} {
		if got := isOwn(file); got != want {
			t.Errorf("%s: %v", file, got)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		raw   string
		width int
		want  string
	}{
		{"/a.py", 1, "/a.py"},
		{"/\xe9", 1, "/é"},
		{"/\x00\x0d\x67", 2, "/服"},
		{"/\x00\xe9\xdc", 2, "/\xe9"}, // a name that is not UTF-8
		{"/\x00\x00\x00\x0d\xf4\x01\x00", 4, "/🐍"},
	} {
		if got := decode([]byte(c.raw), c.width); got != c.want {
			t.Errorf("%q: %q, want %q", c.raw, got, c.want)
		}
	}
}
