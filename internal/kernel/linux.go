//go:build linux

package kernel

import (
	"fmt"
	"math"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Linux makes real system calls and counts them.
//
// Go makes a system call in one of two ways. Syscall informs the scheduler
// first: if the call blocks, another thread runs the other goroutines meanwhile.
// RawSyscall does not and is cheaper, but while a raw call blocks, no goroutine
// runs on this processor, and the garbage collector has to wait as well.
type Linux struct {
	// Nonblocking states that every descriptor on which the caller accepts,
	// reads and writes is non-blocking. Then none of these calls can block,
	// and all may be raw. EpollWait may still block, so it does not depend
	// on this.
	Nonblocking bool

	calls atomic.Int64
}

// Calls returns how many system calls have been made so far.
func (l *Linux) Calls() int64 { return l.calls.Load() }

// outcome returns the result of a system call as the manual describes it.
func outcome(r uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

func (l *Linux) Socket(domain, typ, proto int) (int, error) {
	l.calls.Add(1)
	return unix.Socket(domain, typ, proto)
}

func (l *Linux) Bind(fd int, addr netip.AddrPort) error {
	l.calls.Add(1)
	sockaddr, err := Sockaddr(addr)
	if err != nil {
		return err
	}
	return unix.Bind(fd, sockaddr)
}

func (l *Linux) Listen(fd, backlog int) error {
	l.calls.Add(1)
	return unix.Listen(fd, backlog)
}

func (l *Linux) Getsockname(fd int) (netip.AddrPort, error) {
	l.calls.Add(1)
	sockaddr, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addr, ok := AddrPort(sockaddr)
	if !ok {
		return addr, fmt.Errorf("getsockname: neither IPv4 nor IPv6: %T", sockaddr)
	}
	return addr, nil
}

// MayBlock reports whether calls on a descriptor of this process may block: whether it
// lacks O_NONBLOCK. It returns true for a descriptor that is not open.
func MayBlock(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err != nil || flags&unix.O_NONBLOCK == 0
}

func (l *Linux) SetsockoptInt(fd, level, name, value int) error {
	l.calls.Add(1)
	v := int32(value)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	_, err := outcome(0, errno)
	return err
}

func (l *Linux) SetsockoptTimeval(fd, level, name int, d time.Duration) error {
	l.calls.Add(1)
	tv := unix.NsecToTimeval(d.Nanoseconds())
	return unix.SetsockoptTimeval(fd, level, name, &tv)
}

func (l *Linux) Accept4(fd, flags int) (int, error) {
	l.calls.Add(1)
	if l.Nonblocking {
		r, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, uintptr(flags), 0, 0)
		return outcome(r, errno)
	}
	r, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, uintptr(flags), 0, 0)
	return outcome(r, errno)
}

func (l *Linux) Read(fd int, p []byte) (int, error) {
	l.calls.Add(1)
	if l.Nonblocking {
		r, _, errno := unix.RawSyscall(unix.SYS_READ,
			uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		return outcome(r, errno)
	}
	return unix.Read(fd, p)
}

// Send calls sendto without an address: Linux has no system call send on amd64 and arm64.
func (l *Linux) Send(fd int, p []byte, flags int) (int, error) {
	l.calls.Add(1)
	if l.Nonblocking {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDTO,
			uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags), 0, 0)
		return outcome(r, errno)
	}
	r, _, errno := unix.Syscall6(unix.SYS_SENDTO,
		uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags), 0, 0)
	return outcome(r, errno)
}

func (l *Linux) Shutdown(fd, how int) error {
	l.calls.Add(1)
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0)
	_, err := outcome(0, errno)
	return err
}

func (l *Linux) Close(fd int) error {
	l.calls.Add(1)
	if l.Nonblocking {
		_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
		_, err := outcome(0, errno)
		return err
	}
	return unix.Close(fd)
}

func (l *Linux) EpollCreate1(flags int) (int, error) {
	l.calls.Add(1)
	return unix.EpollCreate1(flags)
}

func (l *Linux) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	l.calls.Add(1)
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epfd), uintptr(op), uintptr(fd),
		uintptr(unsafe.Pointer(&event)), 0, 0)
	_, err := outcome(0, errno)
	return err
}

// rawWait bounds, in milliseconds, how long EpollWait keeps its processor from
// the rest of the Go program. It is one tick of the kernel's clock (CONFIG_HZ is
// 250 on most distributions): for a shorter timeout the kernel sets the
// processor's timer at each wait, which costs as much as the wait.
const rawWait = 4

// EpollWait waits in two steps. A busy server's next event is microseconds away,
// and handing the processor over and back costs more than such a short wait: so
// EpollWait first makes a raw call that waits for at most 4 ms (rawWait). Only if no
// event has come by then does it make a second call, through the scheduler, for the
// rest of the time. It also does so if a signal interrupts the raw wait: the Go runtime
// sends one when it needs the processor, as it does to a goroutine that has run too
// long. strace(1) shows both calls.
func (l *Linux) EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (int, error) {
	first := milliseconds
	if milliseconds < 0 || milliseconds > rawWait {
		first = rawWait
	}
	n, err := l.epollWait(epfd, events, first, true)
	switch {
	case n > 0 || first == milliseconds:
		return n, err
	case err == unix.EINTR:
		// The kernel does not return how much of the time is over. Waiting
		// for all of it again is at most rawWait too long.
	case err != nil:
		return n, err
	case milliseconds > 0:
		milliseconds -= first
	}
	return l.epollWait(epfd, events, milliseconds, false)
}

// epollWait calls epoll_pwait without a signal mask, which does what epoll_wait
// does and exists on every architecture of Linux; epoll_wait does not.
func (l *Linux) epollWait(
	epfd int, events []unix.EpollEvent, milliseconds int, raw bool,
) (int, error) {
	l.calls.Add(1)
	if raw {
		r, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT,
			uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)),
			uintptr(milliseconds), 0, 0)
		return outcome(r, errno)
	}
	r, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT,
		uintptr(epfd), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)),
		uintptr(milliseconds), 0, 0)
	return outcome(r, errno)
}

func (l *Linux) Nanosleep(d time.Duration) error {
	l.calls.Add(1)
	request := unix.NsecToTimespec(d.Nanoseconds())
	return unix.Nanosleep(&request, nil)
}

// start is one moment on two clocks: Go's, which is fast to read, and the kernel's,
// which is the same in every process.
var start, startMonotonic = bothClocks()

// bothClocks reads Go's clock between two looks at the kernel's, again while other programs
// run in between: at most for tries times, and then takes the closest.
func bothClocks() (at time.Time, atMonotonic time.Duration) {
	const near, tries = 10 * time.Microsecond, 1000
	closest := time.Duration(math.MaxInt64)
	for range tries {
		before := monotonic()
		now := time.Now()
		apart := monotonic() - before
		if apart < closest {
			closest, at, atMonotonic = apart, now, before+apart/2
		}
		if closest < near {
			break
		}
	}
	return at, atMonotonic
}

// monotonic reads the clock CLOCK_MONOTONIC.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // every Linux has this clock
	}
	return time.Duration(now.Nano())
}

func (l *Linux) Now() time.Duration { return startMonotonic + time.Since(start) }
