//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
)

// A sharing is one way in which several threads can wait for the connections of
// one address.
type sharing struct {
	name string
	// oneList: all threads wait on one epoll descriptor. Otherwise each has its
	// own.
	oneList bool
	// ownListener: each has a listener of its own, with SO_REUSEPORT.
	ownListener bool
	interest    uint32
}

var (
	plainLevel = sharing{name: "a list each, level-triggered", interest: unix.EPOLLIN}
	plainEdge  = sharing{name: "a list each, EPOLLET", interest: unix.EPOLLIN | unix.EPOLLET}
	exclusive  = sharing{name: "a list each, EPOLLEXCLUSIVE",
		interest: unix.EPOLLIN | unix.EPOLLEXCLUSIVE}
	listLevel = sharing{name: "one list, level-triggered", oneList: true, interest: unix.EPOLLIN}
	listEdge  = sharing{name: "one list, EPOLLET", oneList: true,
		interest: unix.EPOLLIN | unix.EPOLLET}
	listOnce = sharing{name: "one list, EPOLLONESHOT", oneList: true,
		interest: unix.EPOLLIN | unix.EPOLLONESHOT}
	reusePort = sharing{name: "a listener each, SO_REUSEPORT", ownListener: true,
		interest: unix.EPOLLIN}
)

// A crew is threads that wait for connections. What a thread does with an event is
// up to woken; it is called on that thread.
type crew struct {
	sharing
	ctx     context.Context
	addr    netip.AddrPort
	waiters []*waiter
	woken   func(w *waiter) error

	stop    atomic.Bool
	stopper int // an eventfd in every interest list: readable when all is over
	open    []int
	running sync.WaitGroup
}

// A waiter is one thread of a crew.
type waiter struct {
	listener, list int
	tid            atomic.Int64 // 0 until it runs
	held           atomic.Bool  // woken keeps it: it rests there, not in epoll_wait
	accepted       atomic.Int64 // connections
	ended          atomic.Bool
	err            error // what has ended it
}

// crewBacklog is more than any crew has clients at a time.
const crewBacklog = 1024

// newCrew makes what n threads need, and starts none of them.
func newCrew(
	ctx context.Context, how sharing, n int, woken func(w *waiter) error,
) (*crew, error) {
	c := &crew{sharing: how, ctx: ctx, woken: woken}
	if err := c.equip(n); err != nil {
		closeAll(c.open...)
		return nil, err
	}
	return c, nil
}

func (c *crew) equip(n int) (err error) {
	c.stopper, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	c.open = append(c.open, c.stopper)
	for i := range n {
		w := &waiter{}
		if i > 0 {
			*w = waiter{listener: c.waiters[0].listener, list: c.waiters[0].list}
		}
		if i == 0 || c.ownListener {
			if err := c.listen(w); err != nil {
				return err
			}
		}
		if i == 0 || !c.oneList {
			if err := c.watch(w); err != nil {
				return err
			}
		}
		c.waiters = append(c.waiters, w)
	}
	return nil
}

// listen gives a waiter a listener: the first one on a port of the kernel's choice,
// all others on the same.
func (c *crew) listen(w *waiter) (err error) {
	w.listener, err = newSocket()
	if err != nil {
		return err
	}
	c.open = append(c.open, w.listener)
	if c.ownListener {
		err = unix.SetsockoptInt(w.listener, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if err != nil {
			return fmt.Errorf("setsockopt SO_REUSEPORT: %w", err)
		}
	}
	if !c.addr.IsValid() {
		c.addr, err = listenOn(w.listener, crewBacklog)
		return err
	}
	if err := unix.Bind(w.listener, sockaddr(c.addr)); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Listen(w.listener, crewBacklog); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}

func (c *crew) watch(w *waiter) (err error) {
	w.list, err = watchOne(w.listener, c.interest)
	if err != nil {
		return err
	}
	c.open = append(c.open, w.list)
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.stopper)}
	return unix.EpollCtl(w.list, unix.EPOLL_CTL_ADD, c.stopper, &event)
}

// start runs a thread for each waiter, and returns when all of them wait.
func (c *crew) start() error {
	for _, w := range c.waiters {
		c.running.Go(func() { c.wait(w) })
	}
	return c.untilAtRest()
}

// wait is what a thread does until the end.
func (c *crew) wait(w *waiter) {
	runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
	w.tid.Store(int64(unix.Gettid()))
	defer w.ended.Store(true)
	var events [1]unix.EpollEvent
	for !c.stop.Load() {
		_, err := unix.EpollWait(w.list, events[:], -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			w.err = fmt.Errorf("epoll_wait: %w", err)
			return
		}
		if c.stop.Load() {
			return
		}
		if w.err = c.woken(w); w.err != nil {
			return
		}
	}
}

// end makes all threads end, and closes what they had. Its error is what has ended
// one of them before.
func (c *crew) end() error {
	defer func() { closeAll(c.open...) }()
	c.stop.Store(true)
	_, err := unix.Write(c.stopper, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	if err != nil {
		return fmt.Errorf("eventfd: %w", err) // do not wait for them: they would wait forever
	}
	c.running.Wait()
	for _, w := range c.waiters {
		err = errors.Join(err, w.err)
	}
	return err
}

// shut closes the listener of a thread, for good.
func (c *crew) shut(w *waiter) {
	c.open = slices.DeleteFunc(c.open, func(fd int) bool { return fd == w.listener })
	closeAll(w.listener)
}

// untilAtRest waits until nothing changes: each thread either is blocked in epoll_wait,
// or has returned from it and is held by woken. It looks twice, because a thread may
// be about to wake during the first look.
func (c *crew) untilAtRest() error {
	looks := 0
	return until(c.ctx, patience, func() (bool, error) {
		for _, w := range c.waiters {
			rests, err := w.atRest()
			if err != nil || !rests {
				looks = 0
				return false, err
			}
		}
		looks++
		return looks > 2, nil
	})
}

// atRest asks the kernel where a thread is blocked. One that has been woken and has no
// processor yet is blocked nowhere.
func (w *waiter) atRest() (bool, error) {
	if w.held.Load() {
		return true, nil
	}
	if w.ended.Load() {
		return false, errors.New("a thread has ended") // crew.end says why
	}
	tid := w.tid.Load()
	if tid == 0 {
		return false, nil
	}
	call, err := proc.ThreadBlockedIn(int(tid))
	if errors.Is(err, proc.ErrRuns) {
		return false, nil
	}
	return err == nil && call.Number == unix.SYS_EPOLL_PWAIT, err
}

// accept takes a connection, or says that there is none (any more).
func (w *waiter) accept() (fd int, ok bool, err error) {
	err = retry(func() (err error) {
		fd, _, err = unix.Accept4(w.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return err
	})
	if err == unix.EAGAIN {
		return -1, false, nil
	}
	if err != nil {
		return -1, false, fmt.Errorf("accept4: %w", err)
	}
	w.accepted.Add(1)
	return fd, true, nil
}

// accepted is how many connections each thread has accepted.
func (c *crew) accepted() (each []int, all int) {
	for _, w := range c.waiters {
		n := int(w.accepted.Load())
		each, all = append(each, n), all+n
	}
	return each, all
}

// rearm makes a descriptor that EPOLLONESHOT has disarmed report again.
func (c *crew) rearm(w *waiter) error {
	if c.interest&unix.EPOLLONESHOT == 0 {
		return nil
	}
	event := unix.EpollEvent{Events: c.interest, Fd: int32(w.listener)}
	return unix.EpollCtl(w.list, unix.EPOLL_CTL_MOD, w.listener, &event)
}

// inQueues returns how many connections the accept queues hold.
func (c *crew) inQueues() (queued int, err error) {
	for i, w := range c.waiters {
		if i > 0 && !c.ownListener {
			break // it is the same
		}
		info, err := tcpInfo(w.listener)
		if err != nil {
			return 0, err
		}
		queued += int(info.Unacked) // of a listener, its accept queue
	}
	return queued, nil
}

// queued waits until some listener of the crew has a connection in its accept
// queue: a client may be connected a moment earlier.
func (c *crew) queued() error {
	return until(c.ctx, patience, func() (bool, error) {
		for _, w := range c.waiters {
			fds := []unix.PollFd{{Fd: int32(w.listener), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			if n > 0 || err != nil && err != unix.EINTR {
				return n > 0, err
			}
		}
		return false, nil
	})
}
