//go:build linux

package trace

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var calls atomic.Int64

// call is a Call as Enter gets it, at so many microseconds.
func call(micros int, name string, fd int, args string) *Call {
	return &Call{
		Number: calls.Add(1), Name: name, FD: fd, Args: args, File: "epoll/eventloop.go", Line: 117,
		Entered: time.Duration(micros) * time.Microsecond,
	}
}

// left is c as Leave gets it.
func left(c *Call, result int, err error) *Call {
	c.Result, c.Err, c.Took = result, err, 5*time.Microsecond
	return c
}

func blockingFD(int) bool    { return true }
func nonblockingFD(int) bool { return false }

// A call has blocked if it is one that waits, and took a millisecond. Any other that
// took as long was preempted.
func TestBlocked(t *testing.T) {
	for _, test := range []struct {
		name     string
		fd       int
		args     string
		mayBlock func(int) bool
		took     time.Duration
		want     bool
	}{
		{"accept4", 5, "5", blockingFD, time.Millisecond, true},
		{"accept4", 5, "5", blockingFD, time.Millisecond - 1, false},
		{"accept4", 5, "5", nonblockingFD, time.Second, false},
		{"read", 7, "7, 1024 bytes", blockingFD, time.Second, true},
		{"read", 7, "7, 1024 bytes", nonblockingFD, 5 * time.Millisecond, false},
		{"send", 7, "7, 114 bytes", blockingFD, time.Second, true},
		{"send", 7, "7, 114 bytes", nonblockingFD, time.Second, false},
		{"epoll_wait", -1, "4, forever", nonblockingFD, time.Second, true},
		{"epoll_wait", -1, "4, 100 ms", nonblockingFD, 2 * time.Millisecond, true},
		{"epoll_wait", -1, "4, 0 ms", nonblockingFD, 2 * time.Millisecond, false},
		{"nanosleep", -1, "0.100 s", nonblockingFD, time.Second, true},
		{"shutdown", 7, "7, SHUT_WR", blockingFD, 5 * time.Millisecond, false},
		{"setsockopt", 7, "7, TCP_CORK, 0", blockingFD, 5 * time.Millisecond, false},
		{"close", 7, "7", blockingFD, 5 * time.Millisecond, false},
	} {
		c := call(17, test.name, test.fd, test.args)
		c.Return(c.Entered+test.took, 1, nil, test.mayBlock)
		if c.Blocked != test.want || c.Took != test.took {
			t.Errorf("%s(%s) took %v: blocked %v after %v, want %v",
				test.name, test.args, test.took, c.Blocked, c.Took, test.want)
		}
	}
}

// Of each line, what follows the time and the place, which are always the
// same here.
func TestSingleCalls(t *testing.T) {
	data := func(c *Call, text string) *Call {
		c.Data = []byte(text)
		return left(c, len(text), nil)
	}
	read := func() *Call { return call(0, "read", 7, "7, 1024 bytes") }
	took := func(d time.Duration) *Call {
		c := call(0, "accept4", 5, "5")
		c.Return(d, 6, nil, blockingFD)
		return c
	}
	wait := func(events ...unix.EpollEvent) *Call {
		c := call(0, "epoll_wait", -1, "4, 250 ms")
		c.Events = events
		return left(c, len(events), nil)
	}
	tests := []struct {
		call *Call
		want string
	}{
		// Results and errors.
		{left(call(0, "close", 7, "7"), 0, nil), "close(7)                             = 0"},
		{left(call(0, "accept4", 5, "5"), 6, nil), "accept4(5)                           = 6"},
		{
			left(call(0, "epoll_create1", -1, ""), 4, nil),
			"epoll_create1()                      = 4",
		},
		{left(read(), -1, unix.EAGAIN), "read(7, 1024 bytes)                  = -1 EAGAIN"},
		{left(read(), -1, unix.ECONNRESET), "read(7, 1024 bytes)                  = -1 ECONNRESET"},
		{left(read(), 0, nil), "read(7, 1024 bytes)                  = 0"},
		{
			left(call(0, "shutdown", 7, "7, SHUT_WR"), -1, unix.ENOTCONN),
			"shutdown(7, SHUT_WR)                 = -1 ENOTCONN",
		},
		// A call that is longer than its column moves the rest.
		{
			left(call(0, "epoll_ctl", 7, "4, MOD, 7, EPOLLIN|EPOLLOUT|EPOLLET"), 0, nil),
			"epoll_ctl(4, MOD, 7, EPOLLIN|EPOLLOUT|EPOLLET) = 0",
		},

		// What was read and written.
		{
			data(read(), "GET /\r\n\r\n"),
			`read(7, 1024 bytes)                  = 9  "GET /\r\n\r\n"`,
		},
		{
			data(read(), "\x1b[2J\x00\a"),
			`read(7, 1024 bytes)                  = 6  "\x1b[2J\x00\a"`,
		},
		{data(read(), "\xff\x9bé"), `read(7, 1024 bytes)                  = 4  "\xff\x9b\u00e9"`},
		{data(read(), `"\`), `read(7, 1024 bytes)                  = 2  "\"\\"`},
		{
			data(read(), strings.Repeat("x", preview)),
			`read(7, 1024 bytes)                  = 20  "` + strings.Repeat("x", preview) + `"`,
		},
		{
			data(call(0, "send", 7, "7, 21 bytes"), strings.Repeat("x", preview+1)),
			`send(7, 21 bytes)                    = 21  "` + strings.Repeat("x", preview) + `"…`,
		},

		// Events.
		{wait(), "epoll_wait(4, 250 ms)                = 0"},
		{
			wait(unix.EpollEvent{Fd: 5, Events: unix.EPOLLIN}),
			"epoll_wait(4, 250 ms)                = 1  [5 EPOLLIN]",
		},
		{
			wait(unix.EpollEvent{Fd: 5, Events: unix.EPOLLIN},
				unix.EpollEvent{Fd: 12, Events: unix.EPOLLIN | unix.EPOLLHUP}),
			"epoll_wait(4, 250 ms)                = 2  [5 EPOLLIN, 12 EPOLLIN|EPOLLHUP]",
		},
		{
			left(call(0, "epoll_wait", -1, "4, forever"), -1, unix.EINTR),
			"epoll_wait(4, forever)               = -1 EINTR",
		},

		// It blocked, or it merely ran.
		{took(0), "accept4(5)                           = 6"},
		{took(time.Millisecond - 1), "accept4(5)                           = 6"},
		{
			took(time.Millisecond),
			"accept4(5)                           = 6  (blocked 0.001 s)",
		},
		{
			took(61500 * time.Millisecond),
			"accept4(5)                           = 6  (blocked 61.500 s)",
		},
	}
	for _, test := range tests {
		var out strings.Builder
		p := NewRecorder(Print(&out, false))
		p.Enter(test.call)
		p.Leave(test.call)
		want := " 0.000000  epoll/eventloop.go:117  " + test.want + "\n"
		if got := out.String(); got != want {
			t.Errorf("printed\n%swant\n%s", got, want)
		}
	}
}

// A call that blocked may also have failed, or have returned events.
func TestBlockedSuffix(t *testing.T) {
	var out strings.Builder
	p := NewRecorder(Print(&out, false))
	c := call(0, "accept4", 5, "5")
	p.Enter(c)
	c.Return(2*time.Second, -1, unix.EINVAL, blockingFD)
	p.Leave(c)
	c = call(2_000_000, "epoll_wait", -1, "4, forever")
	p.Enter(c)
	c.Return(c.Entered+250*time.Millisecond, 1, nil, blockingFD)
	c.Events = []unix.EpollEvent{{Fd: 7, Events: unix.EPOLLIN}}
	p.Leave(c)
	const want = "" +
		" 0.000000  epoll/eventloop.go:117  accept4(5)                           = -1 EINVAL" +
		"  (blocked 2.000 s)\n" +
		" 2.000000  epoll/eventloop.go:117  epoll_wait(4, forever)               = 1  [7 EPOLLIN]" +
		"  (blocked 0.250 s)\n"
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}

// Times count from the first call; the place gets wider and never narrower.
func TestColumns(t *testing.T) {
	var out strings.Builder
	p := NewRecorder(Print(&out, false))
	for _, at := range []struct {
		micros, line int
		file         string
	}{
		{5_000_000, 7, "blocking/once.go"},
		{5_000_123, 58, "blocking/once.go"},
		{17_000_000, 1234, "edgetriggered/eventloop.go"},
		{4_000_000_000, 110, "blocking/once.go"},
	} {
		c := call(at.micros, "accept4", 5, "5")
		c.File, c.Line = at.file, at.line
		p.Enter(c)
		p.Leave(left(c, 6, nil))
	}
	const want = "" +
		" 0.000000  blocking/once.go:7    accept4(5)                           = 6\n" +
		" 0.000123  blocking/once.go:58   accept4(5)                           = 6\n" +
		"12.000000  edgetriggered/eventloop.go:1234  accept4(5)                           = 6\n" +
		"3995.000000  blocking/once.go:110             accept4(5)                           = 6\n"
	if out.String() != want {
		t.Errorf("printed\n%swant\n%s", out.String(), want)
	}
}

// A path comes from outside: nothing in it reaches the terminal as it is.
func TestPathsArePrintable(t *testing.T) {
	var out strings.Builder
	p := NewRecorder(Print(&out, false))
	c := call(0, "close", 7, "7")
	c.File = "\x1b]0;title\a/größe/main.go"
	p.Enter(c)
	p.Leave(left(c, 0, nil))
	const want = ` 0.000000  \x1b]0;title\a/größe/main.go:117  ` +
		"close(7)                             = 0\n"
	if out.String() != want {
		t.Errorf("printed\n%qwant\n%q", out.String(), want)
	}
}

// A call is shown at once, as a line without an end: it may block forever.
func TestBlockedNow(t *testing.T) {
	var out strings.Builder
	p := NewRecorder(Print(&out, false))
	p.Enter(call(0, "accept4", 5, "5"))
	const want = " 0.000000  epoll/eventloop.go:117  accept4(5)                          "
	if out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}

// Calls of two threads, a and b. One that is interrupted ends its line in "..."
// and has another when it is left.
func TestTwoThreads(t *testing.T) {
	const (
		head   = "epoll/eventloop.go:117  "
		accept = " 0.000000  " + head + "accept4(5)                          "
		read   = " 0.000010  " + head + "read(7, 9 bytes)                    "
		end    = " 0.000020  " + head + "close(7)                            "
	)
	tests := []struct {
		name  string
		steps string // a is accept4, b is read, c is close; capitals leave
		want  string
	}{
		{"one after the other", "aAbB", accept + " = 6\n" + read + " = 9\n"},
		{"b inside a", "abBA", accept + "...\n" + read + " = 9\n" + accept + " = 6\n"},
		{
			"they overlap", "abAB",
			accept + "...\n" + read + "...\n" + accept + " = 6\n" + read + " = 9\n",
		},
		{
			"a stays blocked, b continues", "abBcC",
			accept + "...\n" + read + " = 9\n" + end + " = 0\n",
		},
		{
			"a comes back between two of b", "abBAcC",
			accept + "...\n" + read + " = 9\n" + accept + " = 6\n" + end + " = 0\n",
		},
		{
			"three at once", "abcCBA",
			accept + "...\n" + read + "...\n" + end + " = 0\n" +
				read + " = 9\n" + accept + " = 6\n",
		},
	}
	for _, test := range tests {
		var out strings.Builder
		p := NewRecorder(Print(&out, false))
		calls := map[rune]*Call{
			'A': call(0, "accept4", 5, "5"),
			'B': call(10, "read", 7, "7, 9 bytes"),
			'C': call(20, "close", 7, "7"),
		}
		results := map[rune]int{'A': 6, 'B': 9, 'C': 0}
		for _, step := range test.steps {
			if c, leaves := calls[step]; leaves {
				p.Leave(left(c, results[step], nil))
			} else {
				p.Enter(calls[step-'a'+'A'])
			}
		}
		if out.String() != test.want {
			t.Errorf("%s: printed\n%swant\n%s", test.name, out.String(), test.want)
		}
	}
}

func TestColour(t *testing.T) {
	const head = " 0.000000  epoll/eventloop.go:117  "
	paint := func(fd int, text string) string { return "\x1b[" + palette[fd%len(palette)] + "m" + text + "\x1b[0m" }
	tests := []struct {
		call *Call
		want string
	}{
		// Everything about one connection has its colour.
		{
			left(call(0, "read", 7, "7, 9 bytes"), 0, nil),
			paint(7, head+"read(7, 9 bytes)                    ") + paint(7, " = 0") + "\n",
		},
		{
			left(call(0, "close", 8, "8"), 0, nil),
			paint(8, head+"close(8)                            ") + paint(8, " = 0") + "\n",
		},
		{
			left(call(0, "epoll_ctl", 7, "4, ADD, 7, EPOLLIN"), 0, nil),
			paint(7, head+"epoll_ctl(4, ADD, 7, EPOLLIN)       ") + paint(7, " = 0") + "\n",
		},
		// accept4 has that of the connection it returns, once that is known.
		{
			left(call(0, "accept4", 5, "5"), 9, nil),
			head + "accept4(5)                          " + paint(9, " = 9") + "\n",
		},
		{
			left(call(0, "accept4", 5, "5"), -1, unix.EAGAIN),
			head + "accept4(5)                           = -1 EAGAIN\n",
		},
		// No connection, no colour.
		{
			left(call(0, "epoll_wait", -1, "4, forever"), 0, nil),
			head + "epoll_wait(4, forever)               = 0\n",
		},
		{
			left(call(0, "socket", -1, "AF_INET, SOCK_STREAM"), 5, nil),
			head + "socket(AF_INET, SOCK_STREAM)         = 5\n",
		},
	}
	for _, test := range tests {
		result := test.call.Result
		var coloured, plain strings.Builder
		p := NewRecorder(Print(&coloured, true))
		test.call.Result = 0 // not known yet
		p.Enter(test.call)
		test.call.Result = result
		p.Leave(test.call)
		if got := coloured.String(); got != test.want {
			t.Errorf("printed\n%qwant\n%q", got, test.want)
		}

		// Without its colours it is what is printed in plain.
		p = NewRecorder(Print(&plain, false))
		p.Enter(test.call)
		p.Leave(test.call)
		if got := escapes.ReplaceAllString(coloured.String(), ""); got != plain.String() {
			t.Errorf("plain, it is %q; coloured, %q", plain.String(), got)
		}
		if strings.Contains(plain.String(), "\x1b") {
			t.Errorf("an escape in plain text: %q", plain.String())
		}
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

// writes fails if a line is torn apart by another thread's.
type writes struct {
	text strings.Builder
	err  error
}

func (w *writes) Write(p []byte) (int, error) {
	w.text.Write(p) // the Printer's lock guards it; the race detector looks on
	return len(p), w.err
}

func TestConcurrent(t *testing.T) {
	out := new(writes)
	p := NewRecorder(Print(out, false))
	var all sync.WaitGroup
	const threads, each = 4, 50
	for i := range threads {
		all.Go(func() {
			for range each {
				c := call(0, "read", 10+i, fmt.Sprintf("%d, 9 bytes", 10+i))
				p.Enter(c)
				p.Leave(left(c, i, nil))
			}
		})
	}
	all.Wait()
	whole := regexp.MustCompile(
		`^ 0\.000000  epoll/eventloop\.go:117  read\(1(\d), 9 bytes\) +(= (\d)|\.\.\.)$`)
	ended := 0
	for line := range strings.Lines(out.text.String()) {
		m := whole.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil || m[3] != "" && m[3] != m[1] {
			t.Fatalf("a line is torn: %q", line)
		}
		if m[3] != "" {
			ended++
		}
	}
	if ended != threads*each {
		t.Errorf("%d results printed, want %d", ended, threads*each)
	}
}

// The reader of the trace has gone: the server continues.
func TestBrokenPipe(t *testing.T) {
	p := NewRecorder(Print(&writes{err: errors.New("broken pipe")}, false))
	c := call(0, "close", 7, "7")
	p.Enter(c)
	p.Leave(left(c, 0, nil))
}
