//go:build linux

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"lesson/internal/proof"
	"lesson/internal/protocol"
)

// TestMain lets the scripts run this test binary as the command lesson.
func TestMain(m *testing.M) {
	testscript.Main(abreast{m}, map[string]func(){"lesson": main})
}

// abreast runs more tests at a time than there are processors: most of them wait.
type abreast struct{ *testing.M }

func (a abreast) Run() int {
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err) // there is no such flag
	}
	return a.M.Run()
}

// TestScript runs testdata/script/*.txtar. Beside the commands of testscript, a
// script has these:
//
//	serve [-unread] NAME ARG...   start lesson ARG... and wait until it listens;
//	                              set $ADDR, $PORT and $PID. -unread: no program reads its stdout
//	waitlog NAME PATTERN          wait until its stderr so far matches
//	waitout NAME PATTERN          the same for its stdout
//	output NAME                   what it has printed so far, as stdout and stderr
//	holds NAME N                  wait until it has accepted N connections
//	exhaust NAME                  let it open no more descriptors
//	relieve NAME                  let it open descriptors again
//	stuck NAME                    wait until it is stuck in printing (-unread)
//	places NAME                   check every file and line of its trace
//	signal NAME INT|TERM          send it a signal
//	ends NAME STATUS              wait for its end, with a status or by a signal;
//	                              its output becomes stdout and stderr
//	request TEXT                  send TEXT to $ADDR; the answer becomes stdout
//	connect CLIENT                connect to $ADDR
//	write CLIENT TEXT             send TEXT
//	answer CLIENT                 read up to end of file and close; becomes stdout
//	fails [-unprivileged] STATUS ARG...
//	                              run lesson ARG...; it must fail with this status,
//	                              with one line on stderr and none on stdout
//	pty COLUMNS ARG...            run lesson ARG... on a terminal that wide; what it
//	                              shows becomes stdout
//
// TEXT has the escapes of Go: '\r\n'. $BIG is a request of 8,002 bytes, $HUGE is
// one that is too large, the file hello is the answer of every lesson.
func TestScript(t *testing.T) {
	if proof.Exhaustive() {
		t.Log("exhaustive: the scripts that keep both processors busy, too")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// The race detector would make every command end a second late.
			env.Setenv("GORACE", "atexit_sleep_ms=0 "+env.Getenv("GORACE"))
			// A request that fills a pipe.
			env.Setenv("BIG", strings.Repeat("x", 8000)+`\n\n`)
			env.Setenv("HUGE", strings.Repeat("x", protocol.MaxRequest+1))
			// The answer that every lesson gives, for cmp.
			hello := filepath.Join(env.WorkDir, "hello")
			if err := os.WriteFile(hello, protocol.Response, 0o666); err != nil {
				return err
			}
			w := &world{servers: make(map[string]*process), clients: make(map[string]net.Conn)}
			env.Values[worldKey{}] = w
			env.Defer(w.end)
			return nil
		},
		Condition: condition,
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve":   positive(1, serveCmd),
			"waitlog": positive(2, waitlogCmd),
			"waitout": positive(2, waitoutCmd),
			"output":  positive(1, outputCmd),
			"holds":   positive(2, holdsCmd),
			"exhaust": positive(1, exhaustCmd),
			"relieve": positive(1, relieveCmd),
			"stuck":   positive(1, stuckCmd),
			"places":  positive(1, placesCmd),
			"signal":  positive(2, signalCmd),
			"ends":    positive(2, endsCmd),
			"request": positive(1, requestCmd),
			"connect": positive(1, connectCmd),
			"write":   positive(2, writeCmd),
			"answer":  positive(1, answerCmd),
			"fails":   positive(1, failsCmd),
			"pty":     positive(1, ptyCmd),
		},
	})
}

// patience bounds every wait for something that must happen. It is long: only
// a test that fails ever waits for it.
const patience = 30 * time.Second

// promise is how soon a signal ends a lesson, and a second for a busy machine.
const promise = 3 * time.Second

// world is what the commands of one script share.
type world struct {
	servers map[string]*process
	clients map[string]net.Conn
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

func (w *world) end() {
	for _, c := range w.clients {
		c.Close()
	}
	for _, p := range w.servers {
		p.kill()
	}
}

// positive is a command that cannot be negated and takes at least so many
// arguments.
func positive(
	least int, command func(ts *testscript.TestScript, args []string),
) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least {
			ts.Fatalf("bad use; see TestScript")
		}
		command(ts, args)
	}
}

func condition(name string) (bool, error) {
	switch name {
	case "ipv6":
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			return false, nil
		}
		return true, l.Close()
	case "small-pages": // the least that a pipe holds is a page
		return os.Getpagesize() < 8000, nil
	case "exhaustive":
		return proof.Exhaustive(), nil
	case "hangup": // nohup makes programs ignore it, and these respect that
		return !signal.Ignored(unix.SIGHUP), nil
	case "privileged-ports":
		text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		if err != nil {
			return false, nil
		}
		start, err := strconv.Atoi(strings.TrimSpace(string(text)))
		return start > 1, err
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// A transcript is all that a process has printed so far.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// A process is a lesson that runs in the background.
type process struct {
	cmd         *exec.Cmd
	out, log    transcript
	unread      *os.File      // the reading end of its stdout, if no program is to read it
	ended       chan struct{} // closed when it has ended
	signalledAt time.Time
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
	if p.unread != nil {
		p.unread.Close()
	}
}

// lessonCommand is the command lesson, with the environment of the script.
func lessonCommand(ts *testscript.TestScript, args ...string) *exec.Cmd {
	cmd := exec.Command("lesson", args...)
	cmd.Env = os.Environ()
	for _, name := range []string{"GORACE", "NO_COLOR", "TERM"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

func serveCmd(ts *testscript.TestScript, args []string) {
	unread := args[0] == "-unread"
	if unread {
		args = args[1:]
	}
	name, args := args[0], args[1:]
	w := worldOf(ts)
	if w.servers[name] != nil {
		ts.Fatalf("there is a %s already", name)
	}
	given := false
	for _, arg := range args {
		given = given || arg == "--addr"
	}
	if !given {
		args = append(args, "--addr", "127.0.0.1:0")
	}
	p := &process{cmd: lessonCommand(ts, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	if unread {
		r, stdout, err := os.Pipe()
		ts.Check(err)
		defer stdout.Close()
		_, err = unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize())
		ts.Check(err)
		p.cmd.Stdout, p.unread = stdout, r
	}
	ts.Check(p.cmd.Start())
	w.servers[name] = p
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the status is in ProcessState
	}()

	listening := regexp.MustCompile(`(?m)^listening on (\S+:(\d+)) `)
	until(ts, p, "its line \"listening on\"", func() bool {
		return listening.MatchString(p.log.String())
	})
	addr := listening.FindStringSubmatch(p.log.String())
	ts.Setenv("ADDR", addr[1])
	ts.Setenv("PORT", addr[2])
	ts.Setenv("PID", strconv.Itoa(p.cmd.Process.Pid))
}

func serverOf(ts *testscript.TestScript, name string) *process {
	p := worldOf(ts).servers[name]
	if p == nil {
		ts.Fatalf("there is no %s", name)
	}
	return p
}

// until waits for a condition that p is to bring about.
func until(ts *testscript.TestScript, p *process, what string, condition func() bool) {
	for start := time.Now(); !condition(); time.Sleep(time.Millisecond) {
		over := false
		select {
		case <-p.ended: // all it has printed is here
			over = !condition()
		default:
		}
		if over || time.Since(start) > patience {
			ts.Fatalf("no sign of %s\n[ended] %v\n[stdout]\n%s\n[stderr]\n%s",
				what, over, &p.out, &p.log)
		}
	}
}

func waitlogCmd(ts *testscript.TestScript, args []string) {
	p, pattern := serverOf(ts, args[0]), regexp.MustCompile("(?m)"+args[1])
	until(ts, p, args[1], func() bool { return pattern.MatchString(p.log.String()) })
}

func waitoutCmd(ts *testscript.TestScript, args []string) {
	p, pattern := serverOf(ts, args[0]), regexp.MustCompile("(?m)"+args[1])
	until(ts, p, args[1], func() bool { return pattern.MatchString(p.out.String()) })
}

func (p *process) show(ts *testscript.TestScript) {
	fmt.Fprint(ts.Stdout(), &p.out)
	fmt.Fprint(ts.Stderr(), &p.log)
}

func outputCmd(ts *testscript.TestScript, args []string) { serverOf(ts, args[0]).show(ts) }

// holdsCmd waits until the process has so many sockets, and the listener.
func holdsCmd(ts *testscript.TestScript, args []string) {
	p := serverOf(ts, args[0])
	wanted, err := strconv.Atoi(args[1])
	ts.Check(err)
	until(ts, p, args[1]+" connections", func() bool {
		folder := fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid)
		entries, err := os.ReadDir(folder)
		ts.Check(err)
		sockets := 0
		for _, entry := range entries {
			target, _ := os.Readlink(filepath.Join(folder, entry.Name())) // closed since: nothing
			if strings.HasPrefix(target, "socket:") {
				sockets++
			}
		}
		return sockets == wanted+1
	})
}

// exhaustCmd forbids the process the lowest number that is free, and all above.
// It waits until all its threads sleep: a call that is in the trace as entered
// has then reached the kernel, and accept4 has taken its number.
func exhaustCmd(ts *testscript.TestScript, args []string) {
	p := serverOf(ts, args[0])
	until(ts, p, "sleep", p.asleep)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	ts.Check(err)
	taken := make(map[string]bool)
	for _, entry := range entries {
		taken[entry.Name()] = true
	}
	free := 0
	for taken[strconv.Itoa(free)] {
		free++
	}
	limitDescriptors(ts, p, uint64(free))
}

// asleep says whether all threads of the process sleep in the kernel.
func (p *process) asleep() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	for _, file := range threads {
		text, _ := os.ReadFile(file) // ended since: not asleep, look again
		// The state comes after the name, which is in parentheses.
		_, state, _ := strings.Cut(string(text), ") ")
		if !strings.HasPrefix(state, "S") {
			return false
		}
	}
	return err == nil && len(threads) > 0
}

func relieveCmd(ts *testscript.TestScript, args []string) {
	limitDescriptors(ts, serverOf(ts, args[0]), 1000)
}

func limitDescriptors(ts *testscript.TestScript, p *process, soft uint64) {
	var limit unix.Rlimit
	ts.Check(unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &limit))
	limit.Cur = soft
	ts.Check(unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_NOFILE, &limit, nil))
}

// stuckCmd waits until there is no room in the pipe that no program reads: the next
// write blocks.
func stuckCmd(ts *testscript.TestScript, args []string) {
	p := serverOf(ts, args[0])
	until(ts, p, "a full pipe", func() bool {
		n, err := unix.IoctlGetInt(int(p.unread.Fd()), unix.TIOCINQ)
		ts.Check(err)
		return n == os.Getpagesize()
	})
}

var signals = map[string]unix.Signal{"INT": unix.SIGINT, "TERM": unix.SIGTERM, "HUP": unix.SIGHUP}

func signalCmd(ts *testscript.TestScript, args []string) {
	p := serverOf(ts, args[0])
	p.signalledAt = time.Now()
	ts.Check(p.cmd.Process.Signal(signals[args[1]]))
}

func endsCmd(ts *testscript.TestScript, args []string) {
	p := serverOf(ts, args[0])
	select {
	case <-p.ended:
	case <-time.After(patience):
		ts.Fatalf("it does not end\n[stdout]\n%s\n[stderr]\n%s", &p.out, &p.log)
	}
	took := time.Since(p.signalledAt)
	p.show(ts)
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	got := strconv.Itoa(status.ExitStatus())
	if status.Signaled() {
		got = strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG")
	}
	if got != args[1] {
		ts.Fatalf("ended with %s, want %s", got, args[1])
	}
	if !p.signalledAt.IsZero() && got == "0" && took > promise {
		ts.Fatalf("it took %v to end", took)
	}
}

// The line of a trace: the file, the line, the call.
var traced = regexp.MustCompile(`(?m)^ *\d+\.\d{6}  (\S+\.go):(\d+) +(\w+)\(`)

// placesCmd checks that every call in a trace stands where the trace says it
// does.
func placesCmd(ts *testscript.TestScript, args []string) {
	found := traced.FindAllStringSubmatch(serverOf(ts, args[0]).log.String(), -1)
	if len(found) == 0 {
		ts.Fatalf("there is no trace")
	}
	for _, m := range found {
		file, call := m[1], m[3]
		number, err := strconv.Atoi(m[2])
		ts.Check(err)
		text, err := os.ReadFile(filepath.Join(repository, file))
		ts.Check(err)
		source := strings.Split(string(text), "\n")
		if number > len(source) {
			ts.Fatalf("%s has no line %d", file, number)
		}
		if line := source[number-1]; !makes(line, call) {
			ts.Fatalf("%s:%d is said to call %s: %s", file, number, call, line)
		}
	}
}

// repository is the root of the repository, from this folder.
const repository = "../.."

// makes says whether a line of a lesson makes a call, itself or by way of the
// ground floor.
func makes(line, call string) bool {
	method := "" // "epoll_wait" is EpollWait
	for part := range strings.SplitSeq(call, "_") {
		method += strings.ToUpper(part[:1]) + part[1:]
	}
	line = strings.TrimSpace(line)
	switch {
	case strings.Contains(line, "."+method): // "." keeps EpollCtl from being any Ctl
		return true
	case strings.Contains(line, "server.Listen("):
		return strings.Contains("socket setsockopt bind listen getsockname", call)
	case call == "shutdown":
		return strings.Contains(line, ".Stop()") || strings.Contains(line, ".Waiting(")
	case call == "close":
		// A deferred close is made where its function ends.
		return strings.Contains(line, ".CloseListener()") || line == "}" ||
			strings.HasPrefix(line, "return")
	}
	return false
}

func unescape(ts *testscript.TestScript, text string) []byte {
	plain, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
	ts.Check(err)
	return []byte(plain)
}

func dial(ts *testscript.TestScript) net.Conn {
	conn, err := net.DialTimeout("tcp", ts.Getenv("ADDR"), patience)
	ts.Check(err)
	ts.Check(conn.SetDeadline(time.Now().Add(patience)))
	return conn
}

func requestCmd(ts *testscript.TestScript, args []string) {
	conn := dial(ts)
	defer conn.Close()
	_, err := conn.Write(unescape(ts, args[0]))
	ts.Check(err)
	_, err = io.Copy(ts.Stdout(), conn)
	ts.Check(err)
}

func connectCmd(ts *testscript.TestScript, args []string) {
	worldOf(ts).clients[args[0]] = dial(ts)
}

func clientOf(ts *testscript.TestScript, name string) net.Conn {
	conn := worldOf(ts).clients[name]
	if conn == nil {
		ts.Fatalf("there is no client %s", name)
	}
	return conn
}

func writeCmd(ts *testscript.TestScript, args []string) {
	_, err := clientOf(ts, args[0]).Write(unescape(ts, args[1]))
	ts.Check(err)
}

func answerCmd(ts *testscript.TestScript, args []string) {
	conn := clientOf(ts, args[0])
	_, err := io.Copy(ts.Stdout(), conn)
	ts.Check(err)
	ts.Check(conn.Close())
}

func failsCmd(ts *testscript.TestScript, args []string) {
	unprivileged := args[0] == "-unprivileged"
	if unprivileged {
		args = args[1:]
	}
	cmd := lessonCommand(ts, args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if unprivileged {
		ts.Check(startUnprivileged(cmd))
	} else {
		ts.Check(cmd.Start())
	}
	stop := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		ts.Check(err)
	}
	fmt.Fprint(ts.Stdout(), &stdout)
	fmt.Fprint(ts.Stderr(), &stderr)
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
	text := stderr.String()
	if !strings.HasPrefix(text, "lesson: ") || strings.Count(text, "\n") != 1 {
		ts.Fatalf("want one line on stderr that begins with \"lesson: \"")
	}
	if stdout.Len() != 0 {
		ts.Fatalf("want nothing on stdout")
	}
}

// startUnprivileged starts a command that may not use ports below 1024, even
// when it is started by root.
func startUnprivileged(cmd *exec.Cmd) error {
	return onOwnThread(func() error {
		const drop, capability = unix.PR_CAPBSET_DROP, unix.CAP_NET_BIND_SERVICE
		err := unix.Prctl(drop, capability, 0, 0, 0)
		if err != nil && err != unix.EPERM { // not root: there is nothing to give up
			return err
		}
		return cmd.Start()
	})
}

// onOwnThread calls f on a thread of its own. What the thread gives up it cannot get
// back, and its children never have. It ends with its goroutine, which stays locked
// to it.
func onOwnThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- f()
	}()
	return <-result
}

func ptyCmd(ts *testscript.TestScript, args []string) {
	columns, err := strconv.Atoi(args[0])
	ts.Check(err)
	master, slave := openPty(ts, uint16(columns))
	defer master.Close()
	cmd := lessonCommand(ts, args[1:]...)
	cmd.Stdout, cmd.Stderr = slave, slave
	ts.Check(cmd.Start())
	slave.Close()
	// Reading ends with EIO when no process has the other end open any more.
	if _, err := io.Copy(ts.Stdout(), master); err != nil && !errors.Is(err, unix.EIO) {
		ts.Check(err)
	}
	ts.Check(cmd.Wait())
}

// openPty makes a terminal: pty(7).
func openPty(ts *testscript.TestScript, columns uint16) (master, slave *os.File) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	ts.Check(err)
	ts.Check(unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)) // unlock it
	number, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	ts.Check(err)
	size := &unix.Winsize{Row: 24, Col: columns}
	ts.Check(unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, size))
	name := path.Join("/dev/pts", strconv.Itoa(int(number)))
	slave, err = os.OpenFile(name, os.O_RDWR|unix.O_NOCTTY, 0)
	ts.Check(err)
	return os.NewFile(uintptr(fd), "/dev/ptmx"), slave
}
