//go:build linux

package kernel_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/proof"
)

// faultable are the calls that can be made to fail, and how each is made.
var faultable = []struct {
	name string
	fd   int // what Plan is asked about
	call func(k kernel.Kernel) (int, error)
}{
	{"socket", -1, func(k kernel.Kernel) (int, error) { return k.Socket(1, 2, 3) }},
	{"listen", 5, func(k kernel.Kernel) (int, error) { return -1, k.Listen(5, 1) }},
	{"setsockopt", 5, func(k kernel.Kernel) (int, error) {
		return -1, k.SetsockoptInt(5, 1, 2, 3)
	}},
	{"accept4", 5, func(k kernel.Kernel) (int, error) { return k.Accept4(5, 1) }},
	{"read", 5, func(k kernel.Kernel) (int, error) { return k.Read(5, make([]byte, 10)) }},
	{"send", 5, func(k kernel.Kernel) (int, error) { return k.Send(5, make([]byte, 10), 0) }},
	{"shutdown", 5, func(k kernel.Kernel) (int, error) { return -1, k.Shutdown(5, 1) }},
	{"close", 5, func(k kernel.Kernel) (int, error) { return -1, k.Close(5) }},
	{"epoll_create1", -1, func(k kernel.Kernel) (int, error) { return k.EpollCreate1(0) }},
	{"epoll_ctl", 5, func(k kernel.Kernel) (int, error) {
		return -1, k.EpollCtl(4, unix.EPOLL_CTL_ADD, 5, unix.EpollEvent{})
	}},
	{"epoll_wait", -1, func(k kernel.Kernel) (int, error) { return k.EpollWait(4, nil, 0) }},
}

// A call that fails is not made, but for close, which is.
func TestFaultyError(t *testing.T) {
	for _, test := range faultable {
		t.Run(test.name, func(t *testing.T) {
			inner := &proof.Kernel{N: 7}
			plan := func(name string, fd int) (kernel.Fault, bool) {
				if name != test.name || fd != test.fd {
					t.Errorf("asked about %s on %d, want %s on %d", name, fd, test.name, test.fd)
				}
				return kernel.Fault{Err: unix.EIO}, true
			}
			k := &kernel.Faulty{Kernel: inner, Plan: plan}
			n, err := test.call(k)
			want(t, test.name, n, err, -1, unix.EIO)
			if made := len(inner.Asked) == 1; made != (test.name == "close") {
				t.Errorf("the kernel inside was asked %q", inner.Asked)
			}
		})
	}
}

// What the plan leaves alone goes through as it is, its own errors included.
func TestFaultyPasses(t *testing.T) {
	pass := func(string, int) (kernel.Fault, bool) { return kernel.Fault{}, false }
	for _, failure := range []error{nil, unix.ENOMEM} {
		for _, test := range faultable {
			plain, inner := &proof.Kernel{N: 7, Err: failure}, &proof.Kernel{N: 7, Err: failure}
			wantN, _ := test.call(plain)
			n, err := test.call(&kernel.Faulty{Kernel: inner, Plan: pass})
			want(t, test.name, n, err, wantN, failure)
			if !slices.Equal(inner.Asked, plain.Asked) {
				t.Errorf("%s: asked %q, want %q", test.name, inner.Asked, plain.Asked)
			}
		}
	}
	// These cannot be made to fail: the plan is not even asked.
	inner := new(proof.Kernel)
	k := &kernel.Faulty{Kernel: inner, Plan: func(name string, _ int) (kernel.Fault, bool) {
		t.Errorf("asked about %s", name)
		return kernel.Fault{}, false
	}}
	wantErr(t, "bind", k.Bind(1, netip.MustParseAddrPort("127.0.0.1:0")), nil)
	_, err := k.Getsockname(1)
	wantErr(t, "getsockname", err, nil)
	wantErr(t, "setsockopt", k.SetsockoptTimeval(1, 2, 3, time.Second), nil)
	if k.Now() != time.Second || len(inner.Asked) != 3 {
		t.Errorf("the kernel inside was asked %q", inner.Asked)
	}
}

// Close closes even if it fails, and the error of the real close comes first.
func TestFaultyClose(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	proof.Must(t, err)
	linux := new(kernel.Linux)
	faults := map[string][]kernel.Fault{"close": {{Err: unix.EIO}, {Err: unix.EIO}}}
	k := &kernel.Faulty{Kernel: linux, Plan: kernel.Script(faults)}
	wantErr(t, "close", k.Close(fds[0]), unix.EIO)
	n, err := linux.Read(fds[1], make([]byte, 1))
	want(t, "read: the other end is closed", n, err, 0, nil)
	wantErr(t, "close of nothing", k.Close(-1), unix.EBADF)
	wantErr(t, "close", k.Close(fds[1]), unix.EIO)
}

func TestFaultyLimit(t *testing.T) {
	tests := []struct {
		fault kernel.Fault
		ok    bool
		want  int
	}{
		{kernel.Fault{Limit: 1}, true, 1},
		{kernel.Fault{Limit: 4}, true, 4},
		{kernel.Fault{Limit: 10}, true, 10},
		{kernel.Fault{Limit: 100}, true, 10}, // no more than was asked for
		{kernel.Fault{}, true, 10},
		{kernel.Fault{Limit: 1}, false, 10}, // the plan says no
	}
	for _, test := range tests {
		inner := new(proof.Kernel)
		k := &kernel.Faulty{Kernel: inner, Plan: func(string, int) (kernel.Fault, bool) {
			return test.fault, test.ok
		}}
		_, _ = k.Read(5, make([]byte, 10))
		_, _ = k.Send(5, []byte("0123456789"), 6)
		wanted := []string{
			fmt.Sprintf("read 5 %d", test.want),
			fmt.Sprintf("send 5 %s 6", "0123456789"[:test.want]),
		}
		if !slices.Equal(inner.Asked, wanted) {
			t.Errorf("%+v, %v: asked %q, want %q", test.fault, test.ok, inner.Asked, wanted)
		}
	}
	// A limit means nothing to a call that moves no bytes: it goes through.
	k := &kernel.Faulty{Kernel: &proof.Kernel{N: 7}, Plan: func(string, int) (kernel.Fault, bool) {
		return kernel.Fault{Limit: 1}, true
	}}
	fd, err := k.Accept4(5, 0)
	want(t, "accept4", fd, err, 7, nil)
}

// After a fault, what the call would have done is still there to be done.
func TestFaultyLosesNothing(t *testing.T) {
	linux := new(kernel.Linux)
	k := &kernel.Faulty{Kernel: linux, Plan: kernel.Script(map[string][]kernel.Fault{
		"accept4": {{Err: unix.EMFILE}, {Err: unix.ECONNABORTED}},
		"read":    {{Err: unix.EINTR}, {Limit: 1}, {Limit: 2}},
		"send":    {{Err: unix.EINTR}, {Limit: 1}},
	})}
	listener, addr := listen(t, k, unix.SOCK_NONBLOCK)
	connect(t, addr)
	fd, err := k.Accept4(listener, unix.SOCK_CLOEXEC)
	want(t, "accept4", fd, err, -1, unix.EMFILE)
	fd, err = k.Accept4(listener, unix.SOCK_CLOEXEC)
	want(t, "accept4", fd, err, -1, unix.ECONNABORTED)
	fd, err = k.Accept4(listener, unix.SOCK_CLOEXEC)
	proof.Must(t, err)
	proof.Must(t, k.Close(fd))

	a, b := pair(t, unix.SOCK_NONBLOCK)
	text := []byte("Hello")
	n, err := k.Send(b, text, unix.MSG_NOSIGNAL)
	want(t, "send", n, err, -1, unix.EINTR)
	n, err = k.Send(b, text, unix.MSG_NOSIGNAL)
	want(t, "send", n, err, 1, nil)
	n, err = k.Send(b, text[1:], unix.MSG_NOSIGNAL)
	want(t, "send", n, err, 4, nil)

	buffer, got := make([]byte, 10), ""
	n, err = k.Read(a, buffer)
	want(t, "read", n, err, -1, unix.EINTR)
	for _, length := range []int{1, 2, 2} {
		n, err = k.Read(a, buffer)
		want(t, "read", n, err, length, nil)
		got += string(buffer[:max(n, 0)])
	}
	if got != "Hello" {
		t.Errorf("read %q in all, want %q", got, "Hello")
	}
}

func TestScript(t *testing.T) {
	plan := kernel.Script(map[string][]kernel.Fault{
		"read":    {{Err: unix.EINTR}, {}, {Limit: 1}},
		"accept4": {{Err: unix.EMFILE}},
	})
	none := kernel.Fault{}
	for i, step := range []struct {
		name  string
		fault kernel.Fault
		ok    bool
	}{
		{"send", none, false}, // not in the script
		{"read", kernel.Fault{Err: unix.EINTR}, true},
		{"accept4", kernel.Fault{Err: unix.EMFILE}, true}, // each name has its own list
		{"read", none, false},                             // the second call is let pass
		{"read", kernel.Fault{Limit: 1}, true},
		{"read", none, false}, // the list is over
		{"read", none, false},
		{"accept4", none, false},
	} {
		fault, ok := plan(step.name, i) // whatever the descriptor
		if fault != step.fault || ok != step.ok {
			t.Errorf("step %d, %s: %+v, %v; want %+v, %v",
				i, step.name, fault, ok, step.fault, step.ok)
		}
	}
}

// draw asks a plan about n calls of each name and spells the answers.
func draw(plan func(string, int) (kernel.Fault, bool), n int) map[string][]kernel.Fault {
	drawn := make(map[string][]kernel.Fault)
	for range n {
		for _, f := range faultable {
			if fault, ok := plan(f.name, f.fd); ok {
				drawn[f.name] = append(drawn[f.name], fault)
			}
		}
	}
	return drawn
}

func TestSeeded(t *testing.T) {
	const rounds = 400
	first := fmt.Sprint(draw(kernel.Seeded(1, 0.5, true), rounds))
	if second := fmt.Sprint(draw(kernel.Seeded(1, 0.5, true), rounds)); first != second {
		t.Error("the same seed gave other faults")
	}
	if other := fmt.Sprint(draw(kernel.Seeded(2, 0.5, true), rounds)); first == other {
		t.Error("another seed gave the same faults")
	}
	if none := draw(kernel.Seeded(1, 0, true), rounds); len(none) != 0 {
		t.Errorf("a share of 0 gave %v", none)
	}

	// What each call suffers, all of it, and nothing else.
	faults := map[string][]kernel.Fault{
		"accept4": {
			{Err: unix.EINTR}, {Err: unix.ECONNABORTED}, {Err: unix.EMFILE}, {Err: unix.ENOBUFS},
		},
		"read":       {{Err: unix.EINTR}, {Limit: 1}, {Limit: 2}},
		"send":       {{Err: unix.EINTR}, {Limit: 1}, {Limit: 100}},
		"epoll_wait": {{Err: unix.EINTR}},
	}
	for _, again := range []bool{false, true} {
		if again {
			for _, name := range []string{"accept4", "read", "send"} {
				faults[name] = append(faults[name], kernel.Fault{Err: unix.EAGAIN})
			}
		}
		drawn := draw(kernel.Seeded(7, 1, again), rounds)
		for _, f := range faultable {
			if got := len(drawn[f.name]); got != rounds && len(faults[f.name]) > 0 {
				t.Errorf("a share of 1: %d of %d calls of %s fail", got, rounds, f.name)
			}
			for _, fault := range drawn[f.name] {
				if !slices.Contains(faults[f.name], fault) {
					t.Errorf("again=%v: %s suffers %+v", again, f.name, fault)
				}
			}
			for _, fault := range faults[f.name] {
				if !slices.Contains(drawn[f.name], fault) {
					t.Errorf("again=%v: %s never suffers %+v", again, f.name, fault)
				}
			}
		}
	}

	// The share is what it says. The seed is fixed, so this cannot be bad luck.
	const share = 0.25
	drawn := draw(kernel.Seeded(3, share, false), 10_000)
	if got := len(drawn["read"]); got < 2300 || got > 2700 {
		t.Errorf("a share of %v: %d of 10,000 reads fail", share, got)
	}
}

// Plans are asked by several threads at once; the race detector looks on.
func TestPlansAreConcurrent(t *testing.T) {
	const goroutines, each = 4, 100
	faults := make([]kernel.Fault, goroutines*each)
	for i := range faults {
		faults[i] = kernel.Fault{Limit: i + 1}
	}
	plan := kernel.Script(map[string][]kernel.Fault{"read": faults})
	seeded := kernel.Seeded(1, 0.5, true)
	var mu sync.Mutex
	seen := make(map[int]bool)
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range each {
				seeded("read", 1)
				fault, ok := plan("read", 1)
				mu.Lock()
				if !ok || seen[fault.Limit] {
					t.Errorf("fault %+v, %v: each must come once", fault, ok)
				}
				seen[fault.Limit] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
}
