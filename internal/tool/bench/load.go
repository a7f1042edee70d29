//go:build linux

package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/observe/proc"
	"lesson/internal/server"
)

// A load is requests for one server: each on a connection of its own, which is
// read to end of file and closed.
//
// A closed loop (rate 0) keeps its clients going: each asks again as soon as it
// has been answered. An open loop asks when a request is due, however the server
// does; while all of its clients are waiting, what is due has to wait for one.
type load struct {
	server  netip.AddrPort
	request []byte
	answer  answer
	clients int           // connections at a time
	rate    float64       // requests that become due in a second; 0: closed loop
	during  time.Duration // requests are started, or become due, for so long
	most    int64         // requests, at the most; 0: no bound
	timeout time.Duration // for each request, from when it was sent
	cpu     int           // the processor to run on; anyProcessor
}

const anyProcessor = -1

// An outcome is what has come of a load.
type outcome struct {
	served   int64
	errors   Errors
	hopeless bool  // ended early: nothing but errors
	unsent   int64 // were due, and all clients waited until it was over

	elapsed time.Duration // from the first request to the last answer
	// Of those that were served: how long since the request was due, and since the
	// client began to connect. In a closed loop they are the same histogram.
	sinceDue, sinceSent *hdrhistogram.Histogram
	client              clientTime
}

// Errors are requests that were not answered as they should be, by what went wrong.
type Errors struct {
	Refused int64 `json:"refused,omitempty"`   // no socket listened
	Reset   int64 `json:"reset,omitempty"`     // the connection was cut off
	Short   int64 `json:"short,omitempty"`     // end of file came too early
	Wrong   int64 `json:"wrong,omitempty"`     // another answer, or a longer one
	Timeout int64 `json:"timed_out,omitempty"` // no answer in time
}

// All is how many there are.
func (e Errors) All() int64 { return e.Refused + e.Reset + e.Short + e.Wrong + e.Timeout }

func (e *Errors) add(more Errors) {
	e.Refused += more.Refused
	e.Reset += more.Reset
	e.Short += more.Short
	e.Wrong += more.Wrong
	e.Timeout += more.Timeout
}

// A clientTime is how the thread that makes the load has spent its time.
type clientTime struct{ ran, waited, wall time.Duration }

// busy is the part of its time in which the client was on its processor, or ready
// and waiting for it. At 1 it never waited for the server.
func (t clientTime) busy() float64 {
	if t.wall <= 0 {
		return 0
	}
	return float64(t.ran+t.waited) / float64(t.wall)
}

const (
	// hopeless is how many errors in a row end a load: a server that has ended
	// refuses 100,000 clients a second.
	hopeless = 1000
	// longest is the longest latency that can be recorded, and so bounds a timeout.
	longest = time.Hour
	// attention bounds how long a generator sleeps before it looks whether it is to
	// stop.
	attention = 100 * time.Millisecond
)

// run makes the load, on one thread of its own, pinned to its processor. When ctx
// ends it stops, and the outcome with ctx's error is of no use.
func (l load) run(ctx context.Context) (out outcome, err error) {
	g, err := newGenerator(l)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, g.end()) }()
	stop := context.AfterFunc(ctx, func() { g.stopped.Store(true) })
	defer stop()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	restore, err := pin(l.cpu)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, restore()) }()

	before, err := proc.UsedByThisThread()
	if err != nil {
		return out, err
	}
	g.began = g.kernel.Now()
	if err := g.loop(); err != nil {
		return out, err
	}
	after, err := proc.UsedByThisThread()
	if err != nil {
		return out, err
	}
	g.out.client = clientTime{
		ran: after.Ran - before.Ran, waited: after.Waited - before.Waited,
		wall: g.kernel.Now() - g.began,
	}
	return g.out, ctx.Err()
}

// A generator is the event loop that makes a load. It is the mirror of the event
// loop of a lesson, with edges: each connection is registered once, for all that
// can happen to it. After newGenerator, nothing is allocated.
type generator struct {
	load
	kernel  kernel.Linux
	epoll   int
	address []byte // of the server, as connect(2) takes it
	source  []byte // of the client, as bind(2) takes it
	events  []unix.EpollEvent
	buffer  []byte

	began     time.Duration
	clients   []caller
	idle      []*caller // without a request
	deadlines server.Deadlines[caller]
	begun     int64 // requests that have been sent
	failing   int64 // errors since the last that was served
	stopped   atomic.Bool
	out       outcome
}

// A caller is a place for one connection at a time.
type caller struct {
	fd        int
	number    int
	turn      int32 // of its connections: which one an event is for
	connected bool
	got       int           // bytes of the answer
	due, sent time.Duration // when the request was
	deadline  server.Deadline[caller]
}

func newGenerator(l load) (*generator, error) {
	g := &generator{
		load:    l,
		address: kernel.RawSockaddr(l.server),
		source:  kernel.RawSockaddr(netip.AddrPortFrom(proc.Source(0), 0)),
		events:  make([]unix.EpollEvent, 256),
		buffer:  make([]byte, 16<<10),
		clients: make([]caller, l.clients),
	}
	g.kernel.Nonblocking = true
	g.deadlines.After = l.timeout
	g.out.sinceDue = hdrhistogram.New(int64(time.Microsecond), int64(longest), 3)
	g.out.sinceSent = g.out.sinceDue
	if l.rate > 0 {
		g.out.sinceSent = hdrhistogram.New(int64(time.Microsecond), int64(longest), 3)
	}
	for i := range g.clients {
		g.clients[i] = caller{fd: -1, number: i}
		g.idle = append(g.idle, &g.clients[i])
	}
	var err error
	if g.epoll, err = g.kernel.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return g, nil
}

// end closes what an interrupted load has left open.
func (g *generator) end() error {
	var err error
	for i := range g.clients {
		if c := &g.clients[i]; c.fd >= 0 {
			err = errors.Join(err, g.kernel.Close(c.fd))
		}
	}
	return errors.Join(err, g.kernel.Close(g.epoll))
}

// loop takes turns until all that was begun has ended. Requests are begun after the
// batch of events has been dealt with, so that a client whose connection has ended
// in it cannot get an event of its next.
func (g *generator) loop() error {
	for !g.stopped.Load() {
		now := g.kernel.Now()
		for c := g.deadlines.Expired(now); c != nil; c = g.deadlines.Expired(now) {
			if err := g.fail(c, &g.out.errors.Timeout); err != nil {
				return err
			}
		}
		more, err := g.begin(now)
		if err != nil {
			return err
		}
		if !more && len(g.idle) == len(g.clients) {
			return nil
		}
		n, err := g.wait(g.kernel.Now())
		if err != nil {
			return err
		}
		for _, event := range g.events[:n] {
			c := &g.clients[event.Fd]
			if c.fd < 0 || c.turn != event.Pad {
				continue // of a connection that lives on in a process that has just been forked
			}
			if err := g.handle(c, event.Events); err != nil {
				return err
			}
		}
	}
	return nil
}

// begin sends what is to be sent now, as far as there are clients, and says whether
// there is more to come.
func (g *generator) begin(now time.Duration) (more bool, err error) {
	for {
		due, any := g.nextDue(now)
		if !any || g.failing >= hopeless {
			g.out.hopeless = g.failing >= hopeless
			return false, nil
		}
		if g.rate > 0 && now-g.began > g.during+g.timeout {
			g.out.unsent = g.dueInAll() - g.begun
			return false, nil
		}
		if len(g.idle) == 0 || due > now {
			return true, nil
		}
		last := len(g.idle) - 1
		c := g.idle[last]
		g.idle = g.idle[:last]
		g.begun++
		c.due, c.sent = due, now
		if g.rate == 0 {
			c.due = now
		}
		if err := g.connect(c); err != nil {
			return false, err
		}
		now = g.kernel.Now()
	}
}

// nextDue is when the next request is due, if there is to be another.
func (g *generator) nextDue(now time.Duration) (due time.Duration, any bool) {
	if g.most > 0 && g.begun >= g.most {
		return 0, false
	}
	if g.rate == 0 {
		return now, now-g.began < g.during
	}
	due = g.began + time.Duration(float64(g.begun)/g.rate*float64(time.Second))
	return due, g.begun < g.dueInAll()
}

// dueInAll is how many requests an open loop is to make.
func (g *generator) dueInAll() int64 { return int64(g.rate * g.during.Seconds()) }

// connect begins a connection. On loopback the handshake is over when connect
// returns EINPROGRESS, but for a server whose accept queue is full: so EPOLLOUT,
// which says that it is over, is there at the next turn.
func (g *generator) connect(c *caller) error {
	const flags = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	family := int(binary.NativeEndian.Uint16(g.address))
	fd, err := g.kernel.Socket(family, flags, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	*c = caller{fd: fd, number: c.number, turn: c.turn + 1, due: c.due, sent: c.sent}
	g.deadlines.Add(c, &c.deadline, c.sent)
	if err := g.leaveFrom(fd); err != nil {
		return err
	}
	err = call(unix.SYS_CONNECT, fd, g.address)
	switch err {
	case nil, unix.EINPROGRESS:
	case unix.ECONNREFUSED:
		return g.fail(c, &g.out.errors.Refused)
	case unix.EADDRNOTAVAIL:
		return errors.New("connect: EADDRNOTAVAIL: the ephemeral ports of this machine are in use;" +
			" wait a minute, or raise net.ipv4.ip_local_port_range")
	default:
		return fmt.Errorf("connect: %w", err)
	}
	event := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     int32(c.number),
		Pad:    c.turn, // the other half of epoll_data
	}
	if err := g.kernel.EpollCtl(g.epoll, unix.EPOLL_CTL_ADD, fd, event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// perSource is how many connections leave from one address, and manySources how many
// addresses there are. An address has 28,232 ports; the side that closes first keeps
// one for a minute, in TIME_WAIT. No client makes so many connections in a minute.
const perSource, manySources = 16 << 10, 250

// made counts the connections of all loads.
var made atomic.Int64

// leaveFrom gives a connection the address that it leaves from. Its port is chosen
// by connect, which knows the server's address and so has more of them to choose
// from: IP_BIND_ADDRESS_NO_PORT of ip(7).
func (g *generator) leaveFrom(fd int) error {
	if !g.server.Addr().Is4() {
		return nil // ::1 is alone
	}
	const at = 4 // behind the family and the port: ip(7)
	from := proc.Source(int(made.Add(1)) / perSource % manySources).As4()
	copy(g.source[at:], from[:])
	err := g.kernel.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err == nil {
		err = call(unix.SYS_BIND, fd, g.source)
	}
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

// handle continues with a connection to which something has happened.
func (g *generator) handle(c *caller, events uint32) error {
	if !c.connected && events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		c.connected = true
		// So few bytes always fit into an empty send buffer.
		n, err := g.kernel.Send(c.fd, g.request, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.ECONNREFUSED: // how connect has ended
			return g.fail(c, &g.out.errors.Refused)
		case err != nil: // EPIPE, ECONNRESET
			return g.fail(c, &g.out.errors.Reset)
		case n < len(g.request):
			return fmt.Errorf("send: %d of %d bytes", n, len(g.request))
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		return g.read(c, events)
	}
	return nil
}

// read reads what there is. A read that does not fill the buffer has emptied the
// socket, and what comes later is a new edge (epoll(7), question 9); but of an end
// that this event has already told of, there will be none.
func (g *generator) read(c *caller, events uint32) error {
	ended := events&(unix.EPOLLRDHUP|unix.EPOLLERR|unix.EPOLLHUP) != 0
	for {
		n, err := g.kernel.Read(c.fd, g.buffer)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return nil
		case err != nil: // ECONNRESET
			return g.fail(c, &g.out.errors.Reset)
		case n == 0 && c.got < len(g.answer.bytes):
			return g.fail(c, &g.out.errors.Short)
		case n == 0:
			return g.serve(c)
		case !g.answer.goesOn(c.got, g.buffer[:n]):
			return g.fail(c, &g.out.errors.Wrong)
		}
		c.got += n
		if n < len(g.buffer) && !ended {
			return nil
		}
	}
}

// serve notes a request that was answered.
func (g *generator) serve(c *caller) error {
	now := g.kernel.Now()
	g.out.served++
	g.out.elapsed = now - g.began
	g.failing = 0
	err := g.out.sinceDue.RecordValue(int64(now - c.due))
	if g.rate > 0 {
		err = errors.Join(err, g.out.sinceSent.RecordValue(int64(now-c.sent)))
	}
	return errors.Join(err, g.leave(c))
}

// fail counts a request that was not.
func (g *generator) fail(c *caller, count *int64) error {
	*count++
	g.failing++
	return g.leave(c)
}

// leave closes the connection; the client is free for another.
func (g *generator) leave(c *caller) error {
	g.deadlines.Remove(&c.deadline)
	err := g.kernel.Close(c.fd)
	c.fd = -1
	g.idle = append(g.idle, c)
	return err
}

// wait waits for events, or until the next request is due or out of time.
func (g *generator) wait(now time.Duration) (n int, err error) {
	until := min(g.deadlines.Next(), now+attention)
	if due, any := g.nextDue(now); any && g.rate > 0 && len(g.idle) > 0 {
		until = min(until, due)
	}
	if g.rate > 0 {
		n, err = g.waitExactly(max(0, until-now))
	} else {
		n, err = g.kernel.EpollWait(g.epoll, g.events, server.Milliseconds(now, until))
	}
	switch err {
	case nil:
		return n, nil
	case unix.EINTR:
		return 0, nil
	}
	return 0, fmt.Errorf("epoll_wait: %w", err)
}

// waitExactly is epoll_wait to the nanosecond, which is epoll_pwait2: an open loop
// has requests that are due between two milliseconds. A wait that is shorter than a
// tick is raw, as in kernel.Linux.
func (g *generator) waitExactly(most time.Duration) (int, error) {
	const tick = 4 * time.Millisecond
	timeout := unix.NsecToTimespec(int64(most))
	system := unix.Syscall6
	if most <= tick {
		system = unix.RawSyscall6
	}
	n, _, errno := system(unix.SYS_EPOLL_PWAIT2, uintptr(g.epoll),
		uintptr(unsafe.Pointer(unsafe.SliceData(g.events))), uintptr(len(g.events)),
		uintptr(unsafe.Pointer(&timeout)), 0, 0)
	switch errno {
	case 0:
		return int(n), nil
	case unix.ENOSYS:
		return 0, errors.New("an open loop (--rate) needs epoll_pwait2, which is Linux 5.11")
	}
	return 0, errno
}

// call is a raw system call that takes an address: neither connect nor bind waits
// on a non-blocking socket.
func call(number uintptr, fd int, address []byte) error {
	_, _, errno := unix.RawSyscall(number, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(address))), uintptr(len(address)))
	if errno != 0 {
		return errno
	}
	return nil
}

// pin keeps this thread on its processor, if there is one for it, until restore.
func pin(cpu int) (restore func() error, err error) {
	if cpu == anyProcessor {
		return proc.Pin()
	}
	return proc.Pin(cpu)
}
