//go:build linux

package kernel

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestSockaddrAndBack(t *testing.T) {
	for _, text := range []string{"127.0.0.1:8080", "0.0.0.0:0", "[::1]:65535", "[::]:1", "[2001:db8::7]:443"} {
		addr := netip.MustParseAddrPort(text)
		sockaddr, err := Sockaddr(addr)
		if err != nil {
			t.Errorf("%v: %v", addr, err)
		}
		if back, ok := AddrPort(sockaddr); !ok || back != addr {
			t.Errorf("%v: %v, %v", addr, back, ok)
		}
		if back, ok := RawAddrPort(RawSockaddr(addr)); !ok || back != addr {
			t.Errorf("raw, %v: %v, %v", addr, back, ok)
		}
	}
	if addr, ok := AddrPort(&unix.SockaddrUnix{Name: "/x"}); ok {
		t.Errorf("a Unix socket has the address %v", addr)
	}
	six := RawSockaddr(netip.MustParseAddrPort("[::1]:1"))
	for _, raw := range [][]byte{nil, six[:15], six[:23], make([]byte, 28)} {
		if addr, ok := RawAddrPort(raw); ok {
			t.Errorf("%v is %v", raw, addr)
		}
	}
}
