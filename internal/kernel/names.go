//go:build linux

package kernel

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// EventNames spells an epoll event mask: "EPOLLIN|EPOLLHUP"; "0" when empty.
func EventNames(mask uint32) string {
	names := []struct {
		bit  uint32
		name string
	}{
		{unix.EPOLLIN, "EPOLLIN"}, {unix.EPOLLPRI, "EPOLLPRI"}, {unix.EPOLLOUT, "EPOLLOUT"},
		{unix.EPOLLRDHUP, "EPOLLRDHUP"},
		{unix.EPOLLHUP, "EPOLLHUP"}, {unix.EPOLLERR, "EPOLLERR"}, {unix.EPOLLET, "EPOLLET"},
		{unix.EPOLLONESHOT, "EPOLLONESHOT"}, {unix.EPOLLEXCLUSIVE, "EPOLLEXCLUSIVE"},
	}
	var set []string
	for _, n := range names {
		if mask&n.bit != 0 {
			set = append(set, n.name)
			mask &^= n.bit
		}
	}
	if len(set) == 0 && mask == 0 {
		return "0"
	}
	if mask != 0 {
		set = append(set, fmt.Sprintf("%#x", mask))
	}
	return strings.Join(set, "|")
}

// Family returns the domain of sockets for an address: AF_INET or AF_INET6.
func Family(addr netip.Addr) int {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// SocketArgs spells the arguments of socket.
func SocketArgs(domain, typ int) string {
	family := map[int]string{unix.AF_INET: "AF_INET", unix.AF_INET6: "AF_INET6"}[domain]
	if typ&unix.SOCK_NONBLOCK != 0 {
		return family + ", SOCK_STREAM|SOCK_NONBLOCK"
	}
	return family + ", SOCK_STREAM"
}

// OptionName returns the name of a socket option that a lesson or package net sets, and
// the numbers of any other.
func OptionName(level, name int) string {
	type option struct{ level, name int }
	names := map[option]string{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR}:      "SO_REUSEADDR",
		{unix.SOL_SOCKET, unix.SO_REUSEPORT}:      "SO_REUSEPORT",
		{unix.SOL_SOCKET, unix.SO_RCVTIMEO}:       "SO_RCVTIMEO",
		{unix.SOL_SOCKET, unix.SO_SNDTIMEO}:       "SO_SNDTIMEO",
		{unix.IPPROTO_TCP, unix.TCP_NODELAY}:      "TCP_NODELAY",
		{unix.IPPROTO_TCP, unix.TCP_CORK}:         "TCP_CORK",
		{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT}: "TCP_DEFER_ACCEPT",
		// And those that package net sets.
		{unix.SOL_SOCKET, unix.SO_BROADCAST}:   "SO_BROADCAST",
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE}:   "SO_KEEPALIVE",
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}:  "TCP_KEEPIDLE",
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}: "TCP_KEEPINTVL",
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}:   "TCP_KEEPCNT",
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}:  "IPV6_V6ONLY",
	}
	if known, ok := names[option{level, name}]; ok {
		return known
	}
	return fmt.Sprintf("level %d, option %d", level, name)
}
