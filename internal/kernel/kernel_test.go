//go:build linux

package kernel_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

// patience bounds every wait for something that must happen. It is long: only
// a test that fails ever waits for it.
const patience = 20 * time.Second

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for start := time.Now(); !condition(); time.Sleep(100 * time.Microsecond) {
		if time.Since(start) > patience {
			t.Fatalf("waited %v for this: %s", patience, what)
		}
	}
}

// asleep says whether a thread of this process sleeps in the kernel.
func asleep(thread int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", thread))
	if err != nil {
		return false
	}
	// The state comes after the name, which stands in parentheses.
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "S")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair is two connected sockets. They are closed when the test ends.
func pair(t *testing.T, flags int) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	must(t, err)
	t.Cleanup(func() {
		must(t, unix.Close(fds[0]))
		must(t, unix.Close(fds[1]))
	})
	return fds[0], fds[1]
}

// listen makes a listener on a port of the kernel's choice.
func listen(t *testing.T, k kernel.Kernel, flags int) (int, netip.AddrPort) {
	t.Helper()
	fd, err := k.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	must(t, k.Bind(fd, netip.MustParseAddrPort("127.0.0.1:0")))
	must(t, k.Listen(fd, 10))
	addr, err := k.Getsockname(fd)
	must(t, err)
	return fd, addr
}

// connect makes a client. The kernel completes the connection by itself, so it
// lies in the accept queue when connect returns.
func connect(t *testing.T, addr netip.AddrPort) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	must(t, unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}))
	return fd
}

func TestErrorClasses(t *testing.T) {
	const connection, exhausted, neither = "connection", "exhausted", "neither"
	tests := []struct {
		err   error
		class string
	}{
		// accept(2): "already-pending network errors on the new socket".
		{unix.ENETDOWN, connection},
		{unix.EPROTO, connection},
		{unix.ENOPROTOOPT, connection},
		{unix.EHOSTDOWN, connection},
		{unix.ENONET, connection},
		{unix.EHOSTUNREACH, connection},
		{unix.EOPNOTSUPP, connection},
		{unix.ENETUNREACH, connection},
		// The connection is gone, or a firewall forbids it, or a signal came.
		{unix.ECONNABORTED, connection},
		{unix.EPERM, connection},
		{unix.EINTR, connection},

		{unix.EMFILE, exhausted},
		{unix.ENFILE, exhausted},
		{unix.ENOBUFS, exhausted},
		{unix.ENOMEM, exhausted},

		{nil, neither},
		{unix.EAGAIN, neither},
		{unix.EINVAL, neither}, // also what a listener that was shut down says
		{unix.EBADF, neither},
		{unix.EFAULT, neither},
		{unix.ENOTSOCK, neither},
		{unix.ECONNRESET, neither},
	}
	for _, test := range tests {
		if got := kernel.IsConnectionError(test.err); got != (test.class == connection) {
			t.Errorf("IsConnectionError(%v) = %v", test.err, got)
		}
		if got := kernel.IsExhausted(test.err); got != (test.class == exhausted) {
			t.Errorf("IsExhausted(%v) = %v", test.err, got)
		}
	}
}

func TestEventNames(t *testing.T) {
	tests := []struct {
		mask uint32
		want string
	}{
		{0, "0"},
		{unix.EPOLLIN, "EPOLLIN"},
		{unix.EPOLLOUT, "EPOLLOUT"},
		{unix.EPOLLHUP | unix.EPOLLIN, "EPOLLIN|EPOLLHUP"},
		{unix.EPOLLERR | unix.EPOLLRDHUP, "EPOLLRDHUP|EPOLLERR"},
		{unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, "EPOLLIN|EPOLLOUT|EPOLLET"},
		{unix.EPOLLIN | unix.EPOLLONESHOT, "EPOLLIN|EPOLLONESHOT"},
		{unix.EPOLLIN | unix.EPOLLEXCLUSIVE, "EPOLLIN|EPOLLEXCLUSIVE"},
		{unix.EPOLLPRI, "0x2"},
		{unix.EPOLLIN | unix.EPOLLPRI, "EPOLLIN|0x2"},
	}
	for _, test := range tests {
		if got := kernel.EventNames(test.mask); got != test.want {
			t.Errorf("EventNames(%#x) = %q, want %q", test.mask, got, test.want)
		}
	}
}
