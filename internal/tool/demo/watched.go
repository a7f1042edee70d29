//go:build linux

package demo

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
	"lesson/internal/lesson"
	"lesson/internal/server"
)

// A watched is a lesson that serves on a thread of its own, whose system calls and
// processor time can be read meanwhile.
type watched struct {
	lesson.Server
	kernel *watchedKernel
	thread int // its id
	ended  chan error
}

// A watchedKernel counts what an event loop does.
type watchedKernel struct {
	*kernel.Linux
	wakes     atomic.Int64 // epoll_wait has returned
	exhausted atomic.Int64 // accept4 has failed for want of descriptors
	sleeps    atomic.Int64 // see counters; kept where countSleeps is set, since it costs a call
	// countSleeps makes it ask how often the thread has slept, at every wake.
	countSleeps bool
	switches    int64 // of the thread, at the last wake
	// refusesPause makes epoll_ctl fail when a descriptor is to stay in the
	// interest list with no interest: what a server does that does not want to
	// hear of its listener for a while.
	refusesPause bool
}

func (k *watchedKernel) EpollWait(epfd int, events []unix.EpollEvent, ms int) (int, error) {
	n, err := k.Linux.EpollWait(epfd, events, ms)
	k.wakes.Add(1)
	if k.countSleeps {
		var used unix.Rusage
		// It does not fail. One wait may sleep twice: see kernel.Linux.
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &used); err == nil && used.Nvcsw > k.switches {
			k.switches = used.Nvcsw
			k.sleeps.Add(1)
		}
	}
	return n, err
}

func (k *watchedKernel) Accept4(fd, flags int) (int, error) {
	conn, err := k.Linux.Accept4(fd, flags)
	if kernel.IsExhausted(err) {
		k.exhausted.Add(1)
	}
	return conn, err
}

func (k *watchedKernel) EpollCtl(epfd, op, fd int, event unix.EpollEvent) error {
	if k.refusesPause && op == unix.EPOLL_CTL_MOD && event.Events == 0 {
		return unix.ENOMEM
	}
	return k.Linux.EpollCtl(epfd, op, fd, event)
}

// watch starts a lesson of one event loop.
func watch(name string, k *watchedKernel, options server.Options) (*watched, error) {
	l, err := lesson.Find(name)
	if err != nil {
		return nil, err
	}
	k.Linux = l.Kernel()
	s, err := l.Start(k, options)
	if err != nil {
		return nil, err
	}
	w := &watched{Server: s, kernel: k, ended: make(chan error, 1)}
	thread := make(chan int)
	go func() {
		runtime.LockOSThread() // no other goroutine runs on it, and it ends with this one
		thread <- unix.Gettid()
		w.ended <- s.Serve()
	}()
	w.thread = <-thread
	return w, nil
}

// stop ends the lesson and waits for that.
func (w *watched) stop() error {
	w.Stop()
	return <-w.ended
}

// counters is what a lesson has done and used so far, or in between.
type counters struct {
	Wakes     int64         `json:"wakes"`     // epoll_wait has returned
	Sleeps    int64         `json:"sleeps"`    // before that, nothing was ready
	Exhausted int64         `json:"exhausted"` // accept4: EMFILE
	Calls     int64         `json:"calls"`     // system calls, all of them
	CPU       time.Duration `json:"cpu_ns"`
}

func (c counters) since(before counters) counters {
	return counters{
		c.Wakes - before.Wakes, c.Sleeps - before.Sleeps, c.Exhausted - before.Exhausted,
		c.Calls - before.Calls, c.CPU - before.CPU,
	}
}

func (w *watched) count() (counters, error) {
	cpu, err := threadCPU(w.thread)
	return counters{
		w.kernel.wakes.Load(), w.kernel.sleeps.Load(), w.kernel.exhausted.Load(),
		w.kernel.Calls(), cpu,
	}, err
}

// threadCPU is the processor time of a thread of ours, without a descriptor: the
// number of a thread's clock is made of its id (clock_getcpuclockid(3) does that
// for a process).
func threadCPU(thread int) (time.Duration, error) {
	const perThread, scheduled = 4, 2 // CPUCLOCK_PERTHREAD_MASK, CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^thread<<3|perThread|scheduled), &t); err != nil {
		return 0, fmt.Errorf("clock_gettime of thread %d: %w", thread, err)
	}
	return time.Duration(t.Nano()), nil
}
