//go:build linux

package lesson_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel/simulated"
	"lesson/internal/lesson"
	"lesson/internal/play"
)

// The contract once more, on the simulated kernel and in virtual time. Package net makes
// the calls of netpoll, which are out of reach.
func TestBehaviourSimulated(t *testing.T) {
	for _, l := range lesson.All() {
		if !traced(l) {
			continue
		}
		t.Run(l.Name, func(t *testing.T) {
			for _, b := range slices.Concat(contract, exact) {
				if !b.who(l) {
					continue
				}
				t.Run(b.name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { b.test(inMemory(t), l) })
				})
			}
		})
	}
}

// mostCalls is five times what the servers of any behaviour need.
const mostCalls = 300_000

// memory is a simulated machine.
type memory struct {
	shared *simulated.Kernel

	mu    sync.Mutex
	conns map[*play.Conn]*end
}

func inMemory(t *testing.T) *T {
	m := &memory{shared: simulated.New(simulated.Options{World: &limit{mostCalls}}), conns: map[*play.Conn]*end{}}
	m.shared.Share()
	return &T{T: t, machine: m, alone: true}
}

func (m *memory) kernel(lesson.Lesson) countingKernel { return sharedKernel{m.shared} }

// A sharedKernel counts calls as kernel.Linux does.
type sharedKernel struct{ *simulated.Kernel }

// A limit is the World of a kernel. It ends the program when a server spins: virtual time
// does not pass meanwhile, so no deadline would end the test.
type limit struct{ left int }

func (l *limit) Call(name string, fd int) {
	if l.left--; l.left < 0 {
		fmt.Fprintf(os.Stderr, "the server spins: %s of %d is call %d\n", name, fd, mostCalls)
		os.Exit(1) // a panic would make it close what it has, by further calls
	}
}

func (*limit) Idle() bool { return false }
func (*limit) Step() int  { return 0 }
func (*limit) Stuck()     {}

func (k sharedKernel) Calls() (n int64) {
	k.Act(func() { n = int64(k.Kernel.Calls()) })
	return n
}

func (m *memory) dial(
	addr netip.AddrPort, _ func(netip.AddrPort) (*play.Conn, error),
) (*play.Conn, error) {
	e := &end{kernel: m.shared, remote: addr}
	m.shared.Act(func() { e.client = m.shared.Connect("a client", addr.Port()) })
	done := func() bool { return e.client.Connected() || e.client.Refused() }
	switch {
	case !m.shared.Await(play.Patience, done):
		return nil, os.ErrDeadlineExceeded
	case e.client.Refused():
		return nil, unix.ECONNREFUSED
	}
	c := play.Over(e)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conns[c] = e
	return c, nil
}

func (m *memory) hasIPv6() bool { return true }

// end returns our end of c.
func (m *memory) end(c *play.Conn) *end {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conns[c]
}

func (m *memory) theirs(c *play.Conn) (fd int) {
	m.shared.Act(func() { fd = m.end(c).client.Descriptor() })
	return fd
}

func (m *memory) queued(c *play.Conn) (unread, onTheirWay int, ok bool) {
	e := m.end(c)
	m.shared.Act(func() {
		unread, ok = m.shared.Unread(e.client), !e.closed && e.client.Descriptor() >= 0
	})
	return unread, 0, ok
}

// An end is the client's end of a connection to the simulated kernel.
type end struct {
	kernel    *simulated.Kernel
	client    *simulated.Client
	remote    netip.AddrPort
	abortive  bool // SetLinger(0): close resets
	closed    bool
	readUntil time.Time // zero for no limit
	sendUntil time.Time
}

// Bytes take this long to arrive: time must pass while clients send without end. The
// server's kernel holds so many that have not been read.
const (
	transit = 10 * time.Microsecond
	window  = 64 << 10
)

// until returns how long there is until a deadline.
func until(deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return play.Patience
	}
	return time.Until(deadline)
}

func (e *end) Read(p []byte) (n int, err error) {
	ready := e.kernel.Await(until(e.readUntil), func() bool {
		if e.closed {
			err = net.ErrClosed
			return true
		}
		if !e.client.Readable() {
			return false
		}
		got, ended, failed := e.client.Read(len(p))
		n, err = copy(p, got), failed
		if ended && failed == nil {
			err = io.EOF
		}
		return true
	})
	if !ready {
		return 0, os.ErrDeadlineExceeded
	}
	return n, err
}

func (e *end) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		time.Sleep(transit)
		ready := e.kernel.Await(until(e.sendUntil), func() bool {
			room := min(window-e.kernel.Unread(e.client), len(p)-n)
			if room <= 0 && !e.client.Ended() {
				return false
			}
			if err = e.client.Send(p[n : n+max(room, 0)]); err == nil {
				n += room
			}
			return true
		})
		if !ready {
			return n, os.ErrDeadlineExceeded
		}
	}
	return n, err
}

func (e *end) CloseWrite() (err error) {
	e.kernel.Act(func() { err = e.client.HalfClose() })
	return err
}

func (e *end) SetLinger(seconds int) error {
	e.abortive = seconds == 0
	return nil
}

func (e *end) Close() error {
	e.kernel.Act(func() {
		switch {
		case e.closed:
		case e.abortive:
			e.client.Reset()
		default:
			e.client.Close()
		}
		e.closed = true
	})
	return nil
}

func (e *end) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(e.remote) }
func (e *end) LocalAddr() net.Addr  { return &net.TCPAddr{} }

func (e *end) SetDeadline(t time.Time) error {
	e.readUntil, e.sendUntil = t, t
	return nil
}

func (e *end) SetReadDeadline(t time.Time) error {
	e.readUntil = t
	return nil
}

func (e *end) SetWriteDeadline(t time.Time) error {
	e.sendUntil = t
	return nil
}
