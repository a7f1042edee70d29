//go:build linux

package kernel

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A Described makes every call through the Kernel inside it, and passes a description of
// the call to Enter. It does not describe Now, which is not a system call.
type Described struct {
	Kernel

	// Enter is called before each call, with its name in the manual, its descriptor
	// (-1 if none), and its arguments as text. It returns a function, which is called
	// when the call has returned.
	Enter func(name string, fd int, args string) (leave func(Returned))
}

// Returned holds what a call has returned. Data and Events are valid until leave returns.
type Returned struct {
	Result int // 0 if the call returns only an error
	Err    error
	Data   []byte            // what was read or sent
	Events []unix.EpollEvent // what epoll_wait returned
}

func (d *Described) Socket(domain, typ, proto int) (int, error) {
	leave := d.Enter("socket", -1, SocketArgs(domain, typ))
	fd, err := d.Kernel.Socket(domain, typ, proto)
	leave(Returned{Result: fd, Err: err})
	return fd, err
}

func (d *Described) Bind(fd int, addr netip.AddrPort) error {
	leave := d.Enter("bind", fd, fmt.Sprintf("%d, %s", fd, addr))
	err := d.Kernel.Bind(fd, addr)
	leave(Returned{Err: err})
	return err
}

func (d *Described) Listen(fd, backlog int) error {
	leave := d.Enter("listen", fd, fmt.Sprintf("%d, %d", fd, backlog))
	err := d.Kernel.Listen(fd, backlog)
	leave(Returned{Err: err})
	return err
}

func (d *Described) Getsockname(fd int) (netip.AddrPort, error) {
	leave := d.Enter("getsockname", fd, fmt.Sprint(fd))
	addr, err := d.Kernel.Getsockname(fd)
	leave(Returned{Err: err})
	return addr, err
}

func (d *Described) SetsockoptInt(fd, level, name, value int) error {
	leave := d.Enter("setsockopt", fd, fmt.Sprintf("%d, %s, %d", fd, OptionName(level, name), value))
	err := d.Kernel.SetsockoptInt(fd, level, name, value)
	leave(Returned{Err: err})
	return err
}

func (d *Described) SetsockoptTimeval(fd, level, name int, t time.Duration) error {
	args := fmt.Sprintf("%d, %s, %.3f s", fd, OptionName(level, name), t.Seconds())
	leave := d.Enter("setsockopt", fd, args)
	err := d.Kernel.SetsockoptTimeval(fd, level, name, t)
	leave(Returned{Err: err})
	return err
}

func (d *Described) Accept4(fd, flags int) (int, error) {
	leave := d.Enter("accept4", fd, fmt.Sprint(fd))
	conn, err := d.Kernel.Accept4(fd, flags)
	leave(Returned{Result: conn, Err: err})
	return conn, err
}

func (d *Described) Read(fd int, p []byte) (int, error) {
	leave := d.Enter("read", fd, fmt.Sprintf("%d, %d bytes", fd, len(p)))
	n, err := d.Kernel.Read(fd, p)
	leave(Returned{Result: n, Err: err, Data: p[:max(n, 0)]})
	return n, err
}

func (d *Described) Send(fd int, p []byte, flags int) (int, error) {
	leave := d.Enter("send", fd, fmt.Sprintf("%d, %d bytes", fd, len(p)))
	n, err := d.Kernel.Send(fd, p, flags)
	leave(Returned{Result: n, Err: err, Data: p[:max(n, 0)]})
	return n, err
}

func (d *Described) Shutdown(fd, how int) error {
	names := [...]string{"SHUT_RD", "SHUT_WR", "SHUT_RDWR"}
	leave := d.Enter("shutdown", fd, fmt.Sprintf("%d, %s", fd, names[how]))
	err := d.Kernel.Shutdown(fd, how)
	leave(Returned{Err: err})
	return err
}

func (d *Described) Close(fd int) error {
	leave := d.Enter("close", fd, fmt.Sprint(fd))
	err := d.Kernel.Close(fd)
	leave(Returned{Err: err})
	return err
}

func (d *Described) EpollCreate1(flags int) (int, error) {
	leave := d.Enter("epoll_create1", -1, "")
	epfd, err := d.Kernel.EpollCreate1(flags)
	leave(Returned{Result: epfd, Err: err})
	return epfd, err
}

func (d *Described) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	ops := [...]string{"", "ADD", "DEL", "MOD"}
	args := fmt.Sprintf("%d, %s, %d, %s", epfd, ops[op], fd, EventNames(event.Events))
	leave := d.Enter("epoll_ctl", fd, args)
	err := d.Kernel.EpollCtl(epfd, op, fd, event)
	leave(Returned{Err: err})
	return err
}

func (d *Described) EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (int, error) {
	args := fmt.Sprintf("%d, %d ms", epfd, milliseconds)
	if milliseconds < 0 {
		args = fmt.Sprintf("%d, forever", epfd)
	}
	leave := d.Enter("epoll_wait", -1, args)
	n, err := d.Kernel.EpollWait(epfd, events, milliseconds)
	leave(Returned{Result: n, Err: err, Events: events[:max(n, 0)]})
	return n, err
}

func (d *Described) Nanosleep(t time.Duration) error {
	leave := d.Enter("nanosleep", -1, fmt.Sprintf("%.3f s", t.Seconds()))
	err := d.Kernel.Nanosleep(t)
	leave(Returned{Err: err})
	return err
}
