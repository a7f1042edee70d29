//go:build linux

package kernel

import (
	"fmt"
	"net/netip"
	"path"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Call is one system call. All but the last group of fields is known when
// it is entered; the last when it is left.
type Call struct {
	Name    string        // as in the manual: "accept4"
	FD      int           // the descriptor it is about; -1 when there is none
	Args    string        // what stands between its parentheses, readable
	File    string        // the lesson's source file: "blocking/once.go"
	Line    int           // and the line in it
	Thread  int           // the OS thread, as gettid(2) gives it
	Entered time.Duration // Kernel.Now

	Took   time.Duration
	Result int               // as the manual has it; -1 after an error
	Err    error             // nil, or a unix.Errno
	Data   []byte            // what was read or written; valid until Leave returns
	Events []unix.EpollEvent // what epoll_wait returned; valid until Leave returns
}

// An Observer is told of every call, on the goroutine that makes it: Enter
// before the call (which may then block for ever) and Leave after it, with the
// same *Call. Calls of several goroutines overlap. An Observer that keeps the
// Call must not read it between the two.
type Observer interface {
	Enter(*Call)
	Leave(*Call)
}

// Traced makes every call through the Kernel inside it and tells an Observer.
type Traced struct {
	Kernel   Kernel
	Observer Observer
}

func (t *Traced) enter(name string, fd int, args string) *Call {
	c := &Call{Name: name, FD: fd, Args: args, Thread: unix.Gettid(), Entered: t.Kernel.Now()}
	c.File, c.Line = lessonLine()
	t.Observer.Enter(c)
	return c
}

func (t *Traced) leave(c *Call, result int, err error) {
	c.Took = t.Kernel.Now() - c.Entered
	c.Result, c.Err = result, err
	t.Observer.Leave(c)
}

// leaveErr is leave for a call that returns nothing but an error.
func (t *Traced) leaveErr(c *Call, err error) {
	result := 0
	if err != nil {
		result = -1
	}
	t.leave(c, result, err)
}

// lessonLine finds where in the lesson a call was made: the nearest caller
// outside the ground floor. What that does for a lesson counts for the lesson's
// line that asked for it.
func lessonLine() (file string, line int) {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	for {
		frame, more := frames.Next()
		// A function's name starts with its package's path: "lesson/blocking.(*Server).Once".
		dir, name := path.Split(frame.Function)
		pkg, _, _ := strings.Cut(name, ".")
		ground := dir == "lesson/internal/" && (pkg == "kernel" || pkg == "server")
		if !ground || !more {
			return path.Join(strings.TrimPrefix(dir+pkg, "lesson/"), path.Base(frame.File)), frame.Line
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
		args = fmt.Sprintf("%d, for ever", epfd)
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

// EventNames spells an epoll event mask: "EPOLLIN|EPOLLHUP"; "0" when empty.
func EventNames(mask uint32) string {
	names := []struct {
		bit  uint32
		name string
	}{
		{unix.EPOLLIN, "EPOLLIN"}, {unix.EPOLLOUT, "EPOLLOUT"}, {unix.EPOLLRDHUP, "EPOLLRDHUP"},
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

// SocketArgs spells what socket is asked for.
func SocketArgs(domain, typ int) string {
	family := map[int]string{unix.AF_INET: "AF_INET", unix.AF_INET6: "AF_INET6"}[domain]
	if typ&unix.SOCK_NONBLOCK != 0 {
		return family + ", SOCK_STREAM|SOCK_NONBLOCK"
	}
	return family + ", SOCK_STREAM"
}

// OptionName is the name of a socket option, of those that a lesson or package net sets.
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
