//go:build linux

package lesson_test

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/play"
)

// A machine runs the test of a behaviour: this computer, or a simulated kernel.
type machine interface {
	// kernel returns what a server of the lesson is to make its calls on.
	kernel(l lesson.Lesson) countingKernel
	// dial connects a client. On Linux it is connected by that function.
	dial(addr netip.AddrPort, on func(netip.AddrPort) (*play.Conn, error)) (*play.Conn, error)
	// theirs returns the server's descriptor of c's connection, -1 if it has none: not
	// accepted yet, or closed.
	theirs(c *play.Conn) int
	// queued returns how many bytes of c the server has not read, and how many are not
	// even known to have reached its kernel. ok is false when an end is not there.
	queued(c *play.Conn) (unread, onTheirWay int, ok bool)
	hasIPv6() bool
}

// A countingKernel counts the system calls that have been made.
type countingKernel interface {
	kernel.Kernel
	Calls() int64
}

// A T is a test of a behaviour on a machine.
type T struct {
	*testing.T
	machine machine
	// alone reports that nothing but this test is on the machine, whose time is virtual:
	// a part of it is not a test of its own.
	alone bool
}

func onLinux(t *testing.T) *T { return &T{T: t, machine: linux{}} }

// Run runs a part of the test.
func (t *T) Run(name string, part func(t *T)) {
	t.Helper()
	if !t.alone {
		t.T.Run(name, func(inner *testing.T) { part(onLinux(inner)) })
		return
	}
	failed := t.Failed()
	part(t)
	if t.Failed() && !failed {
		t.Logf("it was %q that failed", name)
	}
}

// Parallel lets this part run beside others, where it is a test of its own.
func (t *T) Parallel() {
	if !t.alone {
		t.T.Parallel()
	}
}

// onlyOnLinux skips what a simulated kernel cannot show, with the reason.
func (t *T) onlyOnLinux(why string) {
	t.Helper()
	if t.alone {
		t.Skip("only on Linux: " + why)
	}
}

// linux is the machine that the tests run on.
type linux struct{}

func (linux) kernel(l lesson.Lesson) countingKernel { return unseenCloses{l.Kernel()} }

// looking is held while a test looks at a descriptor of this process, and while a server
// closes one. A call has the file for as long as it lasts: a server that closes it meanwhile
// would find it in its interest list still, and its events with it.
var looking sync.RWMutex

// An unseenCloses is a kernel that closes no descriptor while the tests look.
type unseenCloses struct{ countingKernel }

func (k unseenCloses) Close(fd int) error {
	looking.Lock()
	defer looking.Unlock()
	return k.countingKernel.Close(fd)
}

func (linux) dial(
	addr netip.AddrPort, on func(netip.AddrPort) (*play.Conn, error),
) (*play.Conn, error) {
	return on(addr)
}

func (linux) hasIPv6() bool {
	probe, err := net.Listen("tcp", "[::1]:0")
	return err == nil && probe.Close() == nil
}

func (linux) theirs(c *play.Conn) int {
	_, theirs := ends(c)
	return theirs
}

// queued looks at both ends of c's connection: how many bytes the server has
// not read, and how many are not even known to have reached its kernel. ok is
// false when an end is not there.
func (linux) queued(c *play.Conn) (unread, onTheirWay int, ok bool) {
	ours, theirs := ends(c)
	if ours < 0 || theirs < 0 {
		return 0, 0, false
	}
	looking.RLock()
	defer looking.RUnlock()
	onTheirWay, err := unix.IoctlGetInt(ours, unix.SIOCOUTQ)
	if err != nil {
		return 0, 0, false
	}
	unread, err = unix.IoctlGetInt(theirs, unix.SIOCINQ)
	return unread, onTheirWay, err == nil
}

// openDescriptors returns the numbers of the descriptors that this process has open.
func openDescriptors() (open []int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			panic(err)
		}
		open = append(open, fd)
	}
	return open
}

// ends finds both ends of a client's connection among this process's own
// descriptors, for server and client are one process here; -1 for an end that
// is not there: not accepted yet, or closed.
func ends(c *play.Conn) (ours, theirs int) {
	ours, theirs = -1, -1
	for _, fd := range openDescriptors() {
		own, peer, connected := namesOf(fd)
		if !connected {
			continue // no descriptor, no socket, or not connected
		}
		local, _ := kernel.AddrPort(own) // none of another family is a client's
		remote, _ := kernel.AddrPort(peer)
		switch {
		case local == c.LocalAddr() && remote == c.RemoteAddr():
			ours = fd
		case local == c.RemoteAddr() && remote == c.LocalAddr():
			theirs = fd
		}
		if ours >= 0 && theirs >= 0 {
			break
		}
	}
	return ours, theirs
}

// namesOf returns the addresses of a socket that is connected.
func namesOf(fd int) (own, peer unix.Sockaddr, connected bool) {
	looking.RLock()
	defer looking.RUnlock()
	peer, err := unix.Getpeername(fd)
	if err != nil {
		return nil, nil, false
	}
	own, err = unix.Getsockname(fd)
	return own, peer, err == nil
}
