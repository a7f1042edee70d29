//go:build linux

package simulated

import (
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A program may use many goroutines, each blocked in a system call of its own. Run runs
// such a program: one goroutine makes calls at a time, and the caller of Run lets
// clients act and time pass when all of them are blocked.
//
// It works inside a bubble of testing/synctest, whose Wait reports when all goroutines
// are blocked. Between two calls the Go scheduler decides which goroutine runs; with
// GOMAXPROCS of 1 that is nearly always the same.

type scheduler struct {
	turn    chan struct{} // holds one token: who has it may use the Kernel
	poke    chan struct{} // a call has been made while Run sleeps
	waiting []*waiter     // the calls that block, the longest first
	calls   int           // since Run has done something
	several bool          // a call was made while another blocked
	ended   bool          // main has returned
	dead    bool          // Run has ended: goroutines that are left end as well

	shared *Kernel   // by Share; nil if Run runs the program
	began  time.Time // of a shared Kernel
}

// A waiter is a call that blocks.
type waiter struct {
	deadline time.Duration
	ready    func() bool
	done     chan error
}

// Run runs main until it returns, or until End.
func (k *Kernel) Run(main func(), wait func()) {
	s := &scheduler{turn: make(chan struct{}, 1), poke: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	k.scheduler = s
	go func() {
		defer func() { s.ended = true }()
		main()
	}()
	for {
		wait()
		if s.dead || s.ended {
			break
		}
		s.calls = 0
		if !k.wakeOne() {
			k.proceed()
		}
	}
	k.End()
	// Timers that the program has left end now, and not in the next run: their calls find
	// that this one is over.
	if k.options.Sleep != nil { // the program's clock is virtual
		k.options.Sleep(leftTimers)
	}
	wait()
}

// leftTimers is more than a server waits for a client, as a rule.
const leftTimers = 5 * time.Minute

// Several reports whether several goroutines make calls.
func (k *Kernel) Several() bool { return k.scheduler != nil && k.scheduler.several }

// End ends all goroutines of the program that are in a call, or make one.
func (k *Kernel) End() {
	if k.scheduler == nil {
		return
	}
	k.scheduler.dead = true
	for _, w := range k.scheduler.waiting {
		w.done <- nil
	}
	k.scheduler.waiting = nil
}

// Exit does what End does, inside a World's Call: it ends the goroutine that makes the call,
// too. A program without goroutines it unwinds with a panic of that value.
func (k *Kernel) Exit(value any) {
	if k.scheduler == nil {
		panic(value)
	}
	k.End()
	k.scheduler.give()
	runtime.Goexit()
}

// wakeOne lets the first call continue that can. If several can, which one is left to
// the World.
func (k *Kernel) wakeOne() bool {
	s := k.scheduler
	for i, w := range s.waiting {
		var err error
		switch {
		case w.ready():
		case k.now >= w.deadline:
			err = unix.EAGAIN
		default:
			continue
		}
		s.waiting = slices.Delete(s.waiting, i, i+1)
		w.done <- err
		return true
	}
	return false
}

// proceed lets a client act, or time pass, when every goroutine is blocked.
func (k *Kernel) proceed() {
	s := k.scheduler
	if k.options.World.Idle() || s.dead {
		return
	}
	next := never
	for _, w := range s.waiting {
		next = min(next, w.deadline)
	}
	if len(k.timers) > 0 {
		next = min(next, k.timers[0].at)
	}
	// The program may have timers of its own that end earlier. Without a deadline here,
	// time passes only if it has: they make it call the kernel again.
	began := time.Now()
	select {
	case <-s.poke:
	case <-time.After(min(next-k.now, long)):
		if next == never {
			k.stuck()
			return
		}
	}
	k.pass(k.now + time.Since(began))
}

// long is how much time a program may let pass until it does something by itself.
const long = time.Minute

// Share lets any number of goroutines use the Kernel from now on: servers, and clients
// through Act and Await. Its time is that of package time, which is virtual in a bubble
// of testing/synctest.
func (k *Kernel) Share() {
	s := &scheduler{turn: make(chan struct{}, 1), poke: make(chan struct{}, 1), shared: k, began: time.Now()}
	s.turn <- struct{}{}
	k.scheduler = s
}

// Act lets a client of a shared Kernel act.
func (k *Kernel) Act(do func()) {
	k.scheduler.take()
	defer k.scheduler.give()
	do()
}

// Await lets a client of a shared Kernel wait until ready returns true. It returns false
// if that has not happened within d.
func (k *Kernel) Await(d time.Duration, ready func() bool) bool {
	k.scheduler.take()
	defer k.scheduler.give()
	return k.block(k.now+d, ready) == nil
}

// take waits until no other goroutine uses the Kernel.
func (s *scheduler) take() {
	if s.dead {
		runtime.Goexit()
	}
	<-s.turn
	if s.shared != nil {
		s.shared.pass(begin + time.Since(s.began))
		return
	}
	s.calls++
	s.several = s.several || len(s.waiting) > 0
	select {
	case s.poke <- struct{}{}:
	default: // Run knows already
	}
}

// give lets another goroutine use the Kernel. One that is shared first lets every call
// continue that can: Run does that for other programs.
func (s *scheduler) give() {
	for s.shared != nil && s.shared.wakeOne() {
	}
	s.turn <- struct{}{}
}

// block does what Kernel.block does, for a program with a scheduler.
func (s *scheduler) block(deadline time.Duration, ready func() bool) error {
	if ready() {
		return nil
	}
	w := &waiter{deadline, ready, make(chan error, 1)}
	s.waiting = append(s.waiting, w)
	s.give()
	err := s.await(w)
	<-s.turn
	if s.dead {
		s.give()
		runtime.Goexit()
	}
	return err
}

// await waits for the end of a call that blocks. In a shared Kernel nothing else looks at
// the deadline.
func (s *scheduler) await(w *waiter) error {
	if s.shared == nil || w.deadline == never {
		return <-w.done
	}
	over := time.AfterFunc(w.deadline-s.shared.Now(), func() { s.shared.Act(func() {}) })
	defer over.Stop()
	return <-w.done
}
