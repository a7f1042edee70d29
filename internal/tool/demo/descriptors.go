//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/play"
	"lesson/internal/protocol"
	"lesson/internal/report"
	"lesson/internal/server"
)

var descriptors = Demo{
	Name:    "descriptors",
	Title:   "no descriptor left: an accept loop that spins, and one that pauses",
	Chapter: "docs/08-when-the-machine-runs-out.md",
	Run:     runDescriptors,
}

// DescriptorsSeen is what one server did when it had no descriptor left.
type DescriptorsSeen struct {
	Server string        `json:"server"`
	Window time.Duration `json:"window_ns"`
	Used   counters      `json:"used"` // in that time
	// Served is how long it took, from the moment a descriptor became free, to
	// answer the client that had waited for it.
	Served time.Duration `json:"served_ns"`
}

// Three ways to meet EMFILE. The first is the second with its pause forbidden: that
// epoll_ctl fails, and so the listener stays watched.
var acceptLoops = []struct {
	called, lesson string
	refusesPause   bool
}{
	{"level-triggered, retries", "epoll", true},
	{"level-triggered, pauses", "epoll", false},
	{"edge-triggered, pauses", "edgetriggered", false},
}

func runDescriptors(ctx context.Context, o Options) (*Result, error) {
	var all []DescriptorsSeen
	for _, a := range acceptLoops {
		o.say("%s: a second without descriptors", a.called)
		k := &watchedKernel{refusesPause: a.refusesPause}
		seen, err := exhaust(ctx, a.lesson, k, time.Second)
		if err != nil {
			return descriptorsResult(all), err
		}
		seen.Server = a.called
		all = append(all, *seen)
	}
	return descriptorsResult(all), nil
}

// exhaust lets a lesson run out of descriptors, by lowering the limit of this
// process, and looks at it for so long.
func exhaust(
	ctx context.Context, name string, k *watchedKernel, window time.Duration,
) (*DescriptorsSeen, error) {
	w, err := watch(name, k, server.Options{
		Addr: netip.AddrPortFrom(loopback, 0), Backlog: 10, Timeout: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	seen, err := w.exhaust(ctx, window)
	return seen, errors.Join(err, w.stop())
}

func (w *watched) exhaust(ctx context.Context, window time.Duration) (*DescriptorsSeen, error) {
	holder, err := play.Dial(w.Addr())
	if err != nil {
		return nil, err
	}
	defer holder.Close()
	err = until(ctx, play.Patience, func() (bool, error) {
		return w.Counts().Accepted.Load() == 1, nil
	})
	if err != nil {
		return nil, err
	}

	// The client that will have to wait has its own descriptor already.
	waiting, err := newSocket()
	if err != nil {
		return nil, err
	}
	defer closeAll(waiting)
	restore, err := forbidDescriptors()
	if err != nil {
		return nil, err
	}
	defer restore()
	if err := startConnecting(waiting, w.Addr()); err != nil {
		return nil, err
	}
	if _, err := unix.Write(waiting, []byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return nil, fmt.Errorf("write: %w", err)
	}
	err = until(ctx, play.Patience, func() (bool, error) {
		return w.kernel.exhausted.Load() > 0, nil
	})
	if err != nil {
		return nil, err
	}

	seen := &DescriptorsSeen{}
	before, err := w.count()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := pause(ctx, window); err != nil {
		return nil, err
	}
	// It tries again within the window, unless the machine is busy.
	err = until(ctx, play.Patience, func() (bool, error) {
		return w.kernel.exhausted.Load() > before.Exhausted, nil
	})
	if err != nil {
		return nil, err
	}
	after, err := w.count()
	if err != nil {
		return nil, err
	}
	seen.Window, seen.Used = time.Since(began), after.since(before)

	// The client that holds a descriptor of the server's says that it has no
	// request after all. The server closes, and has one for the other.
	began = time.Now()
	if err := holder.HalfClose(); err != nil {
		return nil, err
	}
	err = until(ctx, play.Patience, func() (bool, error) { return answered(waiting) })
	seen.Served = time.Since(began)
	return seen, err
}

// answered says whether a connection has received the whole response.
func answered(fd int) (bool, error) {
	var buffer [512]byte
	n, err := unix.Read(fd, buffer[:])
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read: %w", err)
	case n == 0:
		return false, io.ErrUnexpectedEOF
	}
	return n == len(protocol.Response), nil
}

// forbidDescriptors lowers the limit of this process to the lowest number that is
// free, so that it can open nothing more until restore is called.
func forbidDescriptors() (restore func(), err error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("getrlimit: %w", err)
	}
	free, err := newSocket() // Linux gives the lowest number that is free
	if err != nil {
		return nil, err
	}
	closeAll(free)
	lower := unix.Rlimit{Cur: uint64(free), Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lower); err != nil {
		return nil, fmt.Errorf("setrlimit: %w", err)
	}
	return func() {
		// A limit that we had, and may have again: only a bug makes this fail.
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			panic(err)
		}
	}, nil
}

func descriptorsResult(all []DescriptorsSeen) *Result {
	if len(all) == 0 {
		return nil
	}
	t := Table{
		Title: "One client waits, and no descriptor is free for it",
		Head: []string{"accept loop", "epoll_wait returns", "accept4: EMFILE", "system calls",
			"CPU", "answered after"},
	}
	r := &Result{Demo: "descriptors", Data: all}
	most, least, served := all[0], all[0], time.Duration(0)
	for _, seen := range all {
		t.Rows = append(t.Rows, []string{
			seen.Server, perSecond(seen.Used.Wakes, seen.Window),
			perSecond(seen.Used.Exhausted, seen.Window), perSecond(seen.Used.Calls, seen.Window),
			percent(seen.share()), fmt.Sprintf("%.1f ms", seen.Served.Seconds()*1000),
		})
		served = max(served, seen.Served)
		if seen.Used.Wakes > most.Used.Wakes {
			most = seen
		}
		if seen.Used.Wakes < least.Used.Wakes {
			least = seen
		}
	}
	r.Tables = []Table{t}
	r.Sentences = []string{
		fmt.Sprintf("%q woke %d times in %s, each time for the same event, and wasted %s of a"+
			" processor. %q woke %d times and used %s.",
			most.Server, most.Used.Wakes, seconds(most.Window), percent(most.share()),
			least.Server, least.Used.Wakes, percent(least.share())),
		fmt.Sprintf("The client waited in the accept queue. It was answered within %s after a"+
			" descriptor became free; no other client had to connect for that.", seconds(served)),
	}
	return r
}

// share is how much of one processor it used.
func (d DescriptorsSeen) share() float64 { return d.Used.CPU.Seconds() / d.Window.Seconds() }

func percent(share float64) string { return report.Percent(share, 1) }

func perSecond(n int64, d time.Duration) string {
	return fmt.Sprintf("%.0f/s", float64(n)/d.Seconds())
}
