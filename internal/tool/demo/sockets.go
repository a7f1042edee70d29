//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"lesson/internal/kernel"
	"lesson/internal/observe/proc"

	"golang.org/x/sys/unix"
)

// A demo makes its system calls itself, with the names of the manual: what is
// between them is what it is about. All sockets are non-blocking and IPv4.

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// newSocket is an unconnected TCP socket.
func newSocket() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	return fd, nil
}

// listenOn makes fd a listener on a port of the kernel's choice.
func listenOn(fd, backlog int) (netip.AddrPort, error) {
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(loopback, 0))); err != nil {
		return netip.AddrPort{}, fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen: %w", err)
	}
	return localAddr(fd)
}

// newListener is a socket that listens on loopback.
func newListener(backlog int) (int, netip.AddrPort, error) {
	fd, err := newSocket()
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	addr, err := listenOn(fd, backlog)
	if err != nil {
		closeAll(fd)
		return -1, addr, err
	}
	return fd, addr, nil
}

// startConnecting sends the SYN and does not wait for the answer.
func startConnecting(fd int, to netip.AddrPort) error {
	if err := unix.Connect(fd, sockaddr(to)); err != nil && err != unix.EINPROGRESS {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

func sockaddr(addr netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
}

func localAddr(fd int) (netip.AddrPort, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
	addr, _ := kernel.AddrPort(name) // it is one of IPv4
	return addr, nil
}

// closeAll closes; Linux closes a descriptor whatever close returns.
func closeAll(fds ...int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// tcpInfo is what the kernel knows of one end of a connection: tcp(7), TCP_INFO.
func tcpInfo(fd int) (*unix.TCPInfo, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, fmt.Errorf("getsockopt TCP_INFO: %w", err)
	}
	return info, nil
}

// socketMemory is what the kernel keeps for a socket, in bytes, and how many
// segments the socket has ignored: SO_MEMINFO, and the last column of `ss -m`.
type socketMemory struct {
	receiving uint32 // charged for what has arrived and is unread
	sending   uint32 // charged for what is unsent, or not acknowledged
	drops     uint32 // for a listener: SYNs, and last ACKs of a handshake, at a full queue
}

func memoryOf(fd int) (socketMemory, error) {
	const ( // linux/sock_diag.h
		skMeminfoRmemAlloc = iota
		_
		_
		_
		_
		skMeminfoWmemQueued
		_
		_
		skMeminfoDrops
		skMeminfoVars
	)
	var info [skMeminfoVars]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET,
		unix.SO_MEMINFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return socketMemory{}, fmt.Errorf("getsockopt SO_MEMINFO: %w", errno)
	}
	return socketMemory{
		info[skMeminfoRmemAlloc], info[skMeminfoWmemQueued], info[skMeminfoDrops],
	}, nil
}

// tcpExt is the counters of these names: see proc.TCPExt.
func tcpExt(names ...string) (map[string]int64, error) {
	counters, err := proc.TCPExt()
	if err != nil {
		return nil, err
	}
	found := make(map[string]int64)
	for _, name := range names {
		value, ok := counters[name]
		if !ok {
			return nil, fmt.Errorf("this kernel has no counter %s", name)
		}
		found[name] = value
	}
	return found, nil
}

// errTooLong says that what must happen has not.
var errTooLong = errors.New("it takes too long here; is this machine very busy?")

// until waits for a condition. It looks a thousand times a second.
func until(ctx context.Context, atMost time.Duration, holds func() (bool, error)) error {
	began := time.Now()
	for {
		if ok, err := holds(); ok || err != nil {
			return err
		}
		if time.Since(began) > atMost {
			return errTooLong
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// pause does nothing for so long, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// seconds is how a table shows a time.
func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }
