//go:build linux

package crowd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
	"lesson/internal/play"
)

// A crowd is one server and its silent clients.
type crowd struct {
	ctx     context.Context
	target  Target
	server  *child.Server
	clients holders
	idle    time.Duration
	// patience bounds the wait for a server that makes no progress, or never rests.
	patience time.Duration

	before struct { // without a crowd
		user   int64
		kernel Kernel
	}
	full    Kernel        // with the largest crowd
	held    int           // connected
	taken   int           // of these accepted, when last looked at
	connect time.Duration // all growing so far, the clients' part
	accept  time.Duration // all of it
	unheard bool          // a probe got no answer: with more clients it will not either
}

// begin takes the measure of the server without a crowd. A few clients come first:
// what a server needs for its first ones is not the price of a connection.
func (c *crowd) begin() error {
	c.probe()
	if err := c.settle(); err != nil {
		return err
	}
	if _, err := c.busy(); err != nil {
		return err
	}
	var err error
	if c.before.user, err = c.user(); err != nil {
		return err
	}
	c.before.kernel, err = kernelMemory()
	return err
}

// grow lets the crowd grow to n and measures. stop says why there are fewer, or can
// be no more.
func (c *crowd) grow(n int) (one sample, stop string, err error) {
	if stop, err = c.fill(n); err != nil {
		return one, "", err
	}
	one = sample{
		asked: n, connected: c.held, accepted: c.taken, connect: c.connect, accept: c.accept,
	}
	if err := c.settle(); err != nil {
		return one, "", err
	}
	if one.idle, err = c.busy(); err != nil {
		return one, "", err
	}
	if err := c.weigh(&one); err != nil {
		return one, "", err
	}
	if stop == "" && one.partial(c.target) {
		stop, err = c.whyNotAccepted(one)
	} else if stop != "" {
		stop, err = c.whyNotConnected(stop)
	}
	if err != nil {
		return one, "", err
	}
	one.probe = c.probeThrough(stop)
	return one, stop, nil
}

// fill lets the crowd grow to n, a part of the accept queue at a time. All at once they
// could overrun it, and the kernel then leaves clients in the belief that they are
// connected: chapter 2.
func (c *crowd) fill(n int) (stop string, err error) {
	began := time.Now()
	_, backlog, err := c.queue()
	if err != nil {
		return "", err
	}
	step := max(1, backlog/4)
	for c.held < n && stop == "" {
		var took time.Duration
		if c.held, took, stop, err = c.clients.grow(min(n, c.held+step)); err != nil {
			return "", err
		}
		c.connect += took
		if c.taken < c.held-step {
			continue // it does not accept them anyhow
		}
		if c.taken, err = c.awaitAccepted(c.held); err != nil {
			return "", err
		}
	}
	c.accept += time.Since(began)
	return stop, nil
}

// weigh measures memory and threads.
func (c *crowd) weigh(one *sample) error {
	user, err := c.user()
	if err != nil {
		return err
	}
	one.user = user - c.before.user
	if c.full, err = kernelMemory(); err != nil {
		return err
	}
	one.kernel = c.full.Minus(c.before.kernel)
	one.threads, err = c.threads()
	return err
}

// leave lets the crowd go, and says what the server keeps.
func (c *crowd) leave() (Left, error) {
	var left Left
	if err := c.clients.release(); err != nil {
		return left, err
	}
	// The one that accepts and does nothing else notices nothing.
	for began := time.Now(); !c.target.silent && time.Since(began) < c.patience; {
		n, err := c.accepted()
		if err != nil {
			return left, err
		}
		if n == 0 {
			break
		}
		if err := c.pause(look); err != nil {
			return left, err
		}
	}
	if err := c.settle(); err != nil {
		return left, err
	}
	threads, err := c.threads()
	if err != nil {
		return left, err
	}
	user, err := c.user()
	left.Threads, left.User = threads, float64(user-c.before.user)
	return left, err
}

// shrunk is what the kernel has given back when server and crowd have ended, since
// the crowd was largest. before is what there was before the server.
func (c *crowd) shrunk(before Kernel) (Kernel, error) {
	if err := c.pause(c.idle); err != nil {
		return Kernel{}, err
	}
	now, err := kernelMemory()
	server := c.before.kernel.Minus(before) // the server itself, which has gone as well
	return c.full.Minus(now).Minus(server), err
}

// How often and how long the server is looked at.
const (
	look       = 10 * time.Millisecond
	still      = 300 * time.Millisecond // asleep, and nothing accepted: that was all
	noProgress = 5 * time.Second        // not to be seen asleep, and nothing accepted; or never at rest
	calm       = 5                      // looks in a row that find its clock unchanged: at rest
)

// awaitAccepted waits until the server has accepted n, or accepts no more, and says
// how many.
func (c *crowd) awaitAccepted(n int) (int, error) {
	var lastQueued int
	var lastRan time.Duration
	accepting, running := time.Now(), time.Now() // when it was last seen to do that
	for {
		if !c.server.Proc.Running() {
			return 0, proc.ErrGone
		}
		queued, _, err := c.queue()
		if err != nil {
			return 0, err
		}
		if queued != lastQueued {
			lastQueued, accepting, running = queued, time.Now(), time.Now()
		}
		over := time.Since(accepting) > c.patience
		if queued > 0 { // else what it does besides is of no interest
			ran, err := c.ran()
			if err != nil {
				return 0, err
			}
			if ran != lastRan {
				lastRan, running = ran, time.Now()
			}
			if time.Since(running) > still && !over {
				if over, err = c.asleep(); err != nil { // or it gets no processor
					return 0, err
				}
			}
		}
		// With an empty queue some may still be on their way into it: their last
		// segment was dropped, and the kernel asks for it again after a second or three.
		if queued == 0 || over {
			accepted, err := c.accepted()
			if err != nil || accepted >= n || over {
				return min(accepted, n), err
			}
		}
		if err := c.pause(time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// asleep says whether no thread of the server runs or waits for a processor. That is
// a look at each of them, which proc.Threads and its like avoid.
func (c *crowd) asleep() (bool, error) {
	pids, err := c.pids()
	for _, pid := range pids {
		if asleep, err := proc.Asleep(pid); err != nil || !asleep {
			return false, err
		}
	}
	return true, err
}

// queue is how many connections wait in the accept queue, and the backlog.
func (c *crowd) queue() (queued, backlog int, err error) {
	listeners, err := sockets.Listeners(c.server.Addr.Port())
	for _, l := range listeners {
		queued += int(l.Unread)
		backlog += int(l.Unsent)
	}
	return queued, backlog, err
}

// accepted is how many connections the server has accepted and not closed: it has a
// descriptor for each.
func (c *crowd) accepted() (int, error) {
	connections, err := sockets.InState(c.server.Addr.Port(), sockets.Established)
	n := 0
	for _, s := range connections {
		if s.Inode != 0 {
			n++
		}
	}
	return n, err
}

// settle waits until the server is at rest: none of its threads runs. One that never
// rests will be seen by what it uses while nothing happens.
func (c *crowd) settle() error {
	var last time.Duration
	var pids []int
	quiet := 0
	for began := time.Now(); quiet < calm && time.Since(began) < c.patience; {
		if quiet == 0 { // only a process that has run can have started another
			var err error
			if pids, err = c.pids(); err != nil {
				return err
			}
		}
		ran, err := sum(pids, proc.Ran)
		if err != nil {
			return err
		}
		quiet++
		if ran != last {
			quiet = 0
		}
		last = ran
		if err := c.pause(look); err != nil {
			return err
		}
	}
	return nil
}

// pids is all processes of the server. There is at least one, or it has ended.
func (c *crowd) pids() ([]int, error) {
	pids, err := c.server.Proc.Tree()
	if err == nil && len(pids) == 0 {
		err = proc.ErrGone
	}
	return pids, err
}

// hasEnded reports whether the server has ended, after an error that may come of that.
// On a busy machine its end is noticed some time after its /proc is gone.
func (c *crowd) hasEnded(err error) bool {
	notice := look
	if errors.Is(err, proc.ErrGone) {
		notice = c.patience
	}
	select {
	case <-c.server.Proc.Ended():
		return true
	case <-time.After(notice):
		return false
	}
}

// busy is the part of a processor that the server uses, looked at for a while.
func (c *crowd) busy() (float64, error) {
	before, err := c.ran()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := c.pause(c.idle); err != nil {
		return 0, err
	}
	after, err := c.ran()
	return (after - before).Seconds() / time.Since(began).Seconds(), err
}

// ran is the processor time of all the server's processes.
func (c *crowd) ran() (time.Duration, error) { return ofAll(c, proc.Ran) }

func (c *crowd) threads() (int, error) { return ofAll(c, proc.Threads) }

// user is the memory of the server's processes, in bytes.
func (c *crowd) user() (int64, error) { return ofAll(c, proc.Memory) }

type amount interface{ int | int64 | time.Duration }

// ofAll returns what all the server's processes have together.
func ofAll[T amount](c *crowd, of func(pid int) (T, error)) (T, error) {
	pids, err := c.pids()
	if err != nil {
		return 0, err
	}
	return sum(pids, of)
}

func sum[T amount](pids []int, of func(pid int) (T, error)) (T, error) {
	var all T
	for _, pid := range pids {
		one, err := of(pid)
		if err != nil {
			return all, err
		}
		all += one
	}
	return all, nil
}

func (c *crowd) pause(d time.Duration) error {
	select {
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// probeThrough sends the probes, if one can get an answer at all.
func (c *crowd) probeThrough(stop string) Probe {
	switch {
	case c.target.silent:
		return Probe{}
	case c.unheard, stop != "": // the last of the crowd was a probe already
		return Probe{Asked: 1}
	}
	p := c.probe()
	c.unheard = p.Answered < p.Asked
	return p
}

// probe sends requests, one client after the other. The first without an answer is
// the last.
func (c *crowd) probe() Probe {
	var p Probe
	if c.target.silent {
		return p
	}
	var took []time.Duration
	for range Probes {
		if c.ctx.Err() != nil {
			break
		}
		p.Asked++
		one, err := c.request()
		if err != nil {
			break // what it is, is of no interest: it got no answer
		}
		p.Answered++
		took = append(took, one)
	}
	if len(took) > 0 {
		slices.Sort(took)
		p.Median, p.Max = took[len(took)/2], took[len(took)-1]
	}
	return p
}

// request is how long one client takes, from connect to the end of the answer.
func (c *crowd) request() (time.Duration, error) {
	began := time.Now()
	one, err := play.Dial(c.server.Addr)
	if err != nil {
		return 0, err
	}
	err = one.Send([]byte("GET / HTTP/1.0\r\n\r\n"))
	if err == nil {
		_, err = one.ReadAll(ProbePatience)
	}
	took := time.Since(began)
	if reset := one.Reset(); err == nil { // so that no port is left in TIME_WAIT
		err = reset
	}
	return took, err
}

// whyNotAccepted says why some of the crowd are still in the accept queue.
func (c *crowd) whyNotAccepted(one sample) (string, error) {
	short := fmt.Sprintf("It has accepted %d of %d", one.accepted, one.connected)
	pids, err := c.pids()
	if err != nil {
		return "", err
	}
	for _, pid := range pids {
		limit, err := proc.DescriptorLimit(pid)
		if err != nil {
			return "", err
		}
		open, err := proc.Descriptors(pid)
		if err != nil {
			return "", err
		}
		if len(open) >= limit-1 { // the lessons keep one in reserve
			return fmt.Sprintf("%s: it has %d descriptors open and may have %d.",
				short, len(open), limit), nil
		}
	}
	queued, backlog, err := c.queue()
	return fmt.Sprintf("%s; %d wait in its accept queue, whose backlog is %d.",
		short, queued, backlog), err
}

// whyNotConnected adds to what the clients say what the kernel says.
func (c *crowd) whyNotConnected(stop string) (string, error) {
	queued, backlog, err := c.queue()
	return fmt.Sprintf("With %d clients connected, the next could not connect (%s). The accept queue"+
		" holds %d connections; its backlog is %d.", c.held, stop, queued, backlog), err
}

// fullStop says what stops a server that has all the connections it may have.
func (c *crowd) fullStop() []string {
	var stops []string
	if c.target.Most > 0 && c.held >= c.target.Most {
		stop := fmt.Sprintf("It stops at %d connections: %s", c.target.Most, c.target.Why)
		if c.unheard {
			stop += fmt.Sprintf(". One more client waits in the accept queue and gets no answer within %v",
				ProbePatience)
		}
		stops = append(stops, stop+".")
	}
	if c.target.OneByOne {
		stops = append(stops, "It serves the first of the crowd; all others wait in the accept"+
			" queue, where they cost the server nothing and get nothing.")
	}
	return stops
}
