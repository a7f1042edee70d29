//go:build linux

// Package kernel provides the system calls that a lesson may make, under the names of
// section 2 of the manual, as one small interface.
//
// Linux makes the calls. Faulty makes chosen calls fail. Package trace reports each
// call as it is entered and as it returns. Faulty and trace wrap any other Kernel, so
// a lesson is observed and tested without a change to its code.
package kernel

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// A Kernel makes system calls. Every error is a unix.Errno, and where the
// manual says that a call returns -1, so does its method. Sizes are bytes.
//
// Two things differ from the manual, so that a call on the hot path allocates
// nothing: Accept4 does not ask for the peer's address, and EpollCtl takes its
// event by value.
type Kernel interface {
	// Making a listener: socket(2), bind(2), listen(2), getsockname(2),
	// setsockopt(2), the last in two forms, for a number and for a time.
	Socket(domain, typ, proto int) (fd int, err error)
	Bind(fd int, addr netip.AddrPort) error
	Listen(fd, backlog int) error
	Getsockname(fd int) (netip.AddrPort, error)
	SetsockoptInt(fd, level, name, value int) error
	SetsockoptTimeval(fd, level, name int, d time.Duration) error

	// Serving a connection: accept4(2), read(2), send(2), shutdown(2),
	// close(2). Read returns 0 at end of file; Send may send fewer bytes than it
	// is given.
	Accept4(fd, flags int) (conn int, err error)
	Read(fd int, p []byte) (n int, err error)
	Send(fd int, p []byte, flags int) (n int, err error)
	Shutdown(fd, how int) error
	Close(fd int) error

	// Waiting for many: epoll_create1(2), epoll_ctl(2), epoll_wait(2), which
	// waits forever if milliseconds is -1.
	EpollCreate1(flags int) (epfd int, err error)
	EpollCtl(epfd, op, fd int, event unix.EpollEvent) error
	EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (n int, err error)

	// Nanosleep sleeps for d, or until a signal arrives (EINTR): nanosleep(2).
	// A Go program would normally call time.Sleep. But the first timer of a Go
	// program makes the runtime open an epoll descriptor of its own, and a
	// server sleeps exactly when there are no more descriptors: time.Sleep
	// would end the program.
	Nanosleep(d time.Duration) error

	// Now returns the time since some fixed moment, as clock_gettime(2) does for
	// CLOCK_MONOTONIC: it never jumps. Linux reads it from a page that every
	// process shares (vdso(7)), so it is not a system call.
	Now() time.Duration
}

// IsConnectionError reports whether err, from Accept4, concerns only the
// connection that was about to be accepted, or none (EINTR). In both cases
// Accept4 may be called again at once. accept(2), "Error handling", lists these
// errors: Linux passes network errors that are already pending on the new
// connection to accept.
func IsConnectionError(err error) bool {
	switch err {
	case unix.EINTR, unix.ECONNABORTED, unix.EPERM,
		unix.ENETDOWN, unix.EPROTO, unix.ENOPROTOOPT, unix.EHOSTDOWN,
		unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH:
		return true
	}
	return false
}

// IsExhausted reports whether err means that the process or the machine is out
// of descriptors or memory. The connection stays in the accept queue, and an
// immediate retry fails again: wait first.
func IsExhausted(err error) bool {
	switch err {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		return true
	}
	return false
}
