//go:build linux

package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/proof"
)

// kernels runs a test with both ways to make a call. The results must be the
// same.
func kernels(t *testing.T, test func(t *testing.T, k *kernel.Linux)) {
	for _, nonblocking := range []bool{false, true} {
		t.Run(fmt.Sprintf("Nonblocking=%v", nonblocking), func(t *testing.T) {
			test(t, &kernel.Linux{Nonblocking: nonblocking})
		})
	}
}

// want compares what a call returned.
func want(t *testing.T, call string, got int, gotErr error, wanted int, wantedErr error) {
	t.Helper()
	if got != wanted || gotErr != wantedErr {
		t.Errorf("%s = %d, %v; want %d, %v", call, got, gotErr, wanted, wantedErr)
	}
}

// wantErr compares what a call returned that returns nothing but an error.
func wantErr(t *testing.T, call string, got, wanted error) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %v, want %v", call, got, wanted)
	}
}

// finished waits for a goroutine.
func finished(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(proof.Patience):
		t.Fatalf("still waiting after %v", proof.Patience)
	}
}

func TestLinuxReadAndSend(t *testing.T) {
	kernels(t, func(t *testing.T, k *kernel.Linux) {
		a, b := pair(t, unix.SOCK_NONBLOCK)
		buffer := make([]byte, 5)

		n, err := k.Read(a, buffer)
		want(t, "read of nothing", n, err, -1, unix.EAGAIN)

		n, err = k.Send(b, []byte("Hello, world"), unix.MSG_NOSIGNAL)
		want(t, "send", n, err, 12, nil)
		for _, part := range []string{"Hello", ", wor", "ld"} {
			n, err = k.Read(a, buffer)
			want(t, "read", n, err, len(part), nil)
			if string(buffer[:max(n, 0)]) != part {
				t.Errorf("read %q, want %q", buffer[:max(n, 0)], part)
			}
		}
		n, err = k.Send(b, nil, unix.MSG_NOSIGNAL)
		want(t, "send of nothing", n, err, 0, nil)

		wantErr(t, "shutdown", k.Shutdown(b, unix.SHUT_WR), nil)
		n, err = k.Read(a, buffer)
		want(t, "read at end of file", n, err, 0, nil)
		n, err = k.Read(a, nil)
		want(t, "read into nothing", n, err, 0, nil)

		n, err = k.Send(b, []byte("x"), unix.MSG_NOSIGNAL)
		want(t, "send after the end", n, err, -1, unix.EPIPE)
	})
}

func TestLinuxSendUntilFull(t *testing.T) {
	kernels(t, func(t *testing.T, k *kernel.Linux) {
		a, _ := pair(t, unix.SOCK_NONBLOCK)
		p := make([]byte, 1<<20)
		sent := 0
		for range 1000 {
			n, err := k.Send(a, p, unix.MSG_NOSIGNAL)
			if err != nil {
				want(t, "send into a full buffer", n, err, -1, unix.EAGAIN)
				if sent == 0 {
					t.Error("it was full from the start")
				}
				return
			}
			sent += n
		}
		t.Errorf("%d bytes, and the send buffer is still not full", sent)
	})
}

func TestLinuxAccept(t *testing.T) {
	kernels(t, func(t *testing.T, k *kernel.Linux) {
		listener, addr := listen(t, k, unix.SOCK_NONBLOCK)
		fd, err := k.Accept4(listener, unix.SOCK_CLOEXEC)
		want(t, "accept4 of an empty queue", fd, err, -1, unix.EAGAIN)

		for _, test := range []struct {
			flags           int
			nonblock, close bool
		}{
			{0, false, false},
			{unix.SOCK_CLOEXEC, false, true},
			{unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK, true, true},
		} {
			client := connect(t, addr)
			fd, err := k.Accept4(listener, test.flags)
			for err == unix.EAGAIN { // the last segment of the handshake is on its way
				fd, err = k.Accept4(listener, test.flags)
			}
			proof.Must(t, err)
			status, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			proof.Must(t, err)
			if got := status&unix.O_NONBLOCK != 0; got != test.nonblock {
				t.Errorf("flags %#x: non-blocking is %v", test.flags, got)
			}
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			proof.Must(t, err)
			if got := flags&unix.FD_CLOEXEC != 0; got != test.close {
				t.Errorf("flags %#x: close-on-exec is %v", test.flags, got)
			}
			// It is that client, and not just any descriptor.
			_, err = unix.Write(client, []byte("me"))
			proof.Must(t, err)
			buffer := make([]byte, 10)
			n := 0
			proof.Eventually(t, "bytes over the loopback", func() bool {
				n, err = k.Read(fd, buffer)
				return err != unix.EAGAIN
			})
			want(t, "read", n, err, 2, nil)
			wantErr(t, "close", k.Close(fd), nil)
		}
	})
}

func TestLinuxClose(t *testing.T) {
	kernels(t, func(t *testing.T, k *kernel.Linux) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		proof.Must(t, err)
		wantErr(t, "close", k.Close(fds[0]), nil)
		n, err := k.Read(fds[1], make([]byte, 1))
		want(t, "read when the other end is closed", n, err, 0, nil)
		wantErr(t, "close", k.Close(fds[1]), nil)
	})
}

// On a descriptor that blocks, accept4 and read wait where they would say
// EAGAIN on another. (Nonblocking promises that there is none.)
func TestLinuxBlocks(t *testing.T) {
	k := new(kernel.Linux)
	listener, addr := listen(t, k, 0)
	a, b := pair(t, 0)
	tests := []struct {
		name string
		call func() (int, error)
		wake func()
	}{
		{
			"accept4",
			func() (int, error) {
				fd, err := k.Accept4(listener, unix.SOCK_CLOEXEC)
				if err != nil {
					return fd, err
				}
				return 0, k.Close(fd)
			},
			func() { connect(t, addr) },
		},
		{
			"read",
			func() (int, error) {
				n, err := k.Read(a, make([]byte, 10))
				return n - 1, err
			},
			func() {
				_, err := unix.Write(b, []byte("x"))
				proof.Must(t, err)
			},
		},
		{
			"read until the end",
			func() (int, error) { return k.Read(a, make([]byte, 10)) },
			func() { proof.Must(t, unix.Shutdown(b, unix.SHUT_WR)) },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var thread atomic.Int64
			var n int
			var err error
			done := make(chan struct{})
			go func() {
				defer close(done)
				runtime.LockOSThread()
				thread.Store(int64(unix.Gettid()))
				// A signal of the Go runtime may interrupt the call.
				for n, err = test.call(); err == unix.EINTR; n, err = test.call() {
				}
			}()
			proof.Eventually(t, "its thread sleeps", func() bool { return proof.Asleep(int(thread.Load())) })
			select {
			case <-done:
				t.Fatalf("it did not block: %d, %v", n, err)
			default:
			}
			test.wake()
			finished(t, done)
			want(t, test.name, n, err, 0, nil)
		})
	}
}

// A call that fails returns -1 where the manual says so, and the errno.
func TestLinuxErrors(t *testing.T) {
	kernels(t, func(t *testing.T, k *kernel.Linux) {
		const bad = -1
		buffer := make([]byte, 1)
		events := make([]unix.EpollEvent, 1)

		fd, err := k.Accept4(bad, 0)
		want(t, "accept4", fd, err, -1, unix.EBADF)
		n, err := k.Read(bad, buffer)
		want(t, "read", n, err, -1, unix.EBADF)
		n, err = k.Send(bad, buffer, unix.MSG_NOSIGNAL)
		want(t, "send", n, err, -1, unix.EBADF)
		n, err = k.EpollWait(bad, events, 0)
		want(t, "epoll_wait", n, err, -1, unix.EBADF)
		made := k.Calls()
		n, err = k.EpollWait(bad, events, -1)
		want(t, "epoll_wait forever", n, err, -1, unix.EBADF)
		if k.Calls() != made+1 {
			t.Error("after an error, epoll_wait must not go on to its second step")
		}
		fd, err = k.Socket(-1, unix.SOCK_STREAM, 0)
		want(t, "socket", fd, err, -1, unix.EAFNOSUPPORT)
		fd, err = k.EpollCreate1(-1)
		want(t, "epoll_create1", fd, err, -1, unix.EINVAL)
		_, err = k.Getsockname(bad)
		wantErr(t, "getsockname", err, unix.EBADF)
		event := unix.EpollEvent{Events: unix.EPOLLIN}
		const level, timeout = unix.SOL_SOCKET, unix.SO_RCVTIMEO
		for _, test := range []struct {
			name string
			err  error
		}{
			{"bind", k.Bind(bad, netip.MustParseAddrPort("127.0.0.1:0"))},
			{"listen", k.Listen(bad, 1)},
			{"setsockopt", k.SetsockoptInt(bad, level, unix.SO_REUSEADDR, 1)},
			{"setsockopt", k.SetsockoptTimeval(bad, level, timeout, time.Second)},
			{"shutdown", k.Shutdown(bad, unix.SHUT_WR)},
			{"close", k.Close(bad)},
			{"epoll_ctl", k.EpollCtl(bad, unix.EPOLL_CTL_ADD, 0, event)},
		} {
			wantErr(t, test.name, test.err, unix.EBADF)
		}

		_, addr := listen(t, k, unix.SOCK_NONBLOCK)
		wantErr(t, "shutdown", k.Shutdown(connectable(t), unix.SHUT_WR), unix.ENOTCONN)
		other, err := k.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		proof.Must(t, err)
		wantErr(t, "bind to a port in use", k.Bind(other, addr), unix.EADDRINUSE)
		wantErr(t, "close", k.Close(other), nil)
	})
}

// connectable is a socket that is not connected.
func connectable(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, unix.Close(fd)) })
	return fd
}

func TestLinuxGetsockname(t *testing.T) {
	k := new(kernel.Linux)
	for _, test := range []struct {
		family int
		addr   string
	}{
		{unix.AF_INET, "127.0.0.1:0"},
		{unix.AF_INET, "0.0.0.0:0"},
		{unix.AF_INET6, "[::1]:0"},
		{unix.AF_INET6, "[::]:0"},
	} {
		asked := netip.MustParseAddrPort(test.addr)
		fd, err := k.Socket(test.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == unix.EAFNOSUPPORT {
			t.Logf("%s: this machine has no IPv6", test.addr)
			continue
		}
		proof.Must(t, err)
		defer unix.Close(fd)
		if err := k.Bind(fd, asked); err == unix.EADDRNOTAVAIL && test.family == unix.AF_INET6 {
			t.Logf("%s: this machine has no IPv6", test.addr)
			continue
		} else if err != nil {
			t.Errorf("bind to %s: %v", test.addr, err)
			continue
		}
		got, err := k.Getsockname(fd)
		proof.Must(t, err)
		if got.Addr() != asked.Addr() || got.Port() == 0 {
			t.Errorf("bound to %s, getsockname says %s", asked, got)
		}
		// The kernel sees the same port: a second bind to it is refused.
		second, err := k.Socket(test.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		proof.Must(t, err)
		defer unix.Close(second)
		if err := k.Bind(second, got); err != unix.EADDRINUSE {
			t.Errorf("bind to %s again: %v, want %v", got, err, unix.EADDRINUSE)
		}
	}
}

func TestLinuxAddresses(t *testing.T) {
	k := new(kernel.Linux)
	fd, err := k.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		zone := netip.MustParseAddrPort("[fe80::1%no-such-interface]:0")
		wantErr(t, "bind to an unknown zone", k.Bind(fd, zone), unix.ENODEV)
	}

	local, err := k.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	proof.Must(t, err)
	defer unix.Close(local)
	name := filepath.Join(t.TempDir(), "socket")
	proof.Must(t, unix.Bind(local, &unix.SockaddrUnix{Name: name}))
	if addr, err := k.Getsockname(local); err == nil {
		t.Errorf("getsockname of a socket without a port: %s", addr)
	}
}

func TestLinuxOptions(t *testing.T) {
	k := new(kernel.Linux)
	fd := connectable(t)
	proof.Must(t, k.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	value, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
	if err != nil || value == 0 {
		t.Errorf("TCP_NODELAY was set to 1 and is %d, %v", value, err)
	}
	// 1.5 s: a multiple of the kernel's tick, whatever that is.
	proof.Must(t, k.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, 1500*time.Millisecond))
	tv, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO)
	if err != nil || tv.Sec != 1 || tv.Usec != 500_000 {
		t.Errorf("SO_RCVTIMEO was set to 1.5 s and is %+v, %v", tv, err)
	}
}

// What SO_RCVTIMEO is for: a read that gets nothing in time fails with EAGAIN.
func TestLinuxReadTimesOut(t *testing.T) {
	k := new(kernel.Linux)
	a, _ := pair(t, 0)
	proof.Must(t, k.SetsockoptTimeval(a, unix.SOL_SOCKET, unix.SO_RCVTIMEO, time.Millisecond))
	n, err := k.Read(a, make([]byte, 1))
	for err == unix.EINTR {
		n, err = k.Read(a, make([]byte, 1))
	}
	want(t, "read", n, err, -1, unix.EAGAIN)
}

// Every method is one system call, but for Now, which is none. (EpollWait may
// be two: TestLinuxEpollWait.)
func TestLinuxCalls(t *testing.T) {
	kernels(t, func(t *testing.T, k *kernel.Linux) {
		const bad = -1 // calls that fail are calls too
		any4 := netip.MustParseAddrPort("127.0.0.1:0")
		event := unix.EpollEvent{Events: unix.EPOLLIN}
		for _, test := range []struct {
			name  string
			call  func()
			calls int64
		}{
			{"Bind", func() { _ = k.Bind(bad, any4) }, 1},
			{"Listen", func() { _ = k.Listen(bad, 1) }, 1},
			{"Getsockname", func() { _, _ = k.Getsockname(bad) }, 1},
			{"SetsockoptInt", func() { _ = k.SetsockoptInt(bad, 0, 0, 0) }, 1},
			{"SetsockoptTimeval", func() { _ = k.SetsockoptTimeval(bad, 0, 0, 0) }, 1},
			{"Accept4", func() { _, _ = k.Accept4(bad, 0) }, 1},
			{"Read", func() { _, _ = k.Read(bad, nil) }, 1},
			{"Send", func() { _, _ = k.Send(bad, nil, 0) }, 1},
			{"Shutdown", func() { _ = k.Shutdown(bad, 0) }, 1},
			{"Close", func() { _ = k.Close(bad) }, 1},
			{"Socket", func() { _, _ = k.Socket(-1, 0, 0) }, 1},
			{"EpollCreate1", func() { _, _ = k.EpollCreate1(-1) }, 1},
			{"EpollCtl", func() { _ = k.EpollCtl(bad, 0, 0, event) }, 1},
			{"EpollWait", func() { _, _ = k.EpollWait(bad, make([]unix.EpollEvent, 1), 0) }, 1},
			{"Nanosleep", func() { _ = k.Nanosleep(0) }, 1},
			{"Now", func() { _ = k.Now() }, 0},
		} {
			before := k.Calls()
			test.call()
			if got := k.Calls() - before; got != test.calls {
				t.Errorf("%s counts as %d calls, want %d", test.name, got, test.calls)
			}
		}
	})
}

func TestLinuxNow(t *testing.T) {
	k := new(kernel.Linux)
	first, start := k.Now(), time.Now()
	last := first
	for range 1000 {
		now := k.Now()
		if now < last {
			t.Fatalf("it was %v, and then %v", last, now)
		}
		last = now
	}
	passed := time.Since(start)
	if between := k.Now() - first; between < passed {
		t.Errorf("%v have passed, Now says %v", passed, between)
	}
}

// interest is an interest list with one descriptor in it that becomes readable
// when wake is called.
func interest(t *testing.T, k kernel.Kernel) (epfd, fd int, wake func()) {
	t.Helper()
	epfd, err := k.EpollCreate1(unix.EPOLL_CLOEXEC)
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, unix.Close(epfd)) })
	a, b := pair(t, unix.SOCK_NONBLOCK)
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(a)}
	proof.Must(t, k.EpollCtl(epfd, unix.EPOLL_CTL_ADD, a, event))
	return epfd, a, func() {
		_, err := unix.Write(b, []byte("x"))
		proof.Must(t, err)
	}
}

func TestLinuxEpollWait(t *testing.T) {
	kernels(t, func(t *testing.T, k *kernel.Linux) {
		epfd, fd, wake := interest(t, k)
		events := make([]unix.EpollEvent, 4)

		// How long it waits, and in how many calls: up to 4 ms in one, more
		// than that in two.
		for _, test := range []struct {
			milliseconds int
			calls        int64
		}{{0, 1}, {1, 1}, {4, 1}, {5, 2}, {10, 2}} {
			n, err := -1, error(unix.EINTR)
			var calls int64
			var took time.Duration
			for err == unix.EINTR { // the Go runtime's own signals
				before, start := k.Calls(), time.Now()
				n, err = k.EpollWait(epfd, events, test.milliseconds)
				calls, took = k.Calls()-before, time.Since(start)
			}
			name := fmt.Sprintf("epoll_wait for %d ms", test.milliseconds)
			want(t, name, n, err, 0, nil)
			if calls != test.calls {
				t.Errorf("%s was %d calls, want %d", name, calls, test.calls)
			}
			if least := time.Duration(test.milliseconds) * time.Millisecond; took < least {
				t.Errorf("%s took only %v", name, took)
			}
		}

		// An event that is there already is returned by the first call.
		wake()
		for _, milliseconds := range []int{0, 10, 1 << 30, -1} {
			before := k.Calls()
			n, err := k.EpollWait(epfd, events, milliseconds)
			want(t, "epoll_wait with an event", n, err, 1, nil)
			if int(events[0].Fd) != fd || events[0].Events != unix.EPOLLIN {
				t.Errorf("the event is %+v, want %d readable", events[0], fd)
			}
			if got := k.Calls() - before; got != 1 {
				t.Errorf("it was %d calls, want 1", got)
			}
		}
	})
}

// A wait for long is made in two steps. What wakes the second is returned all
// the same.
func TestLinuxEpollWaitSecondStep(t *testing.T) {
	for _, milliseconds := range []int{-1, 1 << 30} {
		t.Run(fmt.Sprint(milliseconds), func(t *testing.T) {
			kernels(t, func(t *testing.T, k *kernel.Linux) {
				epfd, fd, wake := interest(t, k)
				made := k.Calls()
				events := make([]unix.EpollEvent, 4)
				var n int
				var err error
				done := make(chan struct{})
				go func() {
					defer close(done)
					// A signal of the Go runtime may interrupt the call.
					for err = unix.EINTR; err == unix.EINTR; {
						n, err = k.EpollWait(epfd, events, milliseconds)
					}
				}()
				proof.Eventually(t, "the second step", func() bool { return k.Calls() >= made+2 })
				select {
				case <-done:
					t.Fatalf("it returned before there was anything: %d, %v", n, err)
				default:
				}
				wake()
				finished(t, done)
				want(t, "epoll_wait", n, err, 1, nil)
				if int(events[0].Fd) != fd || events[0].Events != unix.EPOLLIN {
					t.Errorf("the event is %+v, want %d readable", events[0], fd)
				}
			})
		})
	}
}

// A signal ends a wait with EINTR: epoll_wait is never restarted (signal(7)). But
// one that comes in the first of two steps only ends that step.
func TestLinuxEpollWaitInterrupted(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR1) // gives it a handler
	defer signal.Stop(signals)

	for _, test := range []struct {
		milliseconds int
		calls        int64
	}{{4, 1}, {1 << 30, 2}, {-1, 2}} {
		t.Run(fmt.Sprint(test.milliseconds), func(t *testing.T) {
			kernels(t, func(t *testing.T, k *kernel.Linux) {
				epfd, _, _ := interest(t, k)
				var thread atomic.Int64
				var n int
				var err error
				var calls int64
				done := make(chan struct{})
				go func() {
					defer close(done)
					runtime.LockOSThread()
					thread.Store(int64(unix.Gettid()))
					events := make([]unix.EpollEvent, 4)
					for start := time.Now(); n == 0 && time.Since(start) < proof.Patience; {
						before := k.Calls()
						n, err = k.EpollWait(epfd, events, test.milliseconds)
						calls = k.Calls() - before
					}
				}()
				proof.Eventually(t, "a signal ends the wait", func() bool {
					if id := int(thread.Load()); proof.Asleep(id) {
						_ = unix.Tgkill(os.Getpid(), id, unix.SIGUSR1)
					}
					select {
					case <-done:
						return true
					default:
						return false
					}
				})
				want(t, "epoll_wait", n, err, -1, unix.EINTR)
				if calls != test.calls {
					t.Errorf("the signal ended call %d, want %d", calls, test.calls)
				}
			})
		})
	}
}

// Nothing on the hot path allocates, as a lesson makes the calls: through the
// interface.
func TestLinuxAllocates(t *testing.T) {
	kernels(t, func(t *testing.T, linux *kernel.Linux) {
		var k kernel.Kernel = linux
		listener, _ := listen(t, k, unix.SOCK_NONBLOCK)
		epfd, fd, wake := interest(t, k)
		a, b := pair(t, unix.SOCK_NONBLOCK)
		wake()
		events := make([]unix.EpollEvent, 4)
		buffer := []byte("Hello, world!")

		expect := func(name string, n int, err error, wanted int, wantedErr error) {
			if n != wanted || err != wantedErr {
				t.Errorf("%s = %d, %v; want %d, %v", name, n, err, wanted, wantedErr)
			}
		}
		for _, test := range []struct {
			name string
			call func()
		}{
			{"Accept4", func() {
				fd, err := k.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				expect("accept4", fd, err, -1, unix.EAGAIN)
			}},
			{"Read without data", func() {
				n, err := k.Read(b, buffer)
				expect("read", n, err, -1, unix.EAGAIN)
			}},
			{"Send and Read", func() {
				n, err := k.Send(a, buffer, unix.MSG_NOSIGNAL)
				expect("send", n, err, len(buffer), nil)
				n, err = k.Read(b, buffer)
				expect("read", n, err, len(buffer), nil)
			}},
			{"EpollCtl", func() {
				err := k.EpollCtl(epfd, unix.EPOLL_CTL_MOD, fd,
					unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
				expect("epoll_ctl", 0, err, 0, nil)
			}},
			{"EpollWait", func() {
				n, err := k.EpollWait(epfd, events, -1) // wake was called
				expect("epoll_wait", n, err, 1, nil)
			}},
			{"SetsockoptInt", func() {
				err := k.SetsockoptInt(listener, unix.IPPROTO_TCP, unix.TCP_CORK, 0)
				expect("setsockopt", 0, err, 0, nil)
			}},
			{"Shutdown", func() {
				err := k.Shutdown(-1, unix.SHUT_WR)
				expect("shutdown", 0, err, 0, unix.EBADF)
			}},
			{"Close", func() {
				expect("close", 0, k.Close(-1), 0, unix.EBADF)
			}},
			{"Now", func() { _ = k.Now() }},
		} {
			if allocs := testing.AllocsPerRun(200, test.call); allocs != 0 {
				t.Errorf("%s: %v allocations a call", test.name, allocs)
			}
		}
	})
}

func TestMayBlock(t *testing.T) {
	blocking, _ := pair(t, 0)
	nonblocking, _ := pair(t, unix.SOCK_NONBLOCK)
	for fd, want := range map[int]bool{blocking: true, nonblocking: false, -1: true} {
		if got := kernel.MayBlock(fd); got != want {
			t.Errorf("MayBlock(%d) = %v", fd, got)
		}
	}
}
