//go:build linux

package kernel

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// PeerOf returns the address of the client of a connection of this process:
// getpeername(2). It returns false when the client has already left (ENOTCONN).
func PeerOf(fd int) (netip.AddrPort, bool) {
	sockaddr, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}, false
	}
	addr, ok := AddrPort(sockaddr)
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), ok
}

// AddrPort returns the address in a sockaddr of IPv4 or IPv6, and false for any other.
func AddrPort(sockaddr unix.Sockaddr) (netip.AddrPort, bool) {
	switch a := sockaddr.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}

// Sockaddr returns addr as bind(2) and connect(2) take it. The zone of a link-local IPv6
// address is an interface's name or number; ENODEV when there is no such interface.
func Sockaddr(addr netip.AddrPort) (unix.Sockaddr, error) {
	ip, port := addr.Addr(), int(addr.Port())
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: ip.As4()}, nil
	}
	sockaddr := &unix.SockaddrInet6{Port: port, Addr: ip.As16()}
	if ip.Zone() != "" {
		iface, err := net.InterfaceByName(ip.Zone())
		if err != nil {
			return nil, unix.ENODEV
		}
		sockaddr.ZoneId = uint32(iface.Index)
	}
	return sockaddr, nil
}

// Where the parts of a struct sockaddr_in and of a sockaddr_in6 lie: ip(7), ipv6(7). The
// family comes first, in the processor's byte order, and the port after it.
const (
	ip4At = 4
	ip6At = 8 // after the flow, which is 0
)

// RawAddrPort returns the address in the bytes of a sockaddr, and false when they are
// too few.
func RawAddrPort(raw []byte) (netip.AddrPort, bool) {
	if len(raw) < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(raw[2:])
	switch family := binary.NativeEndian.Uint16(raw); {
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[ip4At:])), port), true
	case family == unix.AF_INET6 && len(raw) >= ip6At+16:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(raw[ip6At:])), port), true
	}
	return netip.AddrPort{}, false
}

// RawSockaddr returns the bytes of a sockaddr, as the kernel reads them. The zone of an
// address is ignored.
func RawSockaddr(addr netip.AddrPort) []byte {
	raw, ipAt := make([]byte, unix.SizeofSockaddrInet4), ip4At
	if !addr.Addr().Is4() {
		raw, ipAt = make([]byte, unix.SizeofSockaddrInet6), ip6At
	}
	binary.NativeEndian.PutUint16(raw, uint16(Family(addr.Addr())))
	binary.BigEndian.PutUint16(raw[2:], addr.Port())
	copy(raw[ipAt:], addr.Addr().AsSlice())
	return raw
}
