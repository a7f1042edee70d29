//go:build linux

package crowd

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

// AcceptOnly runs a server that does as little as possible for a connection: it
// accepts, and keeps the descriptor. It reads nothing, answers no client, and runs
// until it is killed. The memory that the kernel needs for its connections is what
// connections cost by themselves. Every other server adds its own.
func AcceptOnly(at netip.AddrPort) error {
	addr, err := kernel.Sockaddr(at)
	if err != nil {
		return fmt.Errorf("address %v: %w", at, err)
	}
	fd, err := unix.Socket(kernel.Family(at.Addr()), unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("SO_REUSEADDR: %w", err)
	}
	if err := unix.Bind(fd, addr); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		// Without the package's Accept4, which makes an address of each client's.
		_, _, err := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC, 0, 0)
		if err != 0 && err != unix.EINTR && err != unix.ECONNABORTED {
			return fmt.Errorf("accept4: %w", err)
		}
	}
}
