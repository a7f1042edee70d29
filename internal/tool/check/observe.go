//go:build linux

package check

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/observe/sockets"
)

// The steps that look at the server's process.

// calmFor is how long a server that has nothing to do is watched. It may take
// calmTries such times until it is calm: it may have been busy with what came
// before. One that spins never is. All of it is less than the second for which
// many a server lingers: who spins while it does is calm after it.
const (
	calmFor   = 200 * time.Millisecond
	calmTries = 3
	spinTries = 2 // of these: such times in which it never sleeps
	// mostTicks is how often its threads may wake in that time, if all of it is like
	// its calmest quarter. A tick of a millisecond is more than that, on a busy machine
	// as well. The Go runtime's own watchman wakes up to a hundred times after each
	// thing the server does, but is soon quiet: a server may try something again ten
	// times a second.
	mostTicks = 60
)

// A use is what the threads of a server have done in some time.
type use struct {
	ran     time.Duration // of all threads
	waited  time.Duration // for a processor, of all threads
	sleeps  int64         // of all threads
	longest time.Duration // the longest that a thread was runnable without ever sleeping

	// What sleeps, and ran and waited together, would be if all the time had been like its
	// calmest quarter.
	ticks int64
	busy  time.Duration
}

func useOf(threads []proc.Thread) use {
	var u use
	for _, t := range threads {
		u.ran += t.Ran
		u.waited += t.Waited
		u.sleeps += t.Sleeps
		if t.Sleeps <= 1 { // as it began
			u.longest = max(u.longest, t.Ran+t.Waited)
		}
	}
	return u
}

// spins says whether a thread has not slept in that time: it ran, or waited for
// a processor. On a machine so busy that a thread waits long for its turn, one
// that sleeps has at least slept now and then.
func (u use) spins(window time.Duration) bool {
	const nearly = 0.8
	return float64(u.longest) > nearly*float64(window)
}

// calm says whether so little has been done as if there were nothing to do. A thread that has
// waited for a processor had something to do: on a busy machine, it may not have come to it.
func (u use) calm(window time.Duration) bool {
	const little = 0.05
	return !u.spins(window) && float64(max(u.ran, u.busy)) < little*float64(window) &&
		u.ticks <= mostTicks
}

func (u use) String() string {
	text := fmt.Sprintf("%v of processor time in %v", u.ran.Round(100*time.Microsecond), calmFor)
	if u.spins(calmFor) {
		// On a busy machine, one that spins gets less of a processor than it could use.
		return fmt.Sprintf("it did not sleep: a thread ran, or waited for a processor, for %v of %v (%s)",
			min(u.longest, calmFor).Round(time.Millisecond), calmFor, text)
	}
	return fmt.Sprintf("%s, woken %d times", text, u.sleeps)
}

// calm demands that the server sleeps.
func calm() step {
	text := fmt.Sprintf("the server must sleep: watched for %v, at most %d times (longer if its calls"+
		" do not show why it does not)", calmFor, calmTries)
	return step{text: text, do: func(t *trial) error {
		var last use
		spun := 0
		for range calmTries {
			u, calmed, err := t.seenCalm()
			if err != nil {
				return err
			}
			last = u
			if calmed {
				t.note("%v", last)
				return nil
			}
			if last.spins(calmFor) {
				spun++
			}
			if spun == spinTries {
				break
			}
		}
		f := fails(last.String(), "no work where there is nothing to do")
		found := t.server.spinning(t.ctx)
		if found.kind == spinsUnknown && found.err == nil {
			if calmed, err := t.calms(); calmed || err != nil {
				return err
			}
		}
		f.seen = &sight{looked: true, spin: found, spins: last.spins(calmFor) || found.kind != spinsUnknown}
		if f.seen.spins {
			f.got += "; " + found.String()
		}
		return f
	}}
}

// seenCalm watches the server for calmFor, and reports what it did, and whether that was calm
// and it sleeps at the end.
func (t *trial) seenCalm() (u use, calmed bool, err error) {
	if u, err = t.server.useWithin(t.ctx, calmFor); err != nil {
		return u, false, t.lost(err)
	}
	if t.ctx.Err() != nil || !u.calm(calmFor) {
		return u, false, t.ctx.Err()
	}
	calmed, err = t.sleeps()
	return u, calmed, err
}

// calms waits until a server is calm whose calls do not show why it is not: on a busy machine, a
// runtime that compiles or collects may be at work for long. One that spins never is calm.
func (t *trial) calms() (bool, error) {
	began := time.Now()
	for time.Since(began) < t.patience {
		_, calmed, err := t.seenCalm()
		if err != nil {
			return false, err
		}
		if calmed {
			t.note("calm after %v more", time.Since(began).Round(lookEvery))
			return true, nil
		}
	}
	return false, t.ctx.Err()
}

// lost is what a process that cannot be looked at any more means.
func (t *trial) lost(err error) error {
	if t.server.Ended() || errors.Is(err, proc.ErrGone) {
		return fails("the server's process has ended", "it keeps running")
	}
	return err
}

// aFew is how many clients a server serves before it is measured: what it sets
// up once is then set up.
const aFew = 20

// descriptorSlack is what a server may have more afterwards: a log that it has
// opened, a client of the last moment.
const descriptorSlack = 5

// noMoreDescriptors lets n clients do something, and demands that no more
// descriptors are open afterwards than before.
func noMoreDescriptors(n int, what string, one func(*trial) error) []step {
	return []step{
		preparing(own(fmt.Sprintf("%d clients %s", aFew, what), repeated(aFew, one))),
		preparing(own("the server's open descriptors are counted", (*trial).countDescriptors)),
		preparing(own(fmt.Sprintf("%d more clients %s", n, what), repeated(n, one))),
		own("it must have no more descriptors open than before", func(t *trial) error {
			return t.descriptorsBack(t.held + descriptorSlack)
		}),
	}
}

// repeated does the same thing so many times.
func repeated(times int, one func(*trial) error) func(*trial) error {
	return func(t *trial) error {
		for range times {
			if err := one(t); err != nil {
				return err
			}
		}
		return nil
	}
}

// countDescriptors waits until the number does not change any more, and the server sleeps: it
// may still be starting, or the last clients be on their way out. A server that has worked for
// longer than that takes spins.
func (t *trial) countDescriptors() error {
	const (
		unchanged = 50 * time.Millisecond
		long      = 200 * time.Millisecond // of processor time
	)
	last, since, ran := -1, time.Now(), t.server.onProcessor()
	_, err := t.until(func() (bool, error) {
		n, err := t.server.descriptors()
		if err != nil {
			return false, t.lost(err)
		}
		if n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) <= unchanged {
			return false, nil
		}
		asleep, err := t.server.asleep()
		return asleep || t.server.onProcessor()-ran > long, err
	})
	t.held = last
	return err
}

func (t *trial) descriptorsBack(most int) error {
	n := 0
	ok, err := t.until(func() (bool, error) {
		var err error
		if n, err = t.server.descriptors(); err != nil {
			return false, t.lost(err)
		}
		return n <= most, nil
	})
	if err != nil {
		return err
	}
	t.note("%d descriptors before, %d after", t.held, n)
	if !ok {
		return fails(
			fmt.Sprintf("%d open before, %d after (and still after %v)", t.held, n, t.waited()),
			fmt.Sprintf("about %d", t.held),
		)
	}
	return nil
}

// limitDescriptors leaves each of the server's processes room for so many more descriptors.
// Only the soft limit is lowered, so that it can be raised again.
func (t *trial) limitDescriptors(more int) error {
	t.limits = map[int]limited{}
	for _, pid := range t.server.Pids() {
		descriptors, err := proc.Descriptors(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil {
			return t.lost(err)
		}
		// A new descriptor gets the lowest number that is free, and the limit
		// is one on numbers.
		limit := 0
		for free := more; free > 0 || descriptors[limit] != ""; limit++ {
			if descriptors[limit] == "" {
				free--
			}
		}
		if err := setSoftLimit(pid, uint64(limit)); err != nil {
			return err
		}
		t.limits[pid] = limited{limit, len(descriptors)}
	}
	return nil
}

// A limited process may open no descriptor from limit on, and had so many before.
type limited struct{ limit, before int }

// usedUp reports whether no process that has opened a descriptor since they were limited
// may open another.
func (t *trial) usedUp() (bool, error) {
	for pid, l := range t.limits {
		descriptors, err := proc.Descriptors(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil {
			return false, err
		}
		if len(descriptors) <= l.before {
			continue
		}
		for number := range l.limit {
			if descriptors[number] == "" {
				return false, nil
			}
		}
	}
	return true, nil
}

// unlimitDescriptors raises the limit to what it may be, which is what most
// servers raise it to by themselves.
func (t *trial) unlimitDescriptors() error {
	for _, pid := range t.server.Pids() {
		var old unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
			return limitError(err)
		}
		if err := setSoftLimit(pid, old.Max); err != nil {
			return err
		}
	}
	return nil
}

func setSoftLimit(pid int, soft uint64) error {
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return limitError(err)
	}
	limit := unix.Rlimit{Cur: min(soft, old.Max), Max: old.Max}
	return limitError(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limit, nil))
}

func limitError(err error) error {
	switch err {
	case nil:
		return nil
	case unix.ESRCH:
		return fails("the server's process has ended", "it keeps running")
	}
	return unable{"prlimit: " + err.Error()}
}

// exhausted waits until a connection waits in the accept queue for want of a
// descriptor, or those for which there is none have been closed.
func (t *trial) exhausted() error {
	ok, err := t.until(func() (bool, error) {
		l, err := t.listener()
		return err == nil && l.Unread > 0 || t.areClosed("w1", "w2") || t.server.Ended(), err
	})
	if errors.Is(err, sockets.ErrNone) {
		return &failure{
			got:  "it does not listen any more",
			want: "it listens, and waits for a descriptor",
			cause: "accept failed because no descriptor was left, and the server then closed its" +
				" listener, or ended.",
		}
	}
	if err == nil && !ok {
		return unable{"the server does not run out of descriptors"}
	}
	if err != nil {
		return err
	}
	if err := t.comesToRest(); err != nil { // it has tried to accept, and failed
		return err
	}
	if t.turnsAway = !t.server.Ended() && t.areClosed("w1", "w2"); t.turnsAway {
		t.note(turnedAway)
	}
	return nil
}

// areClosed reports whether the server has closed these connections without an answer, or
// reset them.
func (t *trial) areClosed(names ...string) bool {
	const end = 1 // the kernel counts the end of file as an unread byte
	for _, name := range names {
		ours, err := sockets.Connection(t.clients[name].LocalAddr(), t.server.Addr)
		if errors.Is(err, sockets.ErrNone) {
			continue
		}
		if err != nil || ours.State == sockets.Established || ours.Unread > end {
			return false
		}
	}
	return true
}

// restWithin is how long a server is waited for that does not come to rest, and has had
// its turn: it may be one that spins.
const restWithin = 300 * time.Millisecond

// comesToRest waits until the server has done what there was to do, and sleeps.
// A server that has read a request may not have answered it yet.
func (t *trial) comesToRest() error {
	_, err := t.sleeps()
	return err
}

// sleeps waits until the server sleeps, and reports whether it does.
func (t *trial) sleeps() (bool, error) {
	began := time.Now()
	var turn turn
	turn.over(t.server) // it begins now
	over := func() bool { return time.Since(began) > restWithin && turn.over(t.server) }
	return poll(t.ctx, over, t.server.asleep)
}
