//go:build linux

package child

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	firstPort = 10240
	portRange = 20000 // its only prime factors are 2 and 5
)

// ports hands every port out once, so that no two servers of one run are given the same.
// They lie below those that the kernel gives to clients. Each run goes through them in an
// order of its own: two runs that went through them one by one, next to each other, would
// again and again be given the same port.
var (
	ports    atomic.Uint32
	portStep uint32
)

func init() {
	ports.Store(rand.Uint32N(portRange))
	for portStep%2 == 0 || portStep%5 == 0 { // only then does it lead to all of them
		portStep = rand.Uint32N(portRange)
	}
}

// FreePort returns a port of 127.0.0.1 that any program can listen on, and that this
// program has not been given before.
func FreePort() (uint16, error) {
	for range portRange {
		port := firstPort + ports.Add(portStep)%portRange
		switch err := tryPort(int(port)); {
		case errors.Is(err, unix.EADDRINUSE):
		case err != nil:
			return 0, err
		default:
			return uint16(port), nil
		}
	}
	return 0, fmt.Errorf("no free port between %d and %d", firstPort, firstPort+portRange)
}

// tryPort binds a socket to the port, on all addresses and without SO_REUSEADDR: so a
// port is taken also when only a connection in TIME_WAIT has it.
func tryPort(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("looking for a free port: socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return errors.Join(fmt.Errorf("looking for a free port: bind: %w", err), unix.Close(fd))
	}
	return unix.Close(fd)
}
