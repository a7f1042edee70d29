//go:build linux

package simulated

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"lesson/internal/words"
)

// An eventfd is a counter with a descriptor: eventfd(2), fs/eventfd.c.
type eventfd struct {
	kernel    *Kernel
	file      *file
	count     uint64
	semaphore bool // a read takes 1, and not all
}

// mostCounted is the largest value of a counter.
const mostCounted = math.MaxUint64 - 1

// Eventfd returns the descriptor of a new counter.
func (k *Kernel) Eventfd(initial uint, flags int) (int, error) {
	defer k.enter("eventfd2", -1)()
	c := &eventfd{kernel: k, count: uint64(initial), semaphore: flags&unix.EFD_SEMAPHORE != 0}
	c.file = &file{counter: c, nonblocking: flags&unix.EFD_NONBLOCK != 0}
	k.options.Descriptors++ // as in Silent
	return k.open(c.file)
}

// IsEventfd reports whether fd is a counter, and no socket.
func (k *Kernel) IsEventfd(fd int) bool {
	f, err := k.file(fd)
	return err == nil && f.counter != nil
}

// Write adds to the counter of an eventfd, as write(2) does.
func (k *Kernel) Write(fd int, p []byte) (n int, err error) {
	defer k.enter("write", fd)()
	defer k.learn(&n, &err)
	f, err := k.file(fd)
	switch {
	case err != nil:
		return -1, err
	case f.counter == nil:
		return -1, unix.EINVAL
	}
	return f.counter.try(func() (int, unix.Errno) { return f.counter.write(p) })
}

// try does what may block: again and again, until it does not return EAGAIN.
func (c *eventfd) try(do func() (int, unix.Errno)) (n int, err error) {
	n, errno := do()
	if errno == unix.EAGAIN && !c.file.nonblocking {
		err := c.kernel.block(never, func() bool {
			n, errno = do()
			return errno != unix.EAGAIN
		})
		if err != nil {
			return -1, err
		}
	}
	return n, fails(errno)
}

func (c *eventfd) poll() uint32 {
	var mask uint32
	if c.count > 0 {
		mask |= unix.EPOLLIN
	}
	if c.count < mostCounted {
		mask |= unix.EPOLLOUT
	}
	return mask
}

func (c *eventfd) write(p []byte) (int, unix.Errno) {
	if len(p) < 8 {
		return -1, unix.EINVAL
	}
	add := binary.NativeEndian.Uint64(p)
	switch {
	case add > mostCounted:
		return -1, unix.EINVAL
	case add > mostCounted-c.count:
		return -1, unix.EAGAIN
	}
	c.count += add
	c.wake(unix.EPOLLIN, causeWritten)
	return 8, 0
}

func (c *eventfd) read(p []byte) (int, unix.Errno) {
	switch {
	case len(p) < 8:
		return -1, unix.EINVAL
	case c.count == 0:
		return -1, unix.EAGAIN
	}
	taken := c.count
	if c.semaphore {
		taken = 1
	}
	binary.NativeEndian.PutUint64(p, taken)
	c.count -= taken
	c.wake(unix.EPOLLOUT, causeTaken)
	return 8, 0
}

func (c *eventfd) wake(key uint32, cause words.Sentence) {
	c.kernel.changed++
	for _, e := range c.file.watched {
		e.wake(key, cause)
	}
}
