//go:build linux

package child

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
)

// ports hands every port out once, so that no two servers of one run want the
// same. They lie below those that the kernel gives to clients.
var ports atomic.Uint32

const (
	firstPort = 10240
	portRange = 20000
)

func init() { ports.Store(rand.Uint32N(portRange)) }

// FreePort is a port of 127.0.0.1 on which nobody listens, and that this program
// has not been given before.
func FreePort() (uint16, error) {
	for range portRange {
		port := firstPort + ports.Add(1)%portRange
		l, err := net.Listen("tcp", netip.AddrPortFrom(loopback, uint16(port)).String())
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
		return uint16(port), nil
	}
	return 0, fmt.Errorf("no free port between %d and %d", firstPort, firstPort+portRange)
}
