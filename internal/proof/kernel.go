//go:build linux

package proof

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Kernel is a kernel.Kernel that makes no calls: every method returns N or Err, and
// adds what it was asked to Asked. Its clock advances by a second at each look.
type Kernel struct {
	N     int
	Err   error
	Asked []string
	clock time.Duration
}

func (k *Kernel) note(format string, args ...any) {
	k.Asked = append(k.Asked, fmt.Sprintf(format, args...))
}

func (k *Kernel) number(format string, args ...any) (int, error) {
	k.note(format, args...)
	if k.Err != nil {
		return -1, k.Err
	}
	return k.N, nil
}

func (k *Kernel) Now() time.Duration { k.clock += time.Second; return k.clock }

func (k *Kernel) Nanosleep(d time.Duration) error {
	k.note("nanosleep %s", d)
	return k.Err
}

func (k *Kernel) Socket(domain, typ, proto int) (int, error) {
	return k.number("socket %d %d %d", domain, typ, proto)
}

func (k *Kernel) Bind(fd int, addr netip.AddrPort) error {
	k.note("bind %d %s", fd, addr)
	return k.Err
}

func (k *Kernel) Listen(fd, backlog int) error {
	k.note("listen %d %d", fd, backlog)
	return k.Err
}

func (k *Kernel) Getsockname(fd int) (netip.AddrPort, error) {
	k.note("getsockname %d", fd)
	return netip.MustParseAddrPort("[::1]:80"), k.Err
}

func (k *Kernel) SetsockoptInt(fd, level, name, value int) error {
	k.note("setsockopt %d %d %d %d", fd, level, name, value)
	return k.Err
}

func (k *Kernel) SetsockoptTimeval(fd, level, name int, d time.Duration) error {
	k.note("setsockopt %d %d %d %s", fd, level, name, d)
	return k.Err
}

func (k *Kernel) Accept4(fd, flags int) (int, error) {
	return k.number("accept4 %d %d", fd, flags)
}

func (k *Kernel) Read(fd int, p []byte) (int, error) {
	return k.number("read %d %d", fd, len(p))
}

func (k *Kernel) Send(fd int, p []byte, flags int) (int, error) {
	return k.number("send %d %s %d", fd, p, flags)
}

func (k *Kernel) Shutdown(fd, how int) error {
	k.note("shutdown %d %d", fd, how)
	return k.Err
}

func (k *Kernel) Close(fd int) error {
	k.note("close %d", fd)
	return k.Err
}

func (k *Kernel) EpollCreate1(flags int) (int, error) {
	return k.number("epoll_create1 %d", flags)
}

func (k *Kernel) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	k.note("epoll_ctl %d %d %d %d %d", epfd, op, fd, event.Events, event.Fd)
	return k.Err
}

func (k *Kernel) EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (int, error) {
	return k.number("epoll_wait %d %d %d", epfd, len(events), milliseconds)
}

// Asleep reports whether a thread of this process sleeps in the kernel.
func Asleep(thread int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", thread))
	if err != nil {
		return false
	}
	// The state comes after the name, which is in parentheses.
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "S")
}
