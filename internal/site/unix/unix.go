// Package unix takes the place of golang.org/x/sys/unix where the lessons run in a
// browser, for which that package does not exist. It has the names that the lessons,
// the simulated kernel and some exercises use, with the values of Linux: a test
// compares them. What an exercise calls, it asks of a simulated kernel.
package unix

import (
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

// The signals by which an exercise is stopped. None comes.
const (
	SIGINT  = syscall.SIGINT
	SIGTERM = syscall.SIGTERM
)

// The numbers of Linux, on every processor that Go supports but MIPS and PowerPC.
const (
	AF_INET          = 0x2
	AF_INET6         = 0xa
	EPOLL_CLOEXEC    = 0x80000
	EPOLL_CTL_ADD    = 0x1
	EPOLL_CTL_DEL    = 0x2
	EPOLL_CTL_MOD    = 0x3
	IPPROTO_IPV6     = 0x29
	IPPROTO_TCP      = 0x6
	IPV6_V6ONLY      = 0x1a
	MSG_MORE         = 0x8000
	MSG_NOSIGNAL     = 0x4000
	SHUT_RD          = 0x0
	SHUT_WR          = 0x1
	SOCK_CLOEXEC     = 0x80000
	SOCK_NONBLOCK    = 0x800
	EFD_NONBLOCK     = 0x800
	EFD_SEMAPHORE    = 1
	SOCK_STREAM      = 0x1
	SOL_SOCKET       = 0x1
	SO_BROADCAST     = 0x6
	SO_KEEPALIVE     = 0x9
	SO_RCVLOWAT      = 0x12
	SO_RCVTIMEO      = 0x14
	SO_REUSEADDR     = 0x2
	SO_REUSEPORT     = 0xf
	SO_SNDTIMEO      = 0x15
	TCP_CORK         = 0x3
	TCP_DEFER_ACCEPT = 0x9
	TCP_KEEPCNT      = 0x6
	TCP_KEEPIDLE     = 0x4
	TCP_KEEPINTVL    = 0x5
	TCP_NODELAY      = 0x1
	EPOLLERR         = 0x8
	EPOLLET          = 0x80000000
	EPOLLEXCLUSIVE   = 0x10000000
	EPOLLHUP         = 0x10
	EPOLLIN          = 0x1
	EPOLLONESHOT     = 0x40000000
	EPOLLOUT         = 0x4
	EPOLLPRI         = 0x2
	EPOLLRDHUP       = 0x2000
	EPOLLWAKEUP      = 0x20000000
)

// An Errno is why a system call failed.
type Errno uintptr

// The errors that the simulated kernel returns, or the lessons compare with.
const (
	EADDRINUSE   = Errno(0x62)
	EAGAIN       = Errno(0xb)
	EBADF        = Errno(0x9)
	ECONNABORTED = Errno(0x67)
	ECONNRESET   = Errno(0x68)
	EEXIST       = Errno(0x11)
	EHOSTDOWN    = Errno(0x70)
	EHOSTUNREACH = Errno(0x71)
	EINTR        = Errno(0x4)
	EINVAL       = Errno(0x16)
	EMFILE       = Errno(0x18)
	ENETDOWN     = Errno(0x64)
	ENETUNREACH  = Errno(0x65)
	ENFILE       = Errno(0x17)
	ENOBUFS      = Errno(0x69)
	ENOENT       = Errno(0x2)
	ENOMEM       = Errno(0xc)
	ENONET       = Errno(0x40)
	ENOPROTOOPT  = Errno(0x5c)
	ENOTCONN     = Errno(0x6b)
	ENOTSOCK     = Errno(0x58)
	EOPNOTSUPP   = Errno(0x5f)
	EPERM        = Errno(0x1)
	EPIPE        = Errno(0x20)
	EPROTO       = Errno(0x47)
)

var errnoNames = map[Errno]string{
	EADDRINUSE:   "EADDRINUSE",
	EAGAIN:       "EAGAIN",
	EBADF:        "EBADF",
	ECONNABORTED: "ECONNABORTED",
	ECONNRESET:   "ECONNRESET",
	EEXIST:       "EEXIST",
	EHOSTDOWN:    "EHOSTDOWN",
	EHOSTUNREACH: "EHOSTUNREACH",
	EINTR:        "EINTR",
	EINVAL:       "EINVAL",
	EMFILE:       "EMFILE",
	ENETDOWN:     "ENETDOWN",
	ENETUNREACH:  "ENETUNREACH",
	ENFILE:       "ENFILE",
	ENOBUFS:      "ENOBUFS",
	ENOENT:       "ENOENT",
	ENOMEM:       "ENOMEM",
	ENONET:       "ENONET",
	ENOPROTOOPT:  "ENOPROTOOPT",
	ENOTCONN:     "ENOTCONN",
	ENOTSOCK:     "ENOTSOCK",
	EOPNOTSUPP:   "EOPNOTSUPP",
	EPERM:        "EPERM",
	EPIPE:        "EPIPE",
	EPROTO:       "EPROTO",
}

// ErrnoName returns the name of an error, "" if it is none of the above.
func ErrnoName(e Errno) string { return errnoNames[e] }

func (e Errno) Error() string {
	if name := ErrnoName(e); name != "" {
		return name
	}
	return fmt.Sprintf("errno %d", uintptr(e))
}

// An EpollEvent is a struct epoll_event, as x/sys spells it.
type EpollEvent struct {
	Events uint32
	Fd     int32
	Pad    int32
}

// A Sockaddr is an address that Bind takes.
type Sockaddr interface{ addrPort() netip.AddrPort }

// A SockaddrInet4 is a Sockaddr of IPv4.
type SockaddrInet4 struct {
	Port int
	Addr [4]byte
}

func (a *SockaddrInet4) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
}

// A Kernel makes the calls: the simulated one does.
type Kernel interface {
	Socket(domain, typ, proto int) (fd int, err error)
	Bind(fd int, addr netip.AddrPort) error
	Listen(fd, backlog int) error
	SetsockoptInt(fd, level, name, value int) error
	Accept4(fd, flags int) (conn int, err error)
	Read(fd int, p []byte) (n int, err error)
	Send(fd int, p []byte, flags int) (n int, err error)
	Shutdown(fd, how int) error
	Close(fd int) error
	EpollCreate1(flags int) (epfd int, err error)
	EpollCtl(epfd, op, fd int, event EpollEvent) error
	EpollWait(epfd int, events []EpollEvent, milliseconds int) (n int, err error)
	Now() time.Duration
}

// Running is the kernel of the program that runs now.
var Running Kernel

func Socket(domain, typ, proto int) (int, error) { return Running.Socket(domain, typ, proto) }

func Bind(fd int, sa Sockaddr) error { return Running.Bind(fd, sa.addrPort()) }

func Listen(fd, backlog int) error { return Running.Listen(fd, backlog) }

func SetsockoptInt(fd, level, opt, value int) error {
	return Running.SetsockoptInt(fd, level, opt, value)
}

func Accept4(fd, flags int) (int, Sockaddr, error) {
	n, err := Running.Accept4(fd, flags)
	return n, nil, err
}

func Read(fd int, p []byte) (int, error) { return Running.Read(fd, p) }

func Write(fd int, p []byte) (int, error) { return Running.Send(fd, p, MSG_NOSIGNAL) }

func Shutdown(fd, how int) error { return Running.Shutdown(fd, how) }

func Close(fd int) error { return Running.Close(fd) }

func EpollCreate1(flags int) (int, error) { return Running.EpollCreate1(flags) }

func EpollCtl(epfd, op, fd int, event *EpollEvent) error {
	return Running.EpollCtl(epfd, op, fd, *event)
}

func EpollWait(epfd int, events []EpollEvent, milliseconds int) (int, error) {
	return Running.EpollWait(epfd, events, milliseconds)
}

// began is the moment at which the virtual time of every kernel is 0.
var began = time.Now()

// TimeNow takes the place of time.Now in an exercise: its clock is the kernel's.
func TimeNow() time.Time { return began.Add(Running.Now()) }

// TimeUntil takes the place of time.Until.
func TimeUntil(t time.Time) time.Duration { return t.Sub(TimeNow()) }
