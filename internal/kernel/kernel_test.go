//go:build linux

package kernel_test

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/proof"
)

// pair is two connected sockets. They are closed when the test ends.
func pair(t *testing.T, flags int) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	proof.Must(t, err)
	t.Cleanup(func() {
		proof.Must(t, unix.Close(fds[0]))
		proof.Must(t, unix.Close(fds[1]))
	})
	return fds[0], fds[1]
}

// listen makes a listener on a port of the kernel's choice.
func listen(t *testing.T, k kernel.Kernel, flags int) (int, netip.AddrPort) {
	t.Helper()
	fd, err := k.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0)
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, unix.Close(fd)) })
	proof.Must(t, k.Bind(fd, netip.MustParseAddrPort("127.0.0.1:0")))
	proof.Must(t, k.Listen(fd, 10))
	addr, err := k.Getsockname(fd)
	proof.Must(t, err)
	return fd, addr
}

// connect makes a client. The kernel completes the connection by itself, so it
// lies in the accept queue when connect returns, or a moment later.
func connect(t *testing.T, addr netip.AddrPort) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, unix.Close(fd)) })
	proof.Must(t, unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}))
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
