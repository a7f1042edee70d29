//go:build linux

package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/trace"
	"lesson/internal/server"
)

// patience bounds every wait for something that must happen.
const patience = 20 * time.Second

// recorder makes no shutdown and no close, and notes those it was asked for;
// all else is real.
type recorder struct {
	kernel.Kernel
	mu  sync.Mutex
	did []string
	err error // what they return
}

func (r *recorder) note(format string, args ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.did = append(r.did, fmt.Sprintf(format, args...))
	return r.err
}

func (r *recorder) Shutdown(fd, how int) error { return r.note("shutdown %d %d", fd, how) }
func (r *recorder) Close(fd int) error         { return r.note("close %d", fd) }

var any4 = netip.MustParseAddrPort("127.0.0.1:0")

// listen is a Base with a real listener.
func listen(t *testing.T, k kernel.Kernel, options server.Options) *server.Base {
	t.Helper()
	if !options.Addr.IsValid() {
		options.Addr = any4
	}
	b, err := server.Listen(k, options, unix.SOCK_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What Stop, CloseListener, Waiting and NotWaiting do, in every order that
// matters. Of the steps, "+9" is Waiting(9) and "-9" is NotWaiting(9); in what
// they do, L is the listener. Contract: B12.
func TestStop(t *testing.T) {
	tests := []struct{ steps, want string }{
		{"stop", "shutdown L 0"},
		{"stop stop", "shutdown L 0"},
		{"close", "close L"},
		{"close close", "close L"},
		{"stop close", "shutdown L 0, close L"},
		// Once closed, its number may be another socket's.
		{"close stop", "close L"},
		{"close stop close", "close L"},

		{"+90", ""},
		{"+90 stop", "shutdown L 0, shutdown 90 0"},
		{"+90 stop stop", "shutdown L 0, shutdown 90 0"},
		{"+90 -90 stop", "shutdown L 0"},
		{"+90 stop -90", "shutdown L 0, shutdown 90 0"},
		{"+90 -90 +90 stop", "shutdown L 0, shutdown 90 0"},
		{"+90 +91 -90 stop", "shutdown L 0, shutdown 91 0"},
		{"+90 close +91 stop", "close L, shutdown 90 0, shutdown 91 0"},
		// Stop has been and gone: without a shutdown it would wait forever.
		{"stop +90", "shutdown L 0, shutdown 90 0"},
		{"stop close +90", "shutdown L 0, close L, shutdown 90 0"},
	}
	for _, test := range tests {
		for _, failure := range []error{nil, unix.ENOTCONN} { // either way the same
			k := &recorder{Kernel: new(kernel.Linux), err: failure}
			b := listen(t, k, server.Options{})
			for step := range strings.FieldsSeq(test.steps) {
				fd, _ := strconv.Atoi(step[1:])
				switch {
				case step == "stop":
					b.Stop()
				case step == "close":
					b.CloseListener()
				case step[0] == '+':
					b.Waiting(fd)
				case step[0] == '-':
					b.NotWaiting(fd)
				}
			}
			closed := false
			select {
			case <-b.Stopped:
				closed = true
			default:
			}
			stop := strings.Contains(test.steps, "stop")
			if b.Stopping() != stop || closed != stop {
				t.Errorf("%s: Stopping %v, Stopped closed %v", test.steps, b.Stopping(), closed)
			}
			// Of several that wait, any may be shut down first.
			slices.SortStableFunc(k.did, func(x, y string) int {
				return strings.Compare(number(x), number(y))
			})
			want := strings.ReplaceAll(test.want, "L", fmt.Sprint(b.Listener))
			if got := strings.Join(k.did, ", "); got != want {
				t.Errorf("%s: did %q, want %q", test.steps, got, want)
			}
			if err := unix.Close(b.Listener); err != nil {
				t.Error(err)
			}
		}
	}
}

// number is the descriptor of "shutdown 90 0" when it is one of the table's,
// else nothing.
func number(did string) string {
	if fd := strings.Fields(did)[1]; len(fd) == 2 && fd[0] == '9' {
		return fd
	}
	return ""
}

// A Base without a listener has none to shut down or close.
func TestStopWithoutListener(t *testing.T) {
	k := &recorder{Kernel: new(kernel.Linux)}
	b := server.New(k, server.Options{})
	b.Stop()
	b.CloseListener()
	if len(k.did) != 0 || b.Listener != -1 {
		t.Errorf("did %q with listener %d", k.did, b.Listener)
	}
}

// Everything at once; the race detector looks on. However it falls out, every
// descriptor that waits is shut down once, and none that does not.
func TestStopConcurrently(t *testing.T) {
	for range 50 {
		k := &recorder{Kernel: new(kernel.Linux)}
		b := listen(t, k, server.Options{})
		var all sync.WaitGroup
		for range 2 {
			all.Go(b.Stop)
		}
		all.Go(b.CloseListener)
		for fd := range 4 {
			all.Go(func() { b.Waiting(100 + fd) })
			all.Go(func() {
				b.Waiting(200 + fd)
				b.NotWaiting(200 + fd)
			})
		}
		all.Wait()
		count := make(map[string]int)
		for _, did := range k.did {
			count[did]++
		}
		for fd := range 4 {
			if n := count[fmt.Sprintf("shutdown %d 0", 100+fd)]; n != 1 {
				t.Errorf("a descriptor that waits was shut down %d times", n)
			}
		}
		listener := fmt.Sprint(b.Listener)
		if n := count["close "+listener]; n != 1 {
			t.Errorf("the listener was closed %d times", n)
		}
		shut := slices.Index(k.did, "shutdown "+listener+" 0")
		if shut > slices.Index(k.did, "close "+listener) {
			t.Errorf("the listener was shut down after it had been closed: %q", k.did)
		}
		if err := unix.Close(b.Listener); err != nil {
			t.Error(err)
		}
	}
}

// outcome is what a call in another goroutine returned.
type outcome struct {
	n   int
	err error
}

// start makes a call that blocks, on a goroutine of its own.
func start(call func() (int, error)) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		n, err := call()
		for err == unix.EINTR { // the Go runtime's own signals
			n, err = call()
		}
		done <- outcome{n, err}
	}()
	return done
}

func result(t *testing.T, done <-chan outcome) outcome {
	t.Helper()
	select {
	case o := <-done:
		return o
	case <-time.After(patience):
		t.Fatalf("still blocked after %v", patience)
		panic("unreachable")
	}
}

// One call reaches a server wherever it waits: this is Linux's doing, and all
// lessons rely on it. Contract: B12.
func TestStopEndsEveryWait(t *testing.T) {
	linux := new(kernel.Linux)
	b, err := server.Listen(linux, server.Options{Addr: any4}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.CloseListener()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	epfd, err := linux.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(epfd)
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(b.Listener)}
	if err := linux.EpollCtl(epfd, unix.EPOLL_CTL_ADD, b.Listener, event); err != nil {
		t.Fatal(err)
	}

	entered := make(chan trace.Call, 10)
	k := trace.Traced(linux, enterer(entered))
	b.Waiting(pair[0])
	accept := start(func() (int, error) { return k.Accept4(b.Listener, unix.SOCK_CLOEXEC) })
	read := start(func() (int, error) { return k.Read(pair[0], make([]byte, 1)) })
	events := make([]unix.EpollEvent, 4)
	wait := start(func() (int, error) { return k.EpollWait(epfd, events, -1) })
	for range 3 { // all are on their way into the kernel
		<-entered
	}

	b.Stop()
	if o := result(t, accept); o.n != -1 || o.err != unix.EINVAL {
		t.Errorf("accept4 = %d, %v; want -1, EINVAL", o.n, o.err)
	}
	if o := result(t, read); o.n != 0 || o.err != nil {
		t.Errorf("read = %d, %v; want 0, as at end of file", o.n, o.err)
	}
	if o := result(t, wait); o.n != 1 || events[0].Events&unix.EPOLLHUP == 0 {
		t.Errorf("epoll_wait = %d, %v, %+v; want EPOLLHUP", o.n, o.err, events[0])
	}
}

type enterer chan trace.Call

func (e enterer) Enter(c *trace.Call) { e <- *c }
func (e enterer) Leave(*trace.Call)   {}

// names is an Observer that keeps the calls, as they were left.
type names struct{ calls []trace.Call }

func (n *names) Enter(*trace.Call)   {}
func (n *names) Leave(c *trace.Call) { n.calls = append(n.calls, *c) }

// The options that were asked for are set, before bind, and nothing else is.
func TestListenOptions(t *testing.T) {
	tests := []struct {
		name    string
		options server.Options
		want    []string // besides SO_REUSEADDR
	}{
		{"none", server.Options{}, nil},
		{"NoDelay", server.Options{NoDelay: true}, []string{"TCP_NODELAY, 1"}},
		{"DeferAccept", server.Options{DeferAccept: true}, []string{"TCP_DEFER_ACCEPT, 5"}},
		{"ReusePort", server.Options{ReusePort: true}, []string{"SO_REUSEPORT, 1"}},
		{"Cork is for connections", server.Options{Cork: true}, nil},
		{
			"all",
			server.Options{NoDelay: true, DeferAccept: true, ReusePort: true},
			[]string{"SO_REUSEPORT, 1", "TCP_NODELAY, 1", "TCP_DEFER_ACCEPT, 5"},
		},
	}
	for _, test := range tests {
		seen := new(names)
		test.options.Backlog = 77
		b := listen(t, trace.Traced(new(kernel.Linux), seen), test.options)
		_, _, line, _ := runtime.Caller(0)
		fd := b.Listener
		want := []string{
			"socket(AF_INET, SOCK_STREAM|SOCK_NONBLOCK)",
			fmt.Sprintf("setsockopt(%d, SO_REUSEADDR, 1)", fd),
		}
		for _, option := range test.want {
			want = append(want, fmt.Sprintf("setsockopt(%d, %s)", fd, option))
		}
		want = append(want,
			fmt.Sprintf("bind(%d, 127.0.0.1:0)", fd),
			fmt.Sprintf("listen(%d, 77)", fd),
			fmt.Sprintf("getsockname(%d)", fd))
		var got []string
		for _, c := range seen.calls {
			got = append(got, c.Name+"("+c.Args+")")
			// What the ground floor does for a caller counts for the caller.
			if !strings.HasSuffix(c.File, "/server_test.go") || c.Line >= line {
				t.Errorf("%s: %s is said to be in %s:%d", test.name, c.Name, c.File, c.Line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: made\n%s\nwant\n%s",
				test.name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		b.CloseListener()
	}
}

// Connections inherit TCP_NODELAY, so no lesson sets it once a client.
func TestListenOptionsAreInherited(t *testing.T) {
	linux := new(kernel.Linux)
	b, err := server.Listen(linux, server.Options{Addr: any4, NoDelay: true, Backlog: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer b.CloseListener()
	client, err := net.Dial("tcp", b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accept := func() (int, error) { return linux.Accept4(b.Listener, unix.SOCK_CLOEXEC) }
	o := result(t, start(accept))
	if o.err != nil {
		t.Fatal(o.err)
	}
	defer unix.Close(o.n)
	value, err := unix.GetsockoptInt(o.n, unix.IPPROTO_TCP, unix.TCP_NODELAY)
	if err != nil || value == 0 {
		t.Errorf("TCP_NODELAY of a connection is %d, %v", value, err)
	}
}

// Contract: B14.
func TestListenAddr(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0"} {
		asked := netip.MustParseAddrPort(addr)
		b, err := server.Listen(new(kernel.Linux), server.Options{Addr: asked, Backlog: 1}, 0)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Logf("%s: this machine has no IPv6", addr)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.Addr().Addr() != asked.Addr() || b.Addr().Port() == 0 {
			t.Errorf("asked for %s, listens on %s", asked, b.Addr())
		}
		client, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", addr, err)
		} else {
			client.Close()
		}
		b.CloseListener()
	}
}

// When the listener cannot be made, the error says which call failed, and the
// socket is closed. Contract: B14.
func TestListenFails(t *testing.T) {
	taken := listen(t, new(kernel.Linux), server.Options{})
	defer taken.CloseListener()
	tests := []struct {
		call    string
		options server.Options
		faults  map[string][]kernel.Fault
		err     error
		open    int // sockets that were made
	}{
		{"socket", server.Options{Addr: any4},
			map[string][]kernel.Fault{"socket": {{Err: unix.EMFILE}}}, unix.EMFILE, 0},
		{"setsockopt SO_REUSEADDR", server.Options{Addr: any4},
			map[string][]kernel.Fault{"setsockopt": {{Err: unix.ENOMEM}}}, unix.ENOMEM, 1},
		{"setsockopt TCP_DEFER_ACCEPT", server.Options{Addr: any4, DeferAccept: true},
			map[string][]kernel.Fault{"setsockopt": {{}, {Err: unix.EINVAL}}}, unix.EINVAL, 1},
		{"bind", server.Options{Addr: taken.Addr()}, nil, unix.EADDRINUSE, 1},
		{"listen", server.Options{Addr: any4},
			map[string][]kernel.Fault{"listen": {{Err: unix.EADDRINUSE}}}, unix.EADDRINUSE, 1},
	}
	for _, test := range tests {
		seen := new(names)
		traced := trace.Traced(new(kernel.Linux), seen)
		faults := test.faults
		if faults == nil {
			faults = map[string][]kernel.Fault{}
		}
		k := &kernel.Faulty{Kernel: traced, Plan: kernel.Script(faults)}
		b, err := server.Listen(k, test.options, 0)
		if b != nil || !errors.Is(err, test.err) {
			t.Errorf("%s: %v, %v; want %v", test.call, b, err, test.err)
			continue
		}
		if want := test.call + ": " + test.err.Error(); err.Error() != want {
			t.Errorf("%s: the error is %q, want %q", test.call, err, want)
		}
		made, closed := 0, 0
		for _, c := range seen.calls {
			switch c.Name {
			case "socket":
				made++
			case "close":
				closed++
			}
		}
		if made != test.open || closed != made {
			t.Errorf("%s: %d sockets made, %d closed", test.call, made, closed)
		}
	}
}

// writes keeps every Write apart.
type writes struct {
	mu   sync.Mutex
	each []string
	err  error
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.each = append(w.each, string(p))
	return len(p), w.err
}

// Contract: B13.
func TestPrint(t *testing.T) {
	const dashes = "----------------------------------------\n" // 40 of them, as in the tutorial
	tests := []struct{ name, request, want string }{
		{"curl", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\nHost: x\n\n"},
		{"line feeds", "GET /\n\n", "GET /\n\n"},
		{"escape", "\x1b[2J\n\n", "\\x1b[2J\n\n"},
		{"not text", "\x00\xff\\\n\n", "\\x00\\xff\\\\\n\n"},
	}
	out := new(writes)
	b := server.New(new(kernel.Linux), server.Options{Requests: out})
	for i, test := range tests {
		b.Print([]byte(test.request))
		if len(out.each) != i+1 {
			t.Fatalf("%s: %d writes in all, want one for each request", test.name, len(out.each))
		}
		if got := out.each[i]; got != dashes+test.want {
			t.Errorf("%s: printed %q, want %q", test.name, got, dashes+test.want)
		}
	}

	// No writer, or a writer that fails: the server continues.
	server.New(new(kernel.Linux), server.Options{}).Print([]byte("x"))
	broken := &writes{err: io.ErrClosedPipe}
	b = server.New(new(kernel.Linux), server.Options{Requests: broken})
	b.Print([]byte("x"))
	b.Print([]byte("y"))
	if len(broken.each) != 2 {
		t.Errorf("%d writes, want 2: an error does not end printing", len(broken.each))
	}
}

// Requests of several threads do not mix.
func TestPrintConcurrently(t *testing.T) {
	out := new(writes)
	b := server.New(new(kernel.Linux), server.Options{Requests: out})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 50 {
				b.Print(append(bytes.Repeat([]byte{byte('a' + i)}, 100*(i+1)), "\n\n"...))
			}
		})
	}
	all.Wait()
	if len(out.each) != 8*50 {
		t.Errorf("%d requests printed, want %d", len(out.each), 8*50)
	}
	for _, page := range out.each {
		_, body, _ := strings.Cut(page, "-\n")
		body = strings.TrimSuffix(body, "\n\n")
		if body == "" || strings.Trim(body, body[:1]) != "" || len(body) != 100*int(body[0]-'a'+1) {
			t.Fatalf("mixed: %q", page)
		}
	}
}

func TestPrintAllocates(t *testing.T) {
	b := server.New(new(kernel.Linux), server.Options{Requests: io.Discard})
	request := []byte("GET / HTTP/1.0\r\n\r\n")
	b.Print(request)
	if allocs := testing.AllocsPerRun(100, func() { b.Print(request) }); allocs != 0 {
		t.Errorf("%v allocations for a request printed", allocs)
	}
}
