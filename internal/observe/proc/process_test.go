//go:build linux

package proc_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// start runs a script of the shell until the test ends.
func start(t *testing.T, script string) *child.Process {
	t.Helper()
	p, err := child.Start([]string{"sh", "-c", script}, "", "GREETING=hello")
	must(t, err)
	t.Cleanup(func() { must(t, p.Kill()) })
	return p
}

func said(t *testing.T, p *child.Process, what string) {
	t.Helper()
	eventually(t, "it says "+what, func() bool { return strings.Contains(string(p.Output()), what) })
}

func TestAChildThatEnds(t *testing.T) {
	p := start(t, "echo $GREETING; echo $PWD >&2; exit 3")
	<-p.Ended()
	if how, ok := p.Status(); how != "exit status 3" || ok {
		t.Errorf("ended with %q, success %v", how, ok)
	}
	dir, err := os.Getwd()
	must(t, err)
	if got, want := string(p.Output()), "hello\n"+dir+"\n"; got != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
	if tree, err := p.Tree(); len(tree) != 0 || err != nil {
		t.Errorf("its tree is %v, %v", tree, err)
	}
}

func TestNoSuchCommand(t *testing.T) {
	if _, err := child.Start([]string{"/no/such/command"}, ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func TestOnlyTheEndOfTheOutputIsKept(t *testing.T) {
	const kept = 1 << 20
	p := start(t, "head -c 3000000 /dev/zero | tr '\\0' x; echo end")
	<-p.Ended()
	out := string(p.Output())
	if len(out) != kept || !strings.HasSuffix(out, "x\nend\n") && !strings.HasSuffix(out, "xend\n") {
		t.Errorf("%d bytes are kept, which end in %q", len(out), out[max(0, len(out)-10):])
	}
}

func TestChildrenOfTheChildEndWithIt(t *testing.T) {
	// The second is in a session of its own, the third an orphan.
	p := start(t, "sleep 60 & setsid sleep 60 & (sleep 60 & echo left) ; echo ready; wait")
	said(t, p, "ready")
	var tree []int
	eventually(t, "four processes", func() bool {
		var err error
		tree, err = p.Tree()
		must(t, err)
		return len(tree) == 4
	})
	must(t, p.Kill())
	for _, pid := range tree {
		eventually(t, fmt.Sprintf("process %d has ended", pid), func() bool {
			// A zombie, which nobody has waited for, has ended too.
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(stat), ") Z ")
		})
	}
	if how, _ := p.Status(); how != "signal: killed" {
		t.Errorf("ended with %q", how)
	}
	must(t, p.Kill()) // once more does no harm
}

func TestWhoSpinsIsRunnableAndWhoSleepsIsNot(t *testing.T) {
	const window = 200 * time.Millisecond
	used := func(p *child.Process) time.Duration {
		before, err := proc.Used(p.Pid())
		must(t, err)
		time.Sleep(window)
		after, err := proc.Used(p.Pid())
		must(t, err)
		var busy time.Duration
		for _, thread := range after.Since(before) {
			busy += thread.Ran + thread.Waited
		}
		return busy
	}
	if got := used(start(t, "while :; do :; done")); got < window/2 {
		t.Errorf("one that spins was runnable for %v of %v", got, window)
	}
	sleeper := start(t, "exec sleep 60")
	eventually(t, "it sleeps", func() bool { // when it has begun to, on a busy machine
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", sleeper.Pid()))
		must(t, err)
		asleep, err := proc.Asleep(sleeper.Pid())
		must(t, err)
		return string(name) == "sleep\n" && asleep
	})
	if got := used(sleeper); got > window/2 {
		t.Errorf("one that sleeps was runnable for %v of %v", got, window)
	}
}

func TestUsageOfAProcess(t *testing.T) {
	p := start(t, "exec sleep 60")
	u, err := proc.Used(p.Pid())
	must(t, err)
	if len(u.Threads) != 1 || u.Resident <= 0 {
		t.Errorf("used %+v, want one thread and some memory", u)
	}
	ours, err := proc.Used(os.Getpid())
	must(t, err)
	both := u
	both.Threads = maps.Clone(u.Threads)
	both.Add(ours)
	if len(both.Threads) != 1+len(ours.Threads) || both.Resident != u.Resident+ours.Resident {
		t.Errorf("%+v and %+v are %+v", u, ours, both)
	}
	must(t, p.Kill())
	if _, err := proc.Used(p.Pid()); !errors.Is(err, proc.ErrGone) {
		t.Errorf("after its end: %v, want %v", err, proc.ErrGone)
	}
}

// untilUsed waits until the process has used so much processor time.
func untilUsed(t *testing.T, p *child.Process, much time.Duration) (u proc.Usage) {
	t.Helper()
	eventually(t, fmt.Sprintf("it has used %v", much), func() bool {
		var err error
		u, err = proc.Used(p.Pid())
		must(t, err)
		return u.CPU >= much
	})
	return u
}

func TestProcessorTimeIsPartedIntoUserAndSystem(t *testing.T) {
	const much = 300 * time.Millisecond
	u := untilUsed(t, start(t, "while :; do :; done"), much)
	if u.User < u.System {
		t.Errorf("one that computes: user %v, system %v", u.User, u.System)
	}
	if sum := u.User + u.System; (sum - u.CPU).Abs() > much/2 {
		t.Errorf("user and system are %v, all is %v", sum, u.CPU)
	}
	u = untilUsed(t, start(t, "exec dd if=/dev/zero of=/dev/null bs=1M 2>/dev/null"), much)
	if u.System < u.User {
		t.Errorf("one that asks the kernel for zeros: user %v, system %v", u.User, u.System)
	}
}

func TestTheTimeOfThreadsThatHaveEndedCounts(t *testing.T) {
	before, err := proc.Used(os.Getpid())
	must(t, err)
	const much = 50 * time.Millisecond
	done := make(chan int)
	end := make(chan bool)
	defer close(end)
	var compute func()
	compute = func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		if unix.Gettid() == os.Getpid() {
			go compute()
			<-end // but not the first of a process: Go keeps it
			return
		}
		for began := time.Now(); time.Since(began) < 10*time.Second; {
			var used unix.Timespec
			must(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used))
			if time.Duration(used.Nano()) > much {
				break
			}
		}
		done <- unix.Gettid()
	}
	go compute()
	tid := <-done
	eventually(t, "the thread has ended", func() bool {
		after, err := proc.Used(os.Getpid())
		must(t, err)
		_, lives := after.Threads[tid]
		return !lives && after.CPU-before.CPU >= much
	})
}

func TestSwitchesAreCounted(t *testing.T) {
	sleeper := start(t, "while :; do sleep 0.01; done")
	eventually(t, "it has slept ten times", func() bool {
		u, err := proc.Used(sleeper.Pid())
		must(t, err)
		return u.Threads[sleeper.Pid()].Sleeps >= 10
	})
	// Three for two processors, or as many as there are: some must give way.
	var spinners []*child.Process
	for range runtime.NumCPU() + 1 {
		spinners = append(spinners, start(t, "while :; do :; done"))
	}
	eventually(t, "one of those that spin has been preempted ten times", func() bool {
		return slices.ContainsFunc(spinners, func(p *child.Process) bool {
			u, err := proc.Used(p.Pid())
			must(t, err)
			return u.Threads[p.Pid()].Preempted >= 10
		})
	})
}

func TestPeakIsRemembered(t *testing.T) {
	const size = 64 << 20
	before, err := proc.Used(os.Getpid())
	must(t, err)
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	must(t, err)
	must(t, unix.Munmap(memory))
	after, err := proc.Used(os.Getpid())
	must(t, err)
	if after.Peak < before.Resident+size/2 || after.Resident > before.Resident+size/2 {
		t.Errorf("resident %d, then %d and at most %d; want %d more at most",
			before.Resident, after.Resident, after.Peak, size)
	}
}

func TestStoppedAndStandingInACall(t *testing.T) {
	p := start(t, "exec cat /dev/zero >/dev/null")
	stopped := func() bool {
		stopped, err := proc.Stopped(p.Pid())
		must(t, err)
		return stopped
	}
	if stopped() {
		t.Error("stopped before any signal")
	}
	asleep := func() bool {
		asleep, err := proc.Asleep(p.Pid())
		must(t, err)
		return asleep
	}
	eventually(t, "one that copies without end runs", func() bool { return !asleep() })
	must(t, child.Signal(p.Pid(), unix.SIGSTOP))
	eventually(t, "it is stopped", stopped)
	if !asleep() {
		t.Error("stopped, and not asleep")
	}

	reader, writer, err := os.Pipe()
	must(t, err)
	defer reader.Close()
	defer writer.Close()
	waits := start(t, fmt.Sprintf("exec cat /proc/%d/fd/%d", os.Getpid(), reader.Fd()))
	eventually(t, "it stands in read", func() bool {
		call, fd, err := proc.StandsIn(waits.Pid())
		return err == nil && call == unix.SYS_READ && fd > 2
	})
}

func TestHoldersAndInterests(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	must(t, err)
	defer file.Close()
	var stat unix.Stat_t
	must(t, unix.Fstat(int(file.Fd()), &stat))

	link := proc.SocketLink(uint32(stat.Ino))
	descriptors, err := proc.Descriptors(os.Getpid())
	must(t, err)
	if got := descriptors[int(file.Fd())]; got != link {
		t.Errorf("descriptor %d is %q, want %q", file.Fd(), got, link)
	}
	other := start(t, "exec sleep 60")
	holders, err := proc.Holders(uint32(stat.Ino), os.Getpid(), other.Pid())
	must(t, err)
	if !slices.Equal(holders, []int{os.Getpid()}) {
		t.Errorf("%v hold the socket, want only %d", holders, os.Getpid())
	}
	if holders, err = proc.Holders(uint32(stat.Ino)); !slices.Equal(holders, []int{os.Getpid()}) {
		t.Errorf("of all, %v hold the socket (%v), want only %d", holders, err, os.Getpid())
	}

	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must(t, err)
	defer unix.Close(epoll)
	must(t, unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, int(file.Fd()), &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLET,
	}))
	interests, err := proc.Interests(os.Getpid(), epoll)
	must(t, err)
	want := proc.Interest{FD: int(file.Fd()), Events: unix.EPOLLIN | unix.EPOLLET}
	for i := range interests { // EPOLLHUP and EPOLLERR are always of interest
		interests[i].Events &^= unix.EPOLLHUP | unix.EPOLLERR
	}
	if !slices.Equal(interests, []proc.Interest{want}) {
		t.Errorf("the interest list is %+v, want %+v", interests, want)
	}
}
