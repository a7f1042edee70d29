//go:build linux

package ptrace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/proof"
)

func TestCallOfAnotherArchitecture(t *testing.T) {
	if got := (call{0x40000003, 5}).String(); got != "syscall 5 of architecture 0x40000003" {
		t.Error(got)
	}
}

// Threads that are there, one of them blocked in a call, and threads to come.
func TestThreads(t *testing.T) {
	c := start(t, true)
	c.do("threads 3")
	proof.Eventually(t, "the child to read", c.reading)
	counter := c.attach()
	c.do("calls 1000")
	expect(t, counter, "getpriority", 3000)
	c.do("threads 2")
	c.do("calls 1000")
	expect(t, counter, "getpriority", 8000)
	c.do("end 0")
	c.do("churn 20")
	expect(t, counter, "getpriority", 8020)
}

// A call is counted when it is entered, and the one that Attach has found a
// thread in again, since Linux enters it again.
func TestEntered(t *testing.T) {
	c := start(t, true)
	proof.Eventually(t, "the child to read", c.reading)
	counter := c.attach()
	proof.Eventually(t, "read to be entered again", func() bool { return counter.Counts()["read"] == 1 })
	c.do("other 1") // and then the read of the first byte of the next order
	proof.Eventually(t, "the next read to be entered", func() bool {
		return counter.Counts()["read"] == int64(1+len("other 1\n"))
	})
	expect(t, counter, "getpgid", 1)
}

func TestFork(t *testing.T) {
	c := start(t, true)
	counter := c.attach()
	c.do("fork 3")
	expect(t, counter, "getpgid", 30, "getpriority", 30)
}

// A process has one thread after execve, with the number of its first, whichever
// made the call.
func TestExec(t *testing.T) {
	c := start(t, true)
	c.do("threads 3")
	counter := c.attach()
	c.do("calls 10")
	c.tell("exec 0")
	c.do("threads 1")
	c.do("calls 10")
	expect(t, counter, "getpriority", 40, "execve", 1)
	c.tell("exit 5")
	if got := c.ends(); got != "exit status 5" {
		t.Error(got)
	}
}

func TestSignals(t *testing.T) {
	c := start(t, true)
	c.do("threads 2")
	counter := c.attach()
	for range 20 { // one at a time: a second would merge with one that is pending
		c.signal(unix.SIGUSR1)
		c.do("signals 1")
	}
	c.do("calls 100")
	expect(t, counter, "getpriority", 200)
	c.signal(unix.SIGTERM)
	if got := c.ends(); got != "signal: terminated" {
		t.Error(got)
	}
}

func TestStopAndContinue(t *testing.T) {
	c := start(t, true)
	c.do("threads 3")
	counter := c.attach()
	for i := range 5 {
		c.signal(unix.SIGSTOP)
		proof.Eventually(t, "the child to stop", c.standing)
		before := counter.Counts()
		c.tell("calls 100")
		c.signal(unix.SIGUSR1) // does not end the stop
		if after := counter.Counts(); !c.standing() || fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("the child continues: %v, %v\n%s", before, after, c.threads())
		}
		c.signal(unix.SIGCONT)
		c.answer("calls")
		expect(t, counter, "getpriority", (i+1)*300)
		c.do("signals 1")
	}
	c.signal(unix.SIGSTOP)
	proof.Eventually(t, "the child to stop", c.standing)
	c.signal(unix.SIGKILL)
	if got := c.ends(); got != "signal: killed" {
		t.Error(got)
	}
}

// A child that is stopped by a signal stays so when it is attached to, and when
// it is let go.
func TestAttachAndDetachStopped(t *testing.T) {
	c := start(t, true)
	c.do("threads 3")
	c.signal(unix.SIGSTOP)
	proof.Eventually(t, "the child to stop", c.standing)
	counter := c.attach()
	c.tell("calls 100")
	proof.Eventually(t, "the child to stay stopped", c.standing)
	expect(t, counter, "getpriority", 0)
	detach(t, counter)
	proof.Eventually(t, "the child to stop again", c.standing)
	counter = c.attach()
	c.signal(unix.SIGCONT)
	c.answer("calls")
	expect(t, counter, "getpriority", 300)
}

func TestDetach(t *testing.T) {
	c := start(t, true)
	c.do("threads 3")
	for range 5 {
		counter := c.attach()
		c.do("calls 100")
		expect(t, counter, "getpriority", 300)
		c.tell("calls 10000") // it has plenty to do when it is let go
		detach(t, counter)
		if c.traced() {
			t.Errorf("still traced:\n%s", c.threads())
		}
		had := counter.Counts()
		c.answer("calls")
		c.do("fork 1")
		if has := counter.Counts(); fmt.Sprint(had) != fmt.Sprint(has) {
			t.Errorf("counts after Detach: %v, then %v", had, has)
		}
		detach(t, counter)
	}
	c.tell("exit 3")
	if got := c.ends(); got != "exit status 3" {
		t.Error(got)
	}
}

// Attach and Detach while threads and processes come and go.
func TestAttachInTheBustle(t *testing.T) {
	for _, order := range []string{"churn 300", "fork 10"} {
		c := start(t, true)
		c.do("threads 2")
		c.tell(order)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.answer(order)
		}()
		for busy := true; busy; {
			counter := c.attach()
			if all := c.threads(); regexp.MustCompile(`State [^ZX].*TracerPid 0,`).MatchString(all) {
				t.Errorf("not traced:\n%s", all)
			}
			detach(t, counter)
			if c.traced() {
				t.Errorf("still traced:\n%s", c.threads())
			}
			select {
			case <-done:
				busy = false
			default:
			}
		}
		c.tell("exit 4")
		if got := c.ends(); got != "exit status 4" {
			t.Error(got)
		}
	}
}

// Attach while the process ends, or becomes another program.
func TestAttachAtTheTurn(t *testing.T) {
	for _, order := range []string{"exit 6", "exec 0"} {
		for range 8 {
			c := start(t, true)
			c.do("threads 2")
			c.tell(order)
			counter, err := Count(c.pid)
			if err != nil && (order == "exec 0" || !errors.Is(err, unix.ESRCH)) {
				t.Fatal(err)
			}
			if order == "exec 0" {
				c.do("other 3")
				expect(t, counter, "getpgid", 3)
				c.tell("exit 6")
			}
			if got := c.ends(); got != "exit status 6" {
				t.Error(got)
			}
			if err == nil {
				detach(t, counter)
			}
		}
	}
}

// The exit status is the owner's, whether it waits before the end or long after,
// and whether the process ends by itself or is killed, counted or let go.
func TestExitStatus(t *testing.T) {
	for _, waitAtOnce := range []bool{true, false} {
		for _, letGo := range []bool{true, false} {
			c := start(t, waitAtOnce)
			c.do("threads 3")
			counter := c.attach()
			c.tell("exit 7")
			if !letGo || !waitAtOnce {
				if err := proc.AwaitEnd(c.pid); err != nil && !errors.Is(err, unix.ESRCH) {
					t.Error(err)
				}
			}
			if letGo {
				detach(t, counter)
			}
			if got := c.ends(); got != "exit status 7" {
				t.Errorf("waited at once: %v, let go: %v: %s", waitAtOnce, letGo, got)
			}
			detach(t, counter)
			if !letGo || !waitAtOnce {
				expect(t, counter, "exit_group", 1)
			}
		}
		c := start(t, waitAtOnce)
		c.do("threads 3")
		c.attach()
		c.tell("calls 1000000")
		c.signal(unix.SIGKILL)
		if got := c.ends(); got != "signal: killed" {
			t.Error(got)
		}
	}
}

func ended(pid int) bool {
	s, err := proc.ReadStatus(pid)
	return err != nil || s.Ended()
}

// When a counted process ends, the processes that it has started are still counted,
// whether or not a wait has reaped it. They are not our own children.
func TestOrphan(t *testing.T) {
	for _, waitAtOnce := range []bool{true, false} {
		c := start(t, waitAtOnce)
		counter := c.attach()
		pid, err := strconv.Atoi(strings.TrimPrefix(c.do("orphan 0"), "orphan "))
		if err != nil {
			t.Fatal(err)
		}
		c.signal(unix.SIGKILL)
		if err := proc.AwaitEnd(c.pid); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Error(err)
		}
		for range 3 {
			c.do("threads 1")
			c.do("other 5")
		}
		expect(t, counter, "getpgid", 15)
		if waitAtOnce {
			c.ends()
		}
		c.tell("exit 0")
		proof.Eventually(t, "the orphan to end", func() bool { return ended(pid) })
		detach(t, counter)
		if got := c.ends(); got != "signal: killed" {
			t.Error(got)
		}
	}
}

// The status of children that are not counted, or by another Counter, goes to
// the goroutine that waits for it.
func TestOtherChildren(t *testing.T) {
	var all sync.WaitGroup
	for range 4 {
		c := start(t, true)
		counter := c.attach()
		all.Go(func() {
			for i := range 5 {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), "PTRACE_CHILD=1")
				cmd.Stdin = strings.NewReader(fmt.Sprintf("other 1\nexit %d\n", i+1))
				if err := cmd.Run(); cmd.ProcessState.ExitCode() != i+1 {
					t.Errorf("%v, want exit status %d", err, i+1)
				}
				c.do("fork 1")
			}
			expect(t, counter, "getpgid", 50)
		})
	}
	all.Wait()
}

// Children that the tracer's own thread has started: one that is counted, and one
// that has ended, which its owner waits for when all is over.
func TestChildrenOfTheTracer(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ended, c := start(t, false), start(t, true)
	ended.tell("exit 9")
	if err := proc.AwaitEnd(ended.pid); err != nil {
		t.Fatal(err)
	}
	counter := newCounter()
	counter.Tracer = newTracer(func(s Stop) bool {
		counter.count(s)
		return false
	})
	attached, told := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(told)
		<-attached
		c.do("fork 1")
		c.do("other 5")
		c.tell("exit 8")
	}()
	counter.run([]int{c.pid}, attached)
	<-told
	detach(t, counter)
	expect(t, counter, "getpgid", 15)
	if got := c.ends(); got != "exit status 8" {
		t.Error(got)
	}
	if got := ended.ends(); got != "exit status 9" {
		t.Error(got)
	}
}

// A thread that is held does nothing more before Detach, and the others do not wait for it.
func TestHold(t *testing.T) {
	c := start(t, true)
	c.do("threads 1")
	var held atomic.Int64
	tracer, err := Hold(func(s Stop) bool {
		return !s.Left && s.Call() == "getpriority" && held.CompareAndSwap(0, int64(s.Thread))
	}, c.pid)
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, tracer.Detach()) })
	c.tell("calls 5")
	proof.Eventually(t, "the thread to be held", func() bool { return held.Load() != 0 })
	another := start(t, true)
	counter := another.attach()
	another.do("other 3")
	expect(t, counter, "getpgid", 3)
	stopped := fmt.Sprintf("State t (tracing stop), Pid %d,", held.Load())
	if !strings.Contains(c.threads(), stopped) {
		t.Errorf("thread %d is not held:\n%s", held.Load(), c.threads())
	}
	proof.Must(t, tracer.Detach())
	c.answer("calls")
	if c.traced() {
		t.Errorf("still traced:\n%s", c.threads())
	}
}

// A call that is made to fail is not made, and the program gets the error.
func TestFail(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("not known on " + runtime.GOARCH)
	}
	c := start(t, true)
	var failed, returned atomic.Int64
	tracer, err := Hold(func(s Stop) bool {
		switch {
		case s.Left:
			if failed.Load() == 1 && returned.Load() == 0 {
				returned.Store(s.Result)
			}
		case s.Call() == "getpgid" && failed.CompareAndSwap(0, 1):
			if err := s.Fail(unix.ECONNABORTED); err != nil {
				t.Error(err)
			}
		}
		return false
	}, c.pid)
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, tracer.Detach()) })
	c.do("other 2")
	if got := unix.Errno(-returned.Load()); got != unix.ECONNABORTED {
		t.Errorf("the call returned %v", got)
	}
}

// A signal that comes before a call which the thread comes to once more does not interrupt it:
// here a read, which would fail with EINTR.
func TestAgain(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("not known on " + runtime.GOARCH)
	}
	c := start(t, true)
	var calls, again atomic.Int64
	tracer, err := Hold(func(s Stop) bool {
		if !s.Left && s.Call() == "getpgid" {
			if calls.Add(1) == 2 {
				again.Add(1)
				if err := s.Again(); err != nil {
					t.Error(err)
				}
			}
		}
		return false
	}, c.pid)
	proof.Must(t, err)
	t.Cleanup(func() { proof.Must(t, tracer.Detach()) })
	c.do("other 5")
	if calls.Load() != 5+again.Load() {
		t.Errorf("5 calls were entered %d times", calls.Load())
	}
}

// A process may be killed while one of its threads is held.
func TestKilledWhileHeld(t *testing.T) {
	c := start(t, true)
	var held atomic.Bool
	tracer, err := Hold(func(s Stop) bool {
		return !s.Left && s.Call() == "getpgid" && held.CompareAndSwap(false, true)
	}, c.pid)
	proof.Must(t, err)
	c.tell("other 5")
	proof.Eventually(t, "the thread to be held", held.Load)
	c.signal(unix.SIGKILL)
	if got := c.ends(); got != "signal: killed" {
		t.Error(got)
	}
	proof.Must(t, tracer.Detach())
}

func TestTwoProcesses(t *testing.T) {
	a, b := start(t, true), start(t, true)
	counter, err := Count(a.pid, b.pid, a.pid)
	if err != nil {
		t.Fatal(err)
	}
	defer detach(t, counter)
	a.do("other 10")
	b.do("other 20")
	expect(t, counter, "getpgid", 30)
	a.tell("exit 1")
	if got := a.ends(); got != "exit status 1" {
		t.Error(got)
	}
	b.do("other 10")
	expect(t, counter, "getpgid", 40)
}

func TestRefused(t *testing.T) {
	gone := start(t, false)
	gone.tell("exit 0")
	if err := proc.AwaitEnd(gone.pid); err != nil {
		t.Fatal(err)
	}
	if _, err := Count(gone.pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a process that has ended: %v", err)
	}
	gone.ends()
	if _, err := Count(gone.pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a process that is gone: %v", err)
	}

	c := start(t, true)
	counter := c.attach()
	_, err := Count(c.pid)
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "traces it already") {
		t.Errorf("a process that is counted: %v", err)
	}
	other := start(t, true)
	if _, err := Count(other.pid, c.pid); !errors.Is(err, unix.EPERM) || other.traced() {
		t.Errorf("one of them is counted: %v\n%s", err, other.threads())
	}
	other.do("other 1")
	c.do("other 1")
	expect(t, counter, "getpgid", 1)

	_, err = Count(os.Getpid())
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_SYS_PTRACE") {
		t.Errorf("ourselves: %v", err)
	}
}

// What calls return is counted by its kind: here that of a descriptor that is none.
func TestOutcomes(t *testing.T) {
	c := start(t, true)
	counter := c.attach()
	c.do("other 5")
	counted := func() (fine, written int64) {
		for o, n := range counter.Outcomes() {
			switch {
			case o.Call == "getpgid" && o.Result == 1:
				fine += n
			case o.Call == "write" && o.FD == 1 && o.Result == 1:
				written += n
			}
		}
		return fine, written
	}
	proof.Eventually(t, "five calls to return, and the answer to be written", func() bool {
		fine, written := counted()
		return fine == 5 && written == 1
	})
}
