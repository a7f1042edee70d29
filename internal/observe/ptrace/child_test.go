//go:build linux

package ptrace

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/proof"
)

// The calls that a child makes on request. The Go runtime makes neither.
const (
	byThreads  = unix.SYS_GETPRIORITY
	byChildren = unix.SYS_GETPGID
)

// patient bounds what must happen; it takes no time of its own.
var patient = proof.Patience

// TestMain makes the test binary the child too.
func TestMain(m *testing.M) {
	if os.Getenv("PTRACE_CHILD") == "" {
		os.Exit(m.Run())
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		os.Exit(1)
	}
}

// A crew is the threads of a child.
type crew struct {
	orders []chan int
	busy   sync.WaitGroup
}

// serve obeys the orders on standard input, a word and a number in a line, and
// answers each with its word. It waits for them in a blocking read(2).
func serve() error {
	got := make(chan os.Signal, 1000)
	signal.Notify(got, unix.SIGUSR1)
	var threads crew
	for {
		line, err := readLine()
		if err != nil || line == "" {
			return err
		}
		word, value, _ := strings.Cut(line, " ")
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		switch word {
		case "threads": // so many more
			threads.grow(n)
		case "calls": // so many by each thread
			threads.call(n)
		case "end": // all threads
			threads.end()
		case "churn": // so many threads, one after the other, that make a call each
			for range n {
				threads.grow(1)
				threads.call(1)
				threads.end()
			}
		case "fork": // so many processes that make 10 calls each, and a thread of theirs 10
			for range n {
				cmd := exec.Command(os.Args[0])
				cmd.Stdin = strings.NewReader("other 10\nthreads 1\ncalls 10\nexit 7\n")
				if err := cmd.Run(); cmd.ProcessState.ExitCode() != 7 {
					return fmt.Errorf("fork: %w", err)
				}
			}
		case "orphan": // a process that lives on with the input and output of this one
			cmd := exec.Command(os.Args[0])
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
			if err := cmd.Start(); err != nil {
				return err
			}
			word = fmt.Sprint("orphan ", cmd.Process.Pid)
		case "other":
			for range n {
				_, _, _ = unix.RawSyscall(byChildren, 0, 0, 0)
			}
		case "signals": // wait for so many
			for range n {
				<-got
			}
		case "exec": // by another thread than the first
			if err := execute(); err != nil {
				return err
			}
		case "exit":
			os.Exit(n)
		}
		if _, err := fmt.Println(word); err != nil {
			return err
		}
	}
}

// readLine reads byte by byte, so that nothing is lost to the next program.
func readLine() (string, error) {
	var line []byte
	for {
		var b [1]byte
		n, err := unix.Read(0, b[:])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return "", err
		case n == 0 || b[0] == '\n':
			return string(line), nil
		default:
			line = append(line, b[0])
		}
	}
}

func (c *crew) grow(n int) {
	for range n {
		orders, ready := make(chan int), make(chan struct{})
		c.orders = append(c.orders, orders)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			close(ready)
			for n := range orders {
				for range n {
					_, _, _ = unix.RawSyscall(byThreads, 0, 0, 0)
				}
				c.busy.Done()
			}
		}()
		<-ready
	}
}

func (c *crew) call(n int) {
	for _, orders := range c.orders {
		c.busy.Add(1)
		orders <- n
	}
	c.busy.Wait()
}

func (c *crew) end() {
	for _, orders := range c.orders {
		close(orders)
	}
	c.orders = nil
}

func execute() error {
	failed := make(chan error)
	var try func()
	try = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			go try() // while this goroutine has the first thread, it gets another
			select {}
		}
		failed <- unix.Exec(os.Args[0], os.Args, os.Environ())
	}
	go try()
	return <-failed
}

// A child is the test's side of serve.
type child struct {
	t        *testing.T
	cmd      *exec.Cmd
	pid      int
	in       *os.File
	out      *os.File
	answers  *bufio.Reader
	waited   chan struct{} // closed when the state is known
	waitOnly sync.Once
}

// start starts a child. With waitAtOnce, a goroutine waits for it, as
// proc.AwaitEnd describes; otherwise end does, at the latest.
func start(t *testing.T, waitAtOnce bool) *child {
	t.Helper()
	inside, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, outside, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	// The runtime must not interrupt its calls: they would be made again.
	cmd.Env = append(os.Environ(), "PTRACE_CHILD=1", "GODEBUG=asyncpreemptoff=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inside, outside, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = inside.Close(), outside.Close()
	c := &child{
		t: t, cmd: cmd, pid: cmd.Process.Pid, in: in, out: out,
		answers: bufio.NewReader(out), waited: make(chan struct{}),
	}
	if waitAtOnce {
		go c.wait()
	}
	t.Cleanup(func() {
		_ = in.Close() // ends the child, and if not:
		if t.Failed() {
			_ = cmd.Process.Kill()
		}
		c.wait()
		_ = out.Close()
	})
	return c
}

// wait is proc.AwaitEnd and then exec.Cmd.Wait.
func (c *child) wait() {
	c.waitOnly.Do(func() {
		defer close(c.waited)
		if err := proc.AwaitEnd(c.pid); err != nil {
			c.t.Error(err)
		}
		_ = c.cmd.Wait() // what it says is in ProcessState
	})
	<-c.waited
}

// ends waits for the child's end and returns how that was.
func (c *child) ends() string {
	c.t.Helper()
	within(c.t, "the child does not end", c.wait)
	return c.cmd.ProcessState.String()
}

// tell gives an order; do waits for the answer too, and returns it.
func (c *child) tell(order string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, order); err != nil {
		c.t.Fatal(err)
	}
}

func (c *child) do(order string) string {
	c.t.Helper()
	c.tell(order)
	return c.answer(order)
}

func (c *child) answer(order string) string {
	c.t.Helper()
	if err := c.out.SetReadDeadline(time.Now().Add(patient)); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.answers.ReadString('\n')
	word, _, _ := strings.Cut(order, " ")
	if err != nil || !strings.HasPrefix(line, word) {
		c.t.Fatalf("after %q: %q, %v\n%s", order, line, err, c.threads())
	}
	return strings.TrimSpace(line)
}

// threads returns a line for each thread of the child: its state, its tracer, how
// often it has stopped to run, and the call in which it is blocked.
func (c *child) threads() string {
	var lines strings.Builder
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", c.pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		call, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "syscall"))
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			switch name {
			case "Pid", "State", "TracerPid", "voluntary_ctxt_switches":
				fmt.Fprintf(&lines, "%s %s, ", name, strings.TrimSpace(value))
			}
		}
		fmt.Fprintf(&lines, "call %s", call)
	}
	return lines.String()
}

// reading reports whether a thread of the child waits for an order.
func (c *child) reading() bool {
	return strings.Contains(c.threads(), fmt.Sprintf("call %d 0x0 ", unix.SYS_READ))
}

// standing reports whether a signal has stopped all threads of the child. When they
// are traced, their state does not show whether they are stopped by a signal or in a
// call: but waitid reports a stop by a signal, and none of PTRACE_LISTEN.
func (c *child) standing() bool {
	before := c.threads()
	for line := range strings.Lines(before) {
		if strings.Contains(line, "(stopped)") {
			continue
		}
		var tid int
		if _, err := fmt.Sscanf(line, "State t (tracing stop), Pid %d,", &tid); err != nil {
			return false
		}
		var info news
		_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid),
			uintptr(unsafe.Pointer(&info)), unix.WSTOPPED|unix.WNOWAIT|unix.WNOHANG|unix.WALL, 0, 0)
		if errno != 0 || info.tid != 0 {
			return false
		}
	}
	return c.threads() == before // each in the same stop all the while
}

// traced reports whether a thread of the child has a tracer.
func (c *child) traced() bool {
	return regexp.MustCompile("TracerPid [^0]").MatchString(c.threads())
}

func (c *child) signal(s unix.Signal) {
	c.t.Helper()
	if err := unix.Kill(c.pid, s); err != nil {
		c.t.Fatal(err)
	}
}

// attach counts the child until the test ends, at the latest.
func (c *child) attach() *Counter {
	c.t.Helper()
	counter, err := Count(c.pid)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { detach(c.t, counter) })
	return counter
}

func detach(t *testing.T, c *Counter) {
	t.Helper()
	if err := c.Detach(); err != nil {
		t.Error(err)
	}
}

func within(t *testing.T, what string, act func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		act()
	}()
	select {
	case <-done:
	case <-time.After(patient):
		t.Fatal(what)
	}
}

// expect compares the counts of some calls, given as name, number, name, number.
func expect(t *testing.T, c *Counter, want ...any) {
	t.Helper()
	counts := c.Counts()
	for i := 0; i < len(want); i += 2 {
		name, n := want[i].(string), int64(want[i+1].(int))
		if counts[name] != n {
			t.Errorf("%s: %d, want %d; all: %v", name, counts[name], n, counts)
		}
	}
}
