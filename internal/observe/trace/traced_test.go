//go:build linux

package trace_test

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/trace"
	"lesson/internal/proof"
)

// notes is an Observer that keeps every Call. entered and left are copies
// of the Call as it was then.
type notes struct {
	calls         []*trace.Call
	entered, left []trace.Call
	order         []string
}

func (o *notes) Enter(c *trace.Call) {
	o.calls = append(o.calls, c)
	o.entered = append(o.entered, *c)
	o.order = append(o.order, "enter "+c.Name)
}

func (o *notes) Leave(c *trace.Call) {
	o.calls = append(o.calls, c)
	o.left = append(o.left, *c)
	o.order = append(o.order, "leave "+c.Name)
}

// here is the line of its caller.
func here() int {
	_, _, line, _ := runtime.Caller(1)
	return line
}

func TestTraced(t *testing.T) {
	const nonblock, cloexec = unix.SOCK_NONBLOCK, unix.SOCK_CLOEXEC
	loopback := netip.MustParseAddrPort("127.0.0.1:80")
	text := []byte("Hello, world!")
	events := []unix.EpollEvent{{Fd: 3, Events: unix.EPOLLIN}, {Fd: 4}, {Fd: 5}}
	watch := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: 6}

	// Each call is made through Traced; asked is what came through.
	tests := []struct {
		call   func(k kernel.Kernel) (int, error)
		name   string
		fd     int
		args   string
		n      int // what the call returns, if it returns a number
		data   string
		events int
		asked  string
	}{
		{
			call: func(k kernel.Kernel) (int, error) {
				return k.Socket(unix.AF_INET, unix.SOCK_STREAM|cloexec, 0)
			},
			name: "socket", fd: -1, args: "AF_INET, SOCK_STREAM", n: 7,
			asked: fmt.Sprintf("socket %d %d 0", unix.AF_INET, unix.SOCK_STREAM|cloexec),
		},
		{
			call: func(k kernel.Kernel) (int, error) {
				return k.Socket(unix.AF_INET6, unix.SOCK_STREAM|nonblock, 0)
			},
			name: "socket", fd: -1, args: "AF_INET6, SOCK_STREAM|SOCK_NONBLOCK", n: 7,
			asked: fmt.Sprintf("socket %d %d 0", unix.AF_INET6, unix.SOCK_STREAM|nonblock),
		},
		{
			call: func(k kernel.Kernel) (int, error) { return 0, k.Bind(5, loopback) },
			name: "bind", fd: 5, args: "5, 127.0.0.1:80", asked: "bind 5 127.0.0.1:80",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return 0, k.Listen(5, 100) },
			name: "listen", fd: 5, args: "5, 100", asked: "listen 5 100",
		},
		{
			call: func(k kernel.Kernel) (int, error) {
				addr, err := k.Getsockname(5)
				if err == nil && addr.String() != "[::1]:80" {
					err = fmt.Errorf("getsockname returned %s", addr)
				}
				return 0, err
			},
			name: "getsockname", fd: 5, args: "5", asked: "getsockname 5",
		},
		{
			call: func(k kernel.Kernel) (int, error) {
				return 0, k.SetsockoptInt(5, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
			},
			name: "setsockopt", fd: 5, args: "5, TCP_NODELAY, 1",
			asked: fmt.Sprintf("setsockopt 5 %d %d 1", unix.IPPROTO_TCP, unix.TCP_NODELAY),
		},
		{
			call: func(k kernel.Kernel) (int, error) { return 0, k.SetsockoptInt(5, 999, 998, 1) },
			name: "setsockopt", fd: 5, args: "5, level 999, option 998, 1",
			asked: "setsockopt 5 999 998 1",
		},
		{
			call: func(k kernel.Kernel) (int, error) {
				const level, name = unix.SOL_SOCKET, unix.SO_RCVTIMEO
				return 0, k.SetsockoptTimeval(5, level, name, 1500*time.Millisecond)
			},
			name: "setsockopt", fd: 5, args: "5, SO_RCVTIMEO, 1.500 s",
			asked: fmt.Sprintf("setsockopt 5 %d %d 1.5s", unix.SOL_SOCKET, unix.SO_RCVTIMEO),
		},
		{
			call: func(k kernel.Kernel) (int, error) { return k.Accept4(5, cloexec) },
			name: "accept4", fd: 5, args: "5", n: 6, asked: fmt.Sprintf("accept4 5 %d", cloexec),
		},
		{
			call: func(k kernel.Kernel) (int, error) { return k.Read(6, text) },
			name: "read", fd: 6, args: "6, 13 bytes", n: 5, data: "Hello", asked: "read 6 13",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return k.Read(6, text) },
			name: "read", fd: 6, args: "6, 13 bytes", n: 0, asked: "read 6 13",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return k.Send(6, text, unix.MSG_MORE) },
			name: "send", fd: 6, args: "6, 13 bytes", n: 2, data: "He",
			asked: fmt.Sprintf("send 6 Hello, world! %d", unix.MSG_MORE),
		},
		{
			call: func(k kernel.Kernel) (int, error) { return 0, k.Shutdown(6, unix.SHUT_RD) },
			name: "shutdown", fd: 6, args: "6, SHUT_RD", asked: "shutdown 6 0",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return 0, k.Shutdown(6, unix.SHUT_WR) },
			name: "shutdown", fd: 6, args: "6, SHUT_WR", asked: "shutdown 6 1",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return 0, k.Shutdown(6, unix.SHUT_RDWR) },
			name: "shutdown", fd: 6, args: "6, SHUT_RDWR", asked: "shutdown 6 2",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return 0, k.Close(6) },
			name: "close", fd: 6, args: "6", asked: "close 6",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return k.EpollCreate1(unix.EPOLL_CLOEXEC) },
			name: "epoll_create1", fd: -1, n: 4,
			asked: fmt.Sprintf("epoll_create1 %d", unix.EPOLL_CLOEXEC),
		},
		{
			call: func(k kernel.Kernel) (int, error) {
				return 0, k.EpollCtl(4, unix.EPOLL_CTL_ADD, 6, watch)
			},
			name: "epoll_ctl", fd: 6, args: "4, ADD, 6, EPOLLIN|EPOLLET",
			asked: fmt.Sprintf("epoll_ctl 4 1 6 %d 6", watch.Events),
		},
		{
			call: func(k kernel.Kernel) (int, error) {
				return 0, k.EpollCtl(4, unix.EPOLL_CTL_MOD, 6, unix.EpollEvent{Fd: 6})
			},
			name: "epoll_ctl", fd: 6, args: "4, MOD, 6, 0", asked: "epoll_ctl 4 3 6 0 6",
		},
		{
			call: func(k kernel.Kernel) (int, error) {
				return 0, k.EpollCtl(4, unix.EPOLL_CTL_DEL, 6, unix.EpollEvent{})
			},
			name: "epoll_ctl", fd: 6, args: "4, DEL, 6, 0", asked: "epoll_ctl 4 2 6 0 0",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return k.EpollWait(4, events, 250) },
			name: "epoll_wait", fd: -1, args: "4, 250 ms", n: 2, events: 2,
			asked: "epoll_wait 4 3 250",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return k.EpollWait(4, events, 0) },
			name: "epoll_wait", fd: -1, args: "4, 0 ms", n: 0, asked: "epoll_wait 4 3 0",
		},
		{
			call: func(k kernel.Kernel) (int, error) { return k.EpollWait(4, events, -1) },
			name: "epoll_wait", fd: -1, args: "4, forever", n: 1, events: 1,
			asked: "epoll_wait 4 3 -1",
		},
		{
			call: func(k kernel.Kernel) (int, error) {
				return 0, k.Nanosleep(100 * time.Millisecond)
			},
			name: "nanosleep", fd: -1, args: "0.100 s", asked: "nanosleep 100ms",
		},
	}
	for _, test := range tests {
		for _, failure := range []error{nil, unix.EINTR} {
			t.Run(fmt.Sprintf("%s(%s)=%v", test.name, test.args, failure), func(t *testing.T) {
				inner, seen := &proof.Kernel{N: test.n, Err: failure}, new(notes)
				n, err := test.call(trace.Traced(inner, seen))

				// The call goes through once, unchanged, and so does its result.
				if !slices.Equal(inner.Asked, []string{test.asked}) {
					t.Errorf("the kernel was asked %q, want %q", inner.Asked, test.asked)
				}
				result, data, told := test.n, test.data, test.events
				if failure != nil {
					result, data, told = -1, "", 0
				}
				if err != failure || failure == nil && n != result {
					t.Errorf("returned %d, %v; want %d, %v", n, err, result, failure)
				}

				wantOrder := []string{"enter " + test.name, "leave " + test.name}
				if !slices.Equal(seen.order, wantOrder) {
					t.Fatalf("observed %q, want %q", seen.order, wantOrder)
				}
				if seen.calls[0] != seen.calls[1] {
					t.Error("Enter and Leave got different Calls")
				}
				in, out := seen.entered[0], seen.left[0]
				if in.Name != test.name || in.FD != test.fd || in.Args != test.args {
					t.Errorf("entered %s, descriptor %d, (%s); want %s, %d, (%s)",
						in.Name, in.FD, in.Args, test.name, test.fd, test.args)
				}
				if in.Thread <= 0 || in.Entered != time.Second {
					t.Errorf("entered on thread %d at %v, want a thread, 1s", in.Thread, in.Entered)
				}
				if in.Number != 1 {
					t.Errorf("call %d, want 1: it is the first", in.Number)
				}
				if in.Took != 0 || in.Result != 0 || in.Err != nil ||
					in.Data != nil || in.Events != nil {
					t.Errorf("entered with an outcome: %+v", in)
				}
				if out.Result != result || out.Err != failure || out.Took != time.Second {
					t.Errorf("left with %d, %v after %v; want %d, %v, 1s",
						out.Result, out.Err, out.Took, result, failure)
				}
				if string(out.Data) != data {
					t.Errorf("left with data %q, want %q", out.Data, data)
				}
				if len(out.Events) != told || told > 0 && out.Events[0] != events[0] {
					t.Errorf("left with events %v, want the first %d", out.Events, told)
				}
			})
		}
	}
}

func TestTracedNow(t *testing.T) {
	inner, seen := new(proof.Kernel), new(notes)
	k := trace.Traced(inner, seen)
	if k.Now() != time.Second || len(seen.calls) != 0 {
		t.Errorf("Now must be that of the Kernel inside and is no call: %q", seen.order)
	}
}

func TestTracedOptionNames(t *testing.T) {
	for _, test := range []struct {
		level, name int
		want        string
	}{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, "SO_REUSEADDR"},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT"},
		{unix.SOL_SOCKET, unix.SO_RCVTIMEO, "SO_RCVTIMEO"},
		{unix.SOL_SOCKET, unix.SO_SNDTIMEO, "SO_SNDTIMEO"},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, "TCP_NODELAY"},
		{unix.IPPROTO_TCP, unix.TCP_CORK, "TCP_CORK"},
		{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT"},
		{unix.IPPROTO_TCP, 200, "level 6, option 200"},
	} {
		seen := new(notes)
		k := trace.Traced(new(proof.Kernel), seen)
		proof.Must(t, k.SetsockoptInt(1, test.level, test.name, 0))
		if got, want := seen.entered[0].Args, "1, "+test.want+", 0"; got != want {
			t.Errorf("level %d, option %d: %q, want %q", test.level, test.name, got, want)
		}
	}
}

// The line is that of the call, in the nearest function outside the ground
// floor.
func TestTracedLine(t *testing.T) {
	seen := new(notes)
	k := trace.Traced(new(proof.Kernel), seen)
	var want []int

	_, _ = k.Accept4(1, 0)
	want = append(want, here()-1)
	_ = k.Shutdown(1, unix.SHUT_WR)
	want = append(want, here()-1)
	_, _ = k.Getsockname(1)
	want = append(want, here()-1)
	func() {
		_, _ = k.Read(1, nil)
		want = append(want, here()-1)
	}()
	_ = k.EpollCtl(1, unix.EPOLL_CTL_ADD, 2,
		unix.EpollEvent{}) // a call of two lines counts as its first
	want = append(want, here()-2)
	var method = k.Send // a method value
	_, _ = method(1, nil, 0)
	want = append(want, here()-1)
	// A decorator between the two is ground floor.
	pass := func(string, int) (kernel.Fault, bool) { return kernel.Fault{}, false }
	_, _ = (&kernel.Faulty{Kernel: k, Plan: pass}).Accept4(1, 0)
	want = append(want, here()-1)
	// Faulty does not override Bind: that goes through an embedded method.
	_ = (&kernel.Faulty{Kernel: k, Plan: pass}).Bind(1, netip.AddrPort{})
	want = append(want, here()-1)

	for i, c := range seen.entered {
		if c.Number != int64(i+1) {
			t.Errorf("%s is call %d, want %d", c.Name, c.Number, i+1)
		}
		if c.File != "internal/observe/trace_test/traced_test.go" || c.Line != want[i] {
			t.Errorf("%s: %s:%d, want line %d of this file", c.Name, c.File, c.Line, want[i])
		}
	}
	if len(seen.entered) != len(want) {
		t.Errorf("observed %d calls, want %d", len(seen.entered), len(want))
	}
}

// hold is an Observer that passes everything on to another goroutine.
type hold struct{ entered, left chan trace.Call }

func (h hold) Enter(c *trace.Call) { h.entered <- *c }
func (h hold) Leave(c *trace.Call) { h.left <- *c }

// Enter is called before the call returns, so a viewer can show what blocks now.
func TestTracedBlocked(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	proof.Must(t, err)
	a, b := pair[0], pair[1]
	defer unix.Close(a)
	defer unix.Close(b)
	seen := hold{make(chan trace.Call, 10), make(chan trace.Call, 10)}
	k := trace.Traced(new(kernel.Linux), seen)
	threads := make(chan int, 1)
	go func() {
		runtime.LockOSThread()
		threads <- unix.Gettid()
		_, err := k.Read(a, make([]byte, 10))
		for err == unix.EINTR { // the Go runtime's own signals
			_, err = k.Read(a, make([]byte, 10))
		}
	}()
	thread := <-threads
	in := <-seen.entered
	if in.Name != "read" || in.FD != a || in.Thread != thread {
		t.Errorf("entered %s on thread %d, want read on %d", in.Name, in.Thread, thread)
	}
	proof.Eventually(t, "its thread sleeps", func() bool { return proof.Asleep(thread) })
	select {
	case c := <-seen.left:
		t.Fatalf("left before anything was written: %+v", c)
	default:
	}
	_, err = unix.Write(b, []byte("x"))
	proof.Must(t, err)
	out := <-seen.left
	for out.Err == unix.EINTR {
		out = <-seen.left
	}
	if out.Result != 1 || out.Err != nil || string(out.Data) != "x" || out.Thread != thread {
		t.Errorf("left with %+v", out)
	}
}

// Everything that a lesson does with its clients looks the same with and
// without an observer.
func TestTracedForReal(t *testing.T) {
	seen := new(notes)
	k := trace.Traced(new(kernel.Linux), seen)
	listener, err := k.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	proof.Must(t, err)
	defer unix.Close(listener)
	proof.Must(t, k.Bind(listener, netip.MustParseAddrPort("127.0.0.1:0")))
	proof.Must(t, k.Listen(listener, 10))
	addr, err := k.Getsockname(listener)
	proof.Must(t, err)
	client, err := net.Dial("tcp", addr.String())
	proof.Must(t, err)
	defer client.Close()
	fd, err := k.Accept4(listener, unix.SOCK_CLOEXEC)
	proof.Must(t, err)
	_, err = client.Write([]byte("Hello"))
	proof.Must(t, err)
	n, err := k.Read(fd, make([]byte, 100))
	if n != 5 || err != nil {
		t.Errorf("read = %d, %v; want 5", n, err)
	}
	for _, c := range seen.left {
		want := netip.AddrPort{}
		if c.Name == "accept4" {
			want = client.LocalAddr().(*net.TCPAddr).AddrPort()
		}
		if c.Peer != want {
			t.Errorf("%s: peer %v, want %v", c.Name, c.Peer, want)
		}
	}
	proof.Must(t, k.Close(fd))

	var names []string
	for _, c := range seen.left {
		names = append(names, c.Name)
		if c.Err != nil || c.Took < 0 || c.Entered <= 0 {
			t.Errorf("%s(%s): %v after %v at %v", c.Name, c.Args, c.Err, c.Took, c.Entered)
		}
	}
	wanted := []string{"socket", "bind", "listen", "getsockname", "accept4", "read", "close"}
	if !slices.Equal(names, wanted) {
		t.Errorf("observed %q, want %q", names, wanted)
	}
}
