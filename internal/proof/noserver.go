//go:build linux

package proof

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// NoServer returns an address of 127.0.0.1 where no socket listens, or can until the test
// ends: it is bound. A port that was free a moment ago may be another program's by now.
func NoServer(t testing.TB) netip.AddrPort {
	t.Helper()
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	Must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) }) // it has nothing to lose
	Must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()}))
	at, err := unix.Getsockname(fd)
	Must(t, err)
	return netip.AddrPortFrom(loopback, uint16(at.(*unix.SockaddrInet4).Port))
}
