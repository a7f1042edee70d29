//go:build linux

package check

import (
	"context"
	"errors"
	"maps"
	"math"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

// DefaultPatience is long for loopback even on a busy machine, and short enough
// to sit through when a server is silent in many cases.
const DefaultPatience = 5 * time.Second

// A client waits for the server for at most Options.Patience, and then until the server has
// had its turn (turn.go): on a busy machine, it may not have run for all that time. The checker
// stops waiting earlier when the kernel shows that the server is blocked for good:
//
//   - each of its threads sleeps in a system call without a time limit, or with one
//     longer than the client's patience;
//   - it has no timer and no other connection that could wake it;
//   - no byte, end of file or handshake is on its way between it and a client;
//   - every client of the case is waiting as well.
//
// Only a client could wake this server, and none will. However busy the machine is,
// that stays so. It stops waiting, too, for a server that has made the same call in vain
// again and again for spunFor, under the same conditions but the first. Where the server
// may act because a time limit of its own is over, such as that of lingering, it gets spunOut.
const (
	lookEvery = 100 * time.Millisecond // how often the server's threads are looked at
	stillFor  = 300 * time.Millisecond // how long they must not have moved
	spunFor   = 400 * time.Millisecond // how long one of them must not have slept
	spunOut   = 2 * time.Second        // the same, where a time limit may end the spin
	lastRead  = 10 * time.Millisecond  // for what came while the checker itself did not run
	forever   = time.Duration(math.MaxInt64)
)

// A vigil is what a trial knows about a server that its clients wait for. The clients
// of a crowd wait side by side, and share it.
type vigil struct {
	mu      sync.Mutex
	conns   []*play.Conn // every connection that the trial has made
	players int          // clients that are played side by side; 0 is one
	waiting int          // how many of them wait for the server

	looked  time.Time     // when the server's threads were looked at
	last    proc.Usage    // what they had used then
	still   time.Time     // since when they have not moved; zero if they have
	awake   time.Time     // since when one of them has not slept; zero if all have
	spun    time.Duration // how long that must last: spunFor or spunOut
	spin    *spin         // what it does instead, when the server is blocked for good by that
	blocked bool          // for good

	took time.Duration // the last wait
}

// A wait is one wait of one client.
type wait struct {
	t        *trial
	began    time.Time
	deadline time.Time
	turn     turn // the server's, after the deadline
}

// wait begins a wait of at most within, or until the server has spun for that long. Its end
// must be called.
func (t *trial) wait(within, spun time.Duration) *wait {
	v := &t.vigil
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if v.waiting++; v.waiting == 1 {
		v.blocked, v.spin, v.looked, v.spun = false, nil, now, spun
	}
	v.still, v.awake = time.Time{}, time.Time{}
	return &wait{t: t, began: now, deadline: now.Add(within)}
}

func (w *wait) end() {
	v := &w.t.vigil
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waiting--
	v.took = time.Since(w.began)
	v.still = time.Time{} // this client may do something now
}

// over reports whether to stop waiting.
func (w *wait) over() bool {
	now := time.Now()
	return w.t.blocked(now) || now.After(w.deadline) && w.turn.over(w.t.server)
}

// blocked reports whether the server is blocked for good.
func (t *trial) blocked(now time.Time) bool {
	v := &t.vigil
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.blocked || now.Sub(v.looked) < lookEvery || !t.server.visible() {
		return v.blocked
	}
	since := now.Sub(v.looked)
	v.looked = now
	pids := t.server.Pids()
	used, err := t.server.Used()
	if err == nil && v.waiting >= max(v.players, 1) && useOf(used.Since(v.last)).awake(since) {
		if v.awake.IsZero() {
			v.awake = now
		}
		if now.Sub(v.awake) >= v.spun && t.spinsForGood(pids) {
			v.blocked = true
			return true
		}
	} else {
		v.awake = time.Time{}
	}
	if err != nil || v.waiting < max(v.players, 1) || !maps.Equal(used.Threads, v.last.Threads) ||
		!sleepsLonger(pids, t.patience) {
		v.still = time.Time{}
	} else if v.still.IsZero() {
		v.still = now
	}
	v.last = used
	v.blocked = !v.still.IsZero() && now.Sub(v.still) >= stillFor && !t.mayBeWoken(pids)
	return v.blocked
}

// awake reports whether a thread has hardly slept in that time.
func (u use) awake(window time.Duration) bool {
	const much = 0.2 // on a busy machine it waits for its turn most of the time
	return u.spins(window) || float64(u.ran) > much*float64(window)
}

// spinsForGood reports whether the server makes a call in vain, again and again, and
// nothing is on its way that could change that.
func (t *trial) spinsForGood(pids []int) bool {
	v := &t.vigil
	v.awake = time.Time{} // if it does not, it is looked at again later
	found := t.server.spinning(t.ctx)
	switch found.kind {
	case spinsAtEnd, spinsOnError, spinsOnRoom, spinsOnUrgent, spinsOnHangUp, spinsOnEvent:
		if t.mayBeWoken(pids) {
			return false
		}
		v.spin = found
		return true
	}
	return false
}

// sleepsLonger reports whether every thread sleeps in a system call that lasts that
// long if nothing happens.
func sleepsLonger(pids []int, than time.Duration) bool {
	for _, pid := range pids {
		calls, err := proc.Blocked(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil {
			return false
		}
		for _, call := range calls {
			if lasts(pid, call) < than {
				return false
			}
		}
	}
	return true
}

// lasts returns how long a system call may sleep: its time limit, in whole seconds if
// that is in memory; 0 if it is not known.
func lasts(pid int, c proc.Call) time.Duration {
	const private = 0x80 // FUTEX_WAIT|FUTEX_PRIVATE_FLAG
	limit := func(pointer uint64) time.Duration {
		if pointer == 0 {
			return forever
		}
		seconds, err := proc.Seconds(pid, pointer)
		if err != nil {
			return 0
		}
		return seconds
	}
	milliseconds := func(n uint64) time.Duration {
		if int32(n) < 0 {
			return forever
		}
		return time.Duration(int32(n)) * time.Millisecond
	}
	switch c.Name() {
	case "epoll_wait", "epoll_pwait":
		return milliseconds(c.Args[3])
	case "epoll_pwait2":
		return limit(c.Args[3])
	case "poll":
		return milliseconds(c.Args[2])
	case "ppoll", "rt_sigtimedwait":
		return limit(c.Args[2])
	case "select", "pselect6":
		return limit(c.Args[4])
	case "futex":
		if c.Args[3] == 0 || c.Args[1]&^private == 0 { // another limit is a time of day
			return limit(c.Args[3])
		}
	case "restart_syscall":
		// What SIGSTOP interrupted, with its arguments. Of the calls that are
		// restarted in this way, only futex has this second argument.
		if c.Args[1] == private && c.Args[3] != 0 {
			return limit(c.Args[3])
		}
	case "nanosleep":
		return limit(c.Args[0])
	case "accept", "accept4", "read", "readv", "recvfrom", "recvmsg":
		return socketLimit(pid, c, unix.SO_RCVTIMEO)
	case "write", "writev", "sendto", "sendmsg":
		return socketLimit(pid, c, unix.SO_SNDTIMEO)
	case "wait4", "waitid", "pause", "rt_sigsuspend":
		return forever
	}
	return 0
}

// socketLimit returns the time limit that a socket has for the call.
func socketLimit(pid int, c proc.Call, option int) time.Duration {
	fd, err := proc.Duplicate(pid, c.Descriptor())
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	limit, err := unix.GetsockoptTimeval(fd, unix.SOL_SOCKET, option)
	switch {
	case err == unix.ENOTSOCK:
		return forever // a pipe or a terminal
	case err != nil:
		return 0
	case limit.Sec == 0 && limit.Usec == 0:
		return forever
	}
	return time.Duration(limit.Nano())
}

// mayBeWoken reports whether something may wake the server that no client does from
// now on: a segment on its way, a timer, a connection to another server.
func (t *trial) mayBeWoken(pids []int) bool {
	open, err := sockets.Open(t.server.Addr.Port())
	if err != nil {
		return true
	}
	own := map[string]bool{}
	for _, s := range open {
		own[proc.SocketLink(s.Inode)] = true
	}
	for _, pid := range pids {
		descriptors, err := proc.Descriptors(pid)
		if err != nil {
			return !errors.Is(err, proc.ErrGone)
		}
		if alarm, err := proc.Alarm(pid); alarm || err != nil {
			return true
		}
		for fd, link := range descriptors {
			if !own[link] && wakes(pid, fd, link) {
				return true
			}
		}
	}
	for _, c := range t.vigil.conns {
		if t.onItsWay(c) {
			return true
		}
	}
	return false
}

// wakes reports whether a descriptor may wake the process without its clients.
func wakes(pid, fd int, link string) bool {
	switch {
	case link == "anon_inode:[io_uring]":
		return true
	case link == "anon_inode:[timerfd]":
		runs, err := proc.TimerRuns(pid, fd)
		return runs || err != nil
	case !strings.HasPrefix(link, "socket:"):
		return false
	}
	ours, err := proc.Duplicate(pid, fd)
	if err != nil {
		return true
	}
	defer unix.Close(ours)
	const tcpClose = 7 // TCP_CLOSE: reset, shut down, or not connected yet
	info, err := unix.GetsockoptTCPInfo(ours, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.State != tcpClose
}

// onItsWay reports whether the kernel has still to deliver something between a client
// and the server.
func (t *trial) onItsWay(c *play.Conn) bool {
	ours, err := sockets.Connection(c.LocalAddr(), t.server.Addr)
	if errors.Is(err, sockets.ErrNone) {
		return false // closed long ago
	}
	if err != nil {
		return true
	}
	theirs, err := sockets.Connection(t.server.Addr, c.LocalAddr())
	switch {
	case errors.Is(err, sockets.ErrNone): // unless the handshake is not over there
		return ours.State == sockets.Established || ours.Unsent > 0
	case err != nil:
		return true
	}
	return ours.Unsent > 0 && theirs.Unread == 0 || theirs.Unsent > 0 && ours.Unread == 0
}

// until waits for a condition, for as long as a client would wait. It is false
// when that was too long, or is in vain.
func (t *trial) until(holds func() (bool, error)) (bool, error) {
	return t.untilSpun(spunOut, holds)
}

// untilSpun does the same, but gives up when the server has spun for that long.
func (t *trial) untilSpun(spun time.Duration, holds func() (bool, error)) (bool, error) {
	w := t.wait(t.patience, spun)
	defer w.end()
	return poll(t.ctx, w.over, holds)
}

// until waits for a condition, for a time that is not the client's.
func until(
	ctx context.Context, within time.Duration, holds func() (bool, error),
) (bool, error) {
	deadline := time.Now().Add(within)
	return poll(ctx, func() bool { return time.Now().After(deadline) }, holds)
}

func poll(
	ctx context.Context, over func() bool, holds func() (bool, error),
) (bool, error) {
	// Many conditions look at all processes of the machine: the longer it takes, the more seldom.
	began := time.Now()
	for {
		ok, err := holds()
		if ok || err != nil {
			return ok, err
		}
		if over() {
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(min(max(time.Since(began)/8, 100*time.Microsecond), lookEvery)):
		}
	}
}

// readAll reads until end of file, for as long as a client would wait.
func (t *trial) readAll(c *play.Conn) ([]byte, error) { return t.readWithin(c, t.patience) }

// readWithin is readAll for another time.
func (t *trial) readWithin(c *play.Conn, within time.Duration) ([]byte, error) {
	return t.reading(within, func(_ int, within time.Duration) ([]byte, error) {
		return c.ReadAll(within)
	})
}

// readAnswer reads the answer but not the end of file that follows, for as long as a
// client would wait.
func (t *trial) readAnswer(c *play.Conn) ([]byte, error) {
	const most = 4096
	var got []byte
	_, err := t.reading(t.patience, func(_ int, within time.Duration) ([]byte, error) {
		for deadline := time.Now().Add(within); !t.answer.equal(got); {
			more, err := c.Some(most, time.Until(deadline))
			got = append(got, more...)
			if err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	return got, err
}

// reading calls read until it ends with something else than a timeout, or the wait is
// over. read gets how many bytes have arrived before.
func (t *trial) reading(
	within time.Duration, read func(got int, within time.Duration) ([]byte, error),
) ([]byte, error) {
	w := t.wait(within, spunFor)
	defer w.end()
	var got []byte
	for {
		over := w.over()
		slice := max(lastRead, min(lookEvery, time.Until(w.deadline)))
		if over {
			slice = lastRead
		}
		more, err := read(len(got), slice)
		got = append(got, more...)
		if over || !errors.Is(err, play.ErrTimeout) {
			return got, err
		}
	}
}

// blockedForGood reports whether the last wait has found the server blocked for good, and
// what it does again and again, if it does not sleep.
func (t *trial) blockedForGood() (bool, *spin) {
	t.vigil.mu.Lock()
	defer t.vigil.mu.Unlock()
	return t.vigil.blocked, t.vigil.spin
}

// waited returns how long the last wait was.
func (t *trial) waited() time.Duration {
	t.vigil.mu.Lock()
	defer t.vigil.mu.Unlock()
	return t.vigil.took.Round(100 * time.Millisecond)
}

// sideBySide plays n clients at the same time.
func (t *trial) sideBySide(n int, client func(int)) {
	t.played(n)
	var clients sync.WaitGroup
	for i := range n {
		clients.Go(func() {
			client(i)
			t.played(-1)
		})
	}
	clients.Wait()
}

// played changes how many clients are played side by side.
func (t *trial) played(more int) {
	t.vigil.mu.Lock()
	defer t.vigil.mu.Unlock()
	t.vigil.players += more
}
