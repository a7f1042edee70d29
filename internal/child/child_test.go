//go:build linux

package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/proof"
)

// The servers that the tests start are this test program, started again: with
// "listen ADDR" they listen there, and end by SIGTERM. On [::] they serve only IPv6.
func TestMain(m *testing.M) {
	if len(os.Args) != 3 || os.Args[1] != "listen" {
		os.Exit(m.Run())
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM)
	network := "tcp"
	if strings.HasPrefix(os.Args[2], "[::]") {
		network = "tcp6"
	}
	l, err := net.Listen(network, os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	<-stop
	fmt.Println("stopped")
	if err := l.Close(); err != nil {
		log.Fatal(err)
	}
}

func listenOn(addr string) Program {
	return Program{Name: "test", Command: []string{os.Args[0], "listen", addr}}
}

func start(t *testing.T, p Program) *Server {
	t.Helper()
	s, err := p.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.End(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestAStartedServerListens(t *testing.T) {
	for _, addr := range []string{"{addr}", "{host}:{port}", ":{port}", "127.0.0.1:0", "[::]:{port}"} {
		s := start(t, listenOn(addr))
		c, err := net.Dial("tcp", s.Addr.String())
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		_ = c.Close()
		if pids := s.Pids(); len(pids) != 1 || pids[0] != s.Proc.Pid() {
			t.Errorf("%s: processes %v, not %d", addr, pids, s.Proc.Pid())
		}
	}
}

// A daemon does not stay behind, whatever it has done to be one.
func TestDaemonKeepsNoPort(t *testing.T) {
	for _, environment := range []string{"", "env -i"} {
		const untilItListens = "while ! grep -q :$(printf %04X $1) /proc/net/tcp; do sleep .01; done"
		script := fmt.Sprintf(`setsid %s "$0" listen 127.0.0.1:$1 & %s; exit 0`, environment, untilItListens)
		port, err := FreePort()
		proof.Must(t, err)
		addr := netip.AddrPortFrom(loopback4, port)
		p := Program{Command: []string{"sh", "-c", script, os.Args[0], "{port}"}}
		// It may be seen to listen just before its parent ends.
		s, err := p.StartAt(t.Context(), addr)
		if err == nil {
			<-s.Proc.Ended()
			proof.Must(t, s.End())
		} else if !strings.Contains(err.Error(), "in the foreground") {
			t.Errorf("%q: %v", environment, err)
		}
		if left, err := sockets.ListenersAt(addr); len(left) > 0 || err != nil {
			t.Errorf("%q: it still listens: %+v, %v", environment, left, err)
		}
	}
}

// Interrupted is what has happened, and not what is to blame.
func TestInterruptedBlamesNoPort(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	s, err := Program{Command: []string{"sleep", "60", "{port}"}}.Start(ctx)
	if s != nil || !errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "{port}") {
		t.Errorf("%v", err)
	}
}

// A server that finds its port taken is started again on another.
func TestTakenPortIsTriedElsewhere(t *testing.T) {
	ports := filepath.Join(t.TempDir(), "ports")
	const script = `echo $3 >>"$0"; if [ $(wc -l <"$0") = 1 ]; then echo "bind: Address already in use"; exit 1; fi;
exec "$@"`
	p := Program{Command: []string{"sh", "-c", script, ports, os.Args[0], "listen", "{addr}"}}
	s := start(t, p)
	tried, err := os.ReadFile(ports)
	proof.Must(t, err)
	lines := strings.Fields(string(tried))
	if len(lines) < 2 { // a third when another program has taken the second meanwhile
		t.Fatalf("tried %q, listens at %v", lines, s.Addr)
	}
	if last := lines[len(lines)-1]; lines[0] == lines[1] || last != s.Addr.String() {
		t.Errorf("tried %q, listens at %v", lines, s.Addr)
	}
}

// Waiting for a server that never listens costs next to nothing. A virtual machine that is
// stopped in the middle may count that as processor time, but not each time.
func TestWaitingIsIdle(t *testing.T) {
	const long, tries = time.Second, 5
	var used [tries]time.Duration
	for try := range tries {
		before, err := proc.Ran(os.Getpid())
		proof.Must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		if _, err := (Program{Command: []string{"sleep", "60", "{port}"}}).Start(ctx); err == nil {
			t.Fatal("sleep listens")
		}
		after, err := proc.Ran(os.Getpid())
		proof.Must(t, err)
		if used[try] = after - before; used[try] < long/5 {
			return
		}
	}
	t.Errorf("%v of processor time in %v each", used, long)
}

// The processes of a server are those that it has now, and not what has started it.
func TestProcessesThatAreStartedLate(t *testing.T) {
	goOn := filepath.Join(t.TempDir(), "go-on")
	proof.Must(t, unix.Mkfifo(goOn, 0o600))
	const script = `(exec "$@") & read line <"$0"; sleep 60 & wait`
	s := start(t, Program{Command: []string{
		"sh", "-c", script, goOn, "sh", "-c", `"$@" & sleep 60 & wait`, "sh", os.Args[0], "listen", "{addr}",
	}})
	if pids := s.Pids(); len(pids) < 1 || pids[0] != s.Pid() || slices.Contains(pids, s.Proc.Pid()) {
		t.Errorf("processes %v, of which %d has the listener, and %d has started all", pids, s.Pid(), s.Proc.Pid())
	}
	proof.Eventually(t, "the server and a sleep", func() bool { return len(s.Pids()) == 2 })
	proof.Must(t, os.WriteFile(goOn, []byte("\n"), 0o600))
	proof.Eventually(t, "one more process", func() bool { return len(s.Pids()) == 3 })
	_, err := s.Used()
	proof.Must(t, err)
}

func TestServerThatRunsAlready(t *testing.T) {
	s := start(t, listenOn("{addr}"))
	same, err := At(s.Addr)
	proof.Must(t, err)
	if same.Pid() != s.Pid() || !slices.Equal(same.Pids(), s.Pids()) || same.Ended() {
		t.Errorf("processes %v, want %v", same.Pids(), s.Pids())
	}
	proof.Must(t, same.End())
	if s.Ended() {
		t.Error("it has ended: this program had not started it")
	}
	proof.Must(t, s.End())
	if _, err := same.Used(); !errors.Is(err, proc.ErrGone) {
		t.Errorf("used: %v, want %v", err, proc.ErrGone)
	}
	if none, err := At(s.Addr); none.Pid() != 0 || err != nil {
		t.Errorf("processes %v, %v", none.Pids(), err)
	}
}

func TestStoppedAndContinued(t *testing.T) {
	s := start(t, listenOn("{addr}"))
	for _, signal := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
		proof.Must(t, s.Signal(signal))
		proof.Eventually(t, unix.SignalName(signal)+" to take effect", func() bool {
			stopped, err := s.Stopped()
			proof.Must(t, err)
			return stopped == (signal == unix.SIGSTOP)
		})
	}
}

func TestProcessThatHasTheListener(t *testing.T) {
	p := listenOn("{addr}")
	p.Command = append([]string{"sh", "-c", `"$@"; exit`, "sh"}, p.Command...)
	s := start(t, p)
	if pids := s.Pids(); len(pids) != 1 || pids[0] == s.Proc.Pid() || pids[0] != s.Pid() {
		t.Errorf("processes %v, want a child of %d", pids, s.Proc.Pid())
	}
}

func TestPinned(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !all.IsSet(cpu) {
		cpu++
	}
	p := listenOn("{addr}")
	p.CPUs = []int{cpu}
	s := start(t, p)
	var got, want unix.CPUSet
	want.Set(cpu)
	if err := unix.SchedGetaffinity(s.Proc.Pid(), &got); err != nil || got != want {
		t.Errorf("affinity %v, %v, want %v", got, err, want)
	}
	p.CPUs = []int{1023}
	if _, err := p.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "processors [1023]") {
		t.Errorf("on a processor that is not there: %v", err)
	}
	var now unix.CPUSet
	if err := unix.SchedGetaffinity(0, &now); err != nil || now != all {
		t.Errorf("this thread has affinity %v, %v, want %v", now, err, all)
	}
}

func TestStop(t *testing.T) {
	s := start(t, listenOn("{addr}"))
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if got := string(s.Proc.Output()); got != "stopped\n" {
		t.Errorf("it said %q", got)
	}
	if _, err := s.Used(); !errors.Is(err, proc.ErrGone) {
		t.Errorf("used: %v, want %v", err, proc.ErrGone)
	}
}

func TestWhatDoesNotStart(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	taken := start(t, listenOn("{addr}"))
	text := filepath.Join(t.TempDir(), "text")
	proof.Must(t, os.WriteFile(text, nil, 0o644))
	for _, c := range []struct {
		name    string
		ctx     context.Context
		program Program
		want    string
	}{
		{"no such program", t.Context(), Program{Command: []string{"/no/such"}},
			"cannot start /no/such: no such file or directory; build it first"},
		{"not on the path", t.Context(), Program{Command: []string{"no-such-program"}}, "; build it first"},
		{"in one word", t.Context(), Program{Command: []string{"sleep 60"}}, "; give the command and its arguments as"},
		{"no program", t.Context(), Program{Command: []string{text}}, "; it must be a program: chmod +x " + text},
		{"no such program in a shell", t.Context(), Program{Command: []string{"sh", "-c", "/no/such {port}"}},
			"exit status 127; the command was not found: build it first"},
		{"it ends", t.Context(), Program{Command: []string{"sh", "-c", "echo bye; exit 3 # {port}"}},
			"ended before it listened: exit status 3"},
		{"its last lines", t.Context(), Program{Command: []string{"sh", "-c", "echo bye; exit 3 # {port}"}},
			"its last lines: bye"},
		{"a hint", t.Context(), Program{Command: []string{"sh", "-c", "exit 3"}}, "write {port} or {addr}"},
		{"a taken port", t.Context(), listenOn(taken.Addr.String()), "address already in use"},
		{"interrupted", cancelled, Program{Command: []string{"sleep", "60"}},
			"sleep 60: interrupted before it listened"},
	} {
		s, err := c.program.Start(c.ctx)
		if s != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	taken := start(t, listenOn("{addr}"))
	_, err := listenOn("{addr}").StartAt(t.Context(), taken.Addr)
	want := fmt.Sprintf("exit status 1; port %d is in use: choose another", taken.Addr.Port())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestAnotherPortThanTold(t *testing.T) {
	command := []string{"sh", "-c", fmt.Sprintf("exec %s listen 127.0.0.1:0 # {port}", os.Args[0])}
	if _, err := (Program{Command: command}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "as its command asks") {
		t.Errorf("got %v", err)
	}
}

func TestLessonCommand(t *testing.T) {
	p, err := Lesson("edgetriggered", "--quiet")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want := self + " edgetriggered --addr {addr} --quiet"
	if got := strings.Join(p.Command, " "); got != want || p.Name != "edgetriggered" || p.ChoosesPort() {
		t.Errorf("%q: %s, want %s", p.Name, got, want)
	}
	if _, err := Lesson("nosuch"); err == nil {
		t.Error("there is a lesson nosuch")
	}
}

func TestEveryPortOnce(t *testing.T) {
	seen := map[uint16]bool{}
	for range 200 {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < firstPort || port >= firstPort+portRange {
			t.Errorf("port %d", port)
		}
		seen[port] = true
		// Unless another program has taken it meanwhile: then it is not free any more.
		proof.Eventually(t, fmt.Sprintf("port %d to be free, or taken", port), func() bool {
			l, err := net.Listen("tcp", netip.AddrPortFrom(loopback4, port).String())
			if err != nil {
				return errors.Is(tryPort(int(port)), unix.EADDRINUSE)
			}
			return l.Close() == nil
		})
	}
}

func TestLastWordsAreSafeToPrint(t *testing.T) {
	got := LastWords([]byte(" one\x1b[31m\nTraceback é\xff\t!\n"))
	if want := "one\\x1b[31m\nTraceback é\\xff\\t!"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	const stacks = "\n\ngoroutine 1 [running]:\nmain.main()\n\t/a/b.go:3 +0x1d\n"
	for output, want := range map[string]string{
		"hello\npanic: no" + stacks: "panic: no",
		"runtime: program exceeds 60-thread limit\nfatal error: thread exhaustion" + stacks: "runtime: program" +
			" exceeds 60-thread limit\nfatal error: thread exhaustion",
	} {
		if got := LastWords([]byte(output)); got != want {
			t.Errorf("of %q: %q, want %q", output, got, want)
		}
	}
	if got := LastWords(bytes.Repeat([]byte("x"), 10000)); len(got) != 400 {
		t.Errorf("%d bytes of words", len(got))
	}
}
