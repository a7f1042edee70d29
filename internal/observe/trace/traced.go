//go:build linux

package trace

import (
	"fmt"
	"net/netip"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

// Traced makes every call through the Kernel inside it and reports it to an Observer.
type Traced struct {
	Kernel   kernel.Kernel
	Observer Observer

	calls atomic.Int64
}

func (t *Traced) enter(name string, fd int, args string) *Call {
	c := &Call{
		Number: t.calls.Add(1), Name: name, FD: fd, Args: args,
		Thread: unix.Gettid(), Entered: t.Kernel.Now(),
	}
	c.File, c.Line = lessonLine()
	t.Observer.Enter(c)
	return c
}

func (t *Traced) leave(c *Call, result int, err error) {
	c.Return(t.Kernel.Now(), result, err, kernel.MayBlock)
	if accepts(c.Name) && err == nil {
		c.Peer, _ = kernel.PeerOf(result)
	}
	t.Observer.Leave(c)
}

// leaveErr calls leave for a call that returns nothing but an error.
func (t *Traced) leaveErr(c *Call, err error) {
	result := 0
	if err != nil {
		result = -1
	}
	t.leave(c, result, err)
}

// below are the packages that make calls for a lesson: a call that one of them makes
// belongs to the line of the lesson that asked for it.
var below = []string{
	"lesson/internal/kernel", "lesson/internal/observe/trace", "lesson/internal/server",
}

// lessonLine returns where in the lesson a call was made: the nearest caller outside
// the packages below.
func lessonLine() (file string, line int) {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	for {
		frame, more := frames.Next()
		// A function's name starts with its package's path: "lesson/blocking.(*Server).Once".
		dir, name := path.Split(frame.Function)
		name, _, _ = strings.Cut(name, ".")
		if pkg := dir + name; !more || !slices.Contains(below, pkg) {
			return path.Join(strings.TrimPrefix(pkg, "lesson/"), path.Base(frame.File)), frame.Line
		}
	}
}

func (t *Traced) Socket(domain, typ, proto int) (int, error) {
	c := t.enter("socket", -1, SocketArgs(domain, typ))
	fd, err := t.Kernel.Socket(domain, typ, proto)
	t.leave(c, fd, err)
	return fd, err
}

func (t *Traced) Bind(fd int, addr netip.AddrPort) error {
	c := t.enter("bind", fd, fmt.Sprintf("%d, %s", fd, addr))
	err := t.Kernel.Bind(fd, addr)
	t.leaveErr(c, err)
	return err
}

func (t *Traced) Listen(fd, backlog int) error {
	c := t.enter("listen", fd, fmt.Sprintf("%d, %d", fd, backlog))
	err := t.Kernel.Listen(fd, backlog)
	t.leaveErr(c, err)
	return err
}

func (t *Traced) Getsockname(fd int) (netip.AddrPort, error) {
	c := t.enter("getsockname", fd, fmt.Sprint(fd))
	addr, err := t.Kernel.Getsockname(fd)
	t.leaveErr(c, err)
	return addr, err
}

func (t *Traced) SetsockoptInt(fd, level, name, value int) error {
	c := t.enter("setsockopt", fd, fmt.Sprintf("%d, %s, %d", fd, OptionName(level, name), value))
	err := t.Kernel.SetsockoptInt(fd, level, name, value)
	t.leaveErr(c, err)
	return err
}

func (t *Traced) SetsockoptTimeval(fd, level, name int, d time.Duration) error {
	args := fmt.Sprintf("%d, %s, %.3f s", fd, OptionName(level, name), d.Seconds())
	c := t.enter("setsockopt", fd, args)
	err := t.Kernel.SetsockoptTimeval(fd, level, name, d)
	t.leaveErr(c, err)
	return err
}

func (t *Traced) Accept4(fd, flags int) (int, error) {
	c := t.enter("accept4", fd, fmt.Sprint(fd))
	conn, err := t.Kernel.Accept4(fd, flags)
	t.leave(c, conn, err)
	return conn, err
}

func (t *Traced) Read(fd int, p []byte) (int, error) {
	c := t.enter("read", fd, fmt.Sprintf("%d, %d bytes", fd, len(p)))
	n, err := t.Kernel.Read(fd, p)
	c.Data = p[:max(n, 0)]
	t.leave(c, n, err)
	return n, err
}

func (t *Traced) Send(fd int, p []byte, flags int) (int, error) {
	c := t.enter("send", fd, fmt.Sprintf("%d, %d bytes", fd, len(p)))
	n, err := t.Kernel.Send(fd, p, flags)
	c.Data = p[:max(n, 0)]
	t.leave(c, n, err)
	return n, err
}

func (t *Traced) Shutdown(fd, how int) error {
	names := [...]string{"SHUT_RD", "SHUT_WR", "SHUT_RDWR"}
	c := t.enter("shutdown", fd, fmt.Sprintf("%d, %s", fd, names[how]))
	err := t.Kernel.Shutdown(fd, how)
	t.leaveErr(c, err)
	return err
}

func (t *Traced) Close(fd int) error {
	c := t.enter("close", fd, fmt.Sprint(fd))
	err := t.Kernel.Close(fd)
	t.leaveErr(c, err)
	return err
}

func (t *Traced) EpollCreate1(flags int) (int, error) {
	c := t.enter("epoll_create1", -1, "")
	epfd, err := t.Kernel.EpollCreate1(flags)
	t.leave(c, epfd, err)
	return epfd, err
}

func (t *Traced) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	ops := [...]string{"", "ADD", "DEL", "MOD"}
	args := fmt.Sprintf("%d, %s, %d, %s", epfd, ops[op], fd, EventNames(event.Events))
	c := t.enter("epoll_ctl", fd, args)
	err := t.Kernel.EpollCtl(epfd, op, fd, event)
	t.leaveErr(c, err)
	return err
}

func (t *Traced) EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (int, error) {
	args := fmt.Sprintf("%d, %d ms", epfd, milliseconds)
	if milliseconds < 0 {
		args = fmt.Sprintf("%d, forever", epfd)
	}
	c := t.enter("epoll_wait", -1, args)
	n, err := t.Kernel.EpollWait(epfd, events, milliseconds)
	c.Events = events[:max(n, 0)]
	t.leave(c, n, err)
	return n, err
}

func (t *Traced) Nanosleep(d time.Duration) error {
	c := t.enter("nanosleep", -1, fmt.Sprintf("%.3f s", d.Seconds()))
	err := t.Kernel.Nanosleep(d)
	t.leaveErr(c, err)
	return err
}

// Now is not traced: it is not a call into the kernel.
func (t *Traced) Now() time.Duration { return t.Kernel.Now() }
