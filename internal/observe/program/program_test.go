//go:build linux

package program

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/child"
	"lesson/internal/kernel"
	"lesson/internal/observe/trace"
	"lesson/internal/proof"
)

const source = "testdata/server/main.go"

// The servers of the tests: one source, built in several ways, each once.
var (
	usual      = sync.OnceValues(build("usual"))
	notInlined = sync.OnceValues(build("not-inlined", "-gcflags=-l"))
	stripped   = sync.OnceValues(build("stripped", "-ldflags=-w"))
	anywhere   = sync.OnceValues(build("anywhere", "-buildmode=pie"))
)

// dir is where they are built.
var dir string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "program-"); err != nil {
		log.Fatal(err)
	}
	status := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		log.Fatal(err)
	}
	os.Exit(status)
}

func build(name string, flags ...string) func() (string, error) {
	return func() (string, error) {
		program := filepath.Join(dir, name)
		args := append(append([]string{"build", "-o", program}, flags...), "./testdata/server")
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build: %w\n%s", err, out)
		}
		return program, nil
	}
}

// built returns the program that a function builds.
func built(t *testing.T, build func() (string, error)) string {
	t.Helper()
	program, err := build()
	proof.Must(t, err)
	return program
}

// A record is the events of a server, as they come.
type record struct {
	mu     sync.Mutex
	events []trace.Event
}

func (l *record) add(e trace.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *record) all() []trace.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// await waits for an event.
func (l *record) await(t *testing.T, what string, is func(trace.Event) bool) trace.Event {
	t.Helper()
	var found trace.Event
	proof.Eventually(t, what, func() bool {
		all := l.all()
		i := slices.IndexFunc(all, is)
		if i >= 0 {
			found = all[i]
		}
		return i >= 0
	})
	return found
}

// entered reports whether an event is the beginning of a call about that client.
func entered(name string, peer netip.AddrPort) func(trace.Event) bool {
	return func(e trace.Event) bool { return e.Name == name && e.Peer == peer && !e.Left }
}

// returned reports whether an event is the end of a call about that client.
func returned(name string, peer netip.AddrPort) func(trace.Event) bool {
	return func(e trace.Event) bool { return e.Name == name && e.Peer == peer && e.Left }
}

// watched starts a server and watches it from its first call on.
func watched(t *testing.T, command ...string) (*child.Server, *record) {
	t.Helper()
	l := new(record)
	s, err := child.Program{Command: command, Born: func(pid int) error {
		_, err := Watch(trace.NewRecorder(l.add), filepath.Base, func() {}, pid)
		return err
	}}.Start(t.Context())
	if errors.Is(err, unix.EPERM) {
		t.Skip("this system does not allow ptrace")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.End(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("its calls: %+v", l.all())
		}
	})
	return s, l
}

func dial(t *testing.T, s *child.Server) (net.Conn, netip.AddrPort) {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may be closed already
	return c, c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// lineOf is the line of the source that ends in that comment, after the text.
func lineOf(t *testing.T, after, comment string) int {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	reached := false
	for i, line := range strings.Split(string(text), "\n") {
		reached = reached || strings.Contains(line, after)
		if reached && strings.HasSuffix(line, "// "+comment) {
			return i + 1
		}
	}
	t.Fatalf("no line ends in // %s after %q", comment, after)
	return 0
}

// Every call is reported with the line that makes it, however the compiler has
// rearranged the functions.
func TestLines(t *testing.T) {
	t.Parallel()
	builds := map[string]func() (string, error){"as usual": usual, "nothing inlined": notInlined}
	if proof.Exhaustive() { // the standard library is compiled for it, which takes half a minute
		builds["loaded anywhere"] = anywhere
	}
	for name, build := range builds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, l := watched(t, built(t, build), "{addr}", "raw")
			c, peer := dial(t, s)
			l.await(t, "read is entered", entered("read", peer))
			if _, err := c.Write([]byte("hi\n")); err != nil {
				t.Fatal(err)
			}
			l.await(t, "close", func(e trace.Event) bool { return e.Name == "close" && e.Left && e.Line > 60 })
			for call, after := range map[string]string{
				"socket": "", "bind": "", "listen": "", "epoll_create1": "", "epoll_ctl": "", "epoll_wait": "",
				"accept4": "", "read": "func talk", "write": "func talk", "shutdown": "", "close": "",
			} {
				want := lineOf(t, after, call)
				if !slices.ContainsFunc(l.all(), func(e trace.Event) bool {
					return e.Name == call && e.File == "main.go" && e.Line == want
				}) {
					t.Errorf("no %s on line %d", call, want)
				}
			}
			read := l.await(t, "read", returned("read", peer))
			if read.Result != 3 || read.Data != `"hi\n"` || !strings.HasSuffix(read.Args, ", 100 bytes") {
				t.Errorf("%+v", read)
			}
		})
	}
}

func TestFirstMapping(t *testing.T) {
	const maps = "55d0c0a00000-55d0c0a95000 r--p 00000000 fe:00 1234      /a server\n" +
		"55d0c0a95000-55d0c0b31000 r-xp 00095000 fe:00 1234      /a server\n" +
		"7f31c3d00000-7f31c3d21000 rw-p 00000000 00:00 0\n"
	if got, found := firstMapping(maps, "/a server"); got != 0x55d0c0a00000 || !found {
		t.Errorf("%#x, %v", got, found)
	}
	if got, found := firstMapping(maps, "/server"); found {
		t.Errorf("of another file: %#x", got)
	}
	at := loaded{&lines{found: map[uint64]position{0x1234: {"main.go", 7}}}, 0x55d0c0a00000}
	if file, line := at.line(0x55d0c0a01234); file != "main.go" || line != 7 {
		t.Errorf("%s:%d", file, line)
	}
}

// Calls of a program of 32 bits have other numbers. That they are missing is reported.
func TestProgramOfAnotherArchitecture(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("the program is one of a PC")
	}
	const code = "\xb8\x1d\x00\x00\x00\xcd\x80\xeb\xf7" // mov eax, 29 (pause); int 0x80; again
	const at, headers = 0x08048000, 52 + 32
	var program bytes.Buffer
	for _, part := range []any{
		elf.Header32{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS32), byte(elf.ELFDATA2LSB), 1},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_386), Version: 1,
			Entry: at + headers, Phoff: 52, Ehsize: 52, Phentsize: 32, Phnum: 1,
		},
		elf.Prog32{
			Type: uint32(elf.PT_LOAD), Vaddr: at, Filesz: headers + uint32(len(code)),
			Memsz: headers + uint32(len(code)), Flags: uint32(elf.PF_R | elf.PF_X), Align: 4096,
		},
		[]byte(code),
	} {
		proof.Must(t, binary.Write(&program, binary.LittleEndian, part))
	}
	file := filepath.Join(t.TempDir(), "program")
	proof.WriteProgram(t, file, program.Bytes())
	found := make(chan struct{})
	l := new(record)
	var watch error
	_, err := child.Program{Command: []string{file}, Born: func(pid int) error {
		_, watch = Watch(trace.NewRecorder(l.add), filepath.Base, func() { close(found) }, pid)
		return watch
	}}.Start(endsWith(t, found))
	switch {
	case errors.Is(watch, unix.EPERM), errors.Is(err, unix.ENOEXEC):
		t.Skipf("this system does not allow it: %v", err)
	case !errors.Is(err, context.Canceled):
		t.Fatal(err)
	}
	if calls := l.all(); len(calls) > 0 {
		t.Errorf("calls %+v", calls)
	}
}

// endsWith returns a context that ends when a channel is closed, or after proof.Patience.
func endsWith(t *testing.T, over <-chan struct{}) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), proof.Patience)
	t.Cleanup(cancel)
	go func() {
		select {
		case <-over:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx
}

// The event has the descriptor also where the program gave it to epoll before the trace.
func TestEventOfAnOlderInterest(t *testing.T) {
	s, err := child.Program{Command: []string{built(t, usual), "{addr}", "raw"}}.Start(t.Context())
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, s.End()) })
	l := new(record)
	_, err = Watch(trace.NewRecorder(l.add), filepath.Base, func() {}, s.Pids()...)
	if errors.Is(err, unix.EPERM) {
		t.Skip("this system does not allow ptrace")
	}
	proof.Must(t, err)
	dial(t, s)
	wait := l.await(t, "epoll_wait returns", func(e trace.Event) bool {
		return e.Name == "epoll_wait" && len(e.Ready) > 0
	})
	accept := l.await(t, "accept4", func(e trace.Event) bool { return e.Name == "accept4" })
	if wait.Ready[0].FD != accept.FD {
		t.Errorf("the event is of %d, want the listener, %d", wait.Ready[0].FD, accept.FD)
	}
}

// Whatever a program gives epoll to hand back, the event has the descriptor.
func TestReadyIsTheDescriptor(t *testing.T) {
	t.Parallel()
	s, l := watched(t, built(t, usual), "{addr}", "raw")
	listen := l.await(t, "listen", func(e trace.Event) bool { return e.Name == "listen" })
	dial(t, s)
	wait := l.await(t, "epoll_wait returns", func(e trace.Event) bool {
		return e.Name == "epoll_wait" && e.Result == 1 && e.Line > 0
	})
	if len(wait.Ready) != 1 || wait.Ready[0].FD != listen.FD || wait.Ready[0].Events != "EPOLLIN" {
		t.Errorf("ready %+v, want %d EPOLLIN", wait.Ready, listen.FD)
	}
}

// On package net, the calls that the library makes belong to the program's line; the
// wait of the runtime belongs to none.
func TestPackageNet(t *testing.T) {
	t.Parallel()
	s, l := watched(t, built(t, usual), "{addr}", "net")
	_, peer := dial(t, s)
	read := l.await(t, "read", returned("read", peer))
	if want := lineOf(t, "func usePackageNet", "read"); read.Line != want || read.Err != "EAGAIN" {
		t.Errorf("line %d, want %d: %+v", read.Line, want, read)
	}
	l.await(t, "the runtime waits", func(e trace.Event) bool {
		return e.Name == "epoll_wait" && !e.Left && e.File == "" && e.Call > read.Call
	})
	for _, e := range l.all() { // its sockets are non-blocking
		if e.Blocked && e.Name != "epoll_wait" {
			t.Errorf("blocked: %+v", e)
		}
	}
}

// A signal that the server survives does not end its call, as it does not for the
// program.
func TestStoppedAndContinued(t *testing.T) {
	t.Parallel()
	s, l := watched(t, built(t, usual), "{addr}", "raw")
	c, peer := dial(t, s)
	read := l.await(t, "read is entered", entered("read", peer))
	proof.Eventually(t, "the read to have blocked", func() bool {
		return new(kernel.Linux).Now()-read.At > 2*time.Millisecond
	})
	for _, signal := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
		if err := unix.Kill(s.Proc.Pid(), signal); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	left := l.await(t, "read returns", returned("read", peer))
	if left.Call != read.Call || left.Result != 1 || !left.Blocked {
		t.Errorf("%+v, want the end of call %d, which blocked", left, read.Call)
	}
}

// The calls of a program without lines are reported all the same.
func TestWithoutLines(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		why     string
		command []string
	}{
		"stripped": {"no debugging information", []string{built(t, stripped), "{addr}", "raw"}},
		"a script without a file": {"", []string{"python3", "-c", `
import socket, sys
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c, _ = l.accept()
    c.recv(100)
    c.close()`, "{port}"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(c.command[0]); err != nil {
				t.Skip(err)
			}
			s, l := watched(t, c.command...)
			_, peer := dial(t, s)
			e := l.await(t, "a call about the client is entered", func(e trace.Event) bool {
				return (e.Name == "read" || e.Name == "recv") && e.Peer == peer && !e.Left
			})
			if e.File != "" || e.Line != 0 {
				t.Errorf("%s:%d", e.File, e.Line)
			}
			if why := WithoutLines(s.Pid()).Text; (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
				t.Errorf("%q, want %q", why, c.why)
			}
		})
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	want, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	if got := Sources(built(t, usual)); !slices.Equal(got, []string{want}) {
		t.Errorf("%q, want %s", got, want)
	}
	for _, program := range []string{built(t, stripped), "/bin/sh", "/no/such"} {
		if got := Sources(program); got != nil {
			t.Errorf("%s has %q", program, got)
		}
	}
	script, err := filepath.Abs("testdata/python/server.py")
	proof.Must(t, err)
	if got := Sources("/bin/sh", "testdata/python/server.py", "no-such.py", "{port}"); !slices.Equal(got, []string{script}) {
		t.Errorf("%q, want %s", got, script)
	}
}

// A server that is not watched any longer continues.
func TestEnd(t *testing.T) {
	t.Parallel()
	var w *Watcher
	command := []string{built(t, usual), "{addr}", "raw"}
	s, err := child.Program{Command: command, Born: func(pid int) error {
		var err error
		w, err = Watch(ignore{}, filepath.Base, func() {}, pid)
		return err
	}}.Start(t.Context())
	if errors.Is(err, unix.EPERM) {
		t.Skip("this system does not allow ptrace")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.End(); err != nil {
			t.Error(err)
		}
	}()
	if err := w.End(); err != nil {
		t.Fatal(err)
	}
	c, _ := dial(t, s)
	if _, err := c.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var answer [2]byte
	if _, err := c.Read(answer[:]); err != nil || string(answer[:]) != "hi" {
		t.Errorf("%q, %v", answer, err)
	}
}

type ignore struct{}

func (ignore) Enter(*trace.Call) {}
func (ignore) Leave(*trace.Call) {}
