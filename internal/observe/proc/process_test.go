//go:build linux

package proc_test

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/proof"
)

// A process runs a script of the shell until the test ends.
type process struct {
	cmd *exec.Cmd
	pid int
}

func start(t *testing.T, script string) *process {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	proof.Must(t, cmd.Start())
	p := &process{cmd, cmd.Process.Pid}
	t.Cleanup(p.kill)
	return p
}

// startReady is start, and returns when the script has written "ready".
func startReady(t *testing.T, script string) *process {
	t.Helper()
	read, write, err := os.Pipe()
	proof.Must(t, err)
	defer read.Close()
	defer write.Close()
	p := start(t, fmt.Sprintf("exec >/proc/%d/fd/%d; %s", os.Getpid(), write.Fd(), script))
	if line, err := bufio.NewReader(read).ReadString('\n'); line != "ready\n" {
		t.Fatalf("it has written %q: %v", line, err)
	}
	return p
}

// stop stops the process, and returns when it does not run any more.
func (p *process) stop(t *testing.T) {
	t.Helper()
	proof.Must(t, unix.Kill(p.pid, unix.SIGSTOP))
	proof.Eventually(t, "it to be stopped", func() bool {
		stopped, err := proc.Stopped(p.pid)
		proof.Must(t, err)
		return stopped
	})
}

// kill ends the process and waits for it.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill() // it may have ended
		_ = p.cmd.Wait()         // how it ended is of no interest
	}
}

func TestWhoSpinsIsRunnableAndWhoSleepsIsNot(t *testing.T) {
	const window = 200 * time.Millisecond
	usedSince := func(p *process, before proc.Usage) time.Duration {
		after, err := proc.Used(p.pid)
		proof.Must(t, err)
		var busy time.Duration
		for _, thread := range after.Since(before) {
			busy += thread.Ran + thread.Waited
		}
		return busy
	}
	spins := start(t, "while :; do :; done")
	before, err := proc.Used(spins.pid)
	proof.Must(t, err)
	began := time.Now()
	// A wait for a processor counts when it is over.
	proof.Eventually(t, "one that spins to have been runnable for most of the time", func() bool {
		passed := time.Since(began)
		return passed > window && usedSince(spins, before) > passed/2
	})
	sleeper := start(t, "exec sleep 60")
	proof.Eventually(t, "it to sleep", func() bool { // when it has begun to, on a busy machine
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", sleeper.pid))
		proof.Must(t, err)
		asleep, err := proc.Asleep(sleeper.pid)
		proof.Must(t, err)
		return string(name) == "sleep\n" && asleep
	})
	before, err = proc.Used(sleeper.pid)
	proof.Must(t, err)
	time.Sleep(window)
	if got := usedSince(sleeper, before); got > window/2 {
		t.Errorf("one that sleeps was runnable for %v of %v", got, window)
	}
}

func TestUsageOfAProcess(t *testing.T) {
	p := start(t, "exec sleep 60")
	u, err := proc.Used(p.pid)
	proof.Must(t, err)
	if len(u.Threads) != 1 || u.Resident <= 0 {
		t.Errorf("used %+v, want one thread and some memory", u)
	}
	ours, err := proc.Used(os.Getpid())
	proof.Must(t, err)
	both := u
	both.Threads = maps.Clone(u.Threads)
	both.Add(ours)
	if len(both.Threads) != 1+len(ours.Threads) || both.Resident != u.Resident+ours.Resident {
		t.Errorf("%+v and %+v are %+v", u, ours, both)
	}
	p.kill()
	if _, err := proc.Used(p.pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("after its end: %v, want %v", err, proc.ErrGone)
	}
}

// untilUsed waits until the process has used so much processor time, and stops it: its
// figures are read one after the other.
func untilUsed(t *testing.T, p *process, much time.Duration) proc.Usage {
	t.Helper()
	proof.Eventually(t, fmt.Sprintf("%v of processor time", much), func() bool {
		ran, err := proc.Ran(p.pid)
		proof.Must(t, err)
		return ran >= much
	})
	p.stop(t)
	u, err := proc.Used(p.pid)
	proof.Must(t, err)
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
	proof.Must(t, err)
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
			proof.Must(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used))
			if time.Duration(used.Nano()) > much {
				break
			}
		}
		done <- unix.Gettid()
	}
	go compute()
	tid := <-done
	proof.Eventually(t, "the thread to end", func() bool {
		after, err := proc.Used(os.Getpid())
		proof.Must(t, err)
		_, lives := after.Threads[tid]
		return !lives && after.CPU-before.CPU >= much
	})
}

func TestSwitchesAreCounted(t *testing.T) {
	sleeper := start(t, "while :; do sleep 0.01; done")
	proof.Eventually(t, "it to sleep ten times", func() bool {
		u, err := proc.Used(sleeper.pid)
		proof.Must(t, err)
		return u.Threads[sleeper.pid].Sleeps >= 10
	})
	// Three for two processors, or as many as there are: some must give way.
	var spinners []*process
	for range runtime.NumCPU() + 1 {
		spinners = append(spinners, start(t, "while :; do :; done"))
	}
	proof.Eventually(t, "one that spins to be preempted ten times", func() bool {
		return slices.ContainsFunc(spinners, func(p *process) bool {
			u, err := proc.Used(p.pid)
			proof.Must(t, err)
			return u.Threads[p.pid].Preempted >= 10
		})
	})
}

func TestPeakIsRemembered(t *testing.T) {
	const size = 64 << 20
	before, err := proc.Used(os.Getpid())
	proof.Must(t, err)
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	proof.Must(t, err)
	proof.Must(t, unix.Munmap(memory))
	after, err := proc.Used(os.Getpid())
	proof.Must(t, err)
	if after.Peak < before.Resident+size/2 || after.Resident > before.Resident+size/2 {
		t.Errorf("resident %d, then %d and at most %d; want %d more at most",
			before.Resident, after.Resident, after.Peak, size)
	}
}

func TestStoppedAndBlockedInACall(t *testing.T) {
	p := start(t, "exec cat /dev/zero >/dev/null")
	stopped := func() bool {
		stopped, err := proc.Stopped(p.pid)
		proof.Must(t, err)
		return stopped
	}
	if stopped() {
		t.Error("stopped before any signal")
	}
	asleep := func() bool {
		asleep, err := proc.Asleep(p.pid)
		proof.Must(t, err)
		return asleep
	}
	proof.Eventually(t, "one that copies forever to run", func() bool { return !asleep() })
	proof.Must(t, unix.Kill(p.pid, unix.SIGSTOP))
	proof.Eventually(t, "it to be stopped", stopped)
	if !asleep() {
		t.Error("stopped, and not asleep")
	}

	reader, writer, err := os.Pipe()
	proof.Must(t, err)
	defer reader.Close()
	defer writer.Close()
	waits := start(t, fmt.Sprintf("exec cat /proc/%d/fd/%d", os.Getpid(), reader.Fd()))
	proof.Eventually(t, "it to be blocked in read", func() bool {
		call, err := proc.BlockedIn(waits.pid)
		return err == nil && call.Name() == "read" && call.Descriptor() > 2
	})
}

func TestHoldersAndInterests(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	proof.Must(t, err)
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	proof.Must(t, err)
	defer file.Close()
	// The runtime watches the other descriptors of the socket.
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	proof.Must(t, err)
	defer unix.Close(fd)
	var stat unix.Stat_t
	proof.Must(t, unix.Fstat(fd, &stat))

	link := proc.SocketLink(uint32(stat.Ino))
	descriptors, err := proc.Descriptors(os.Getpid())
	proof.Must(t, err)
	if got := descriptors[fd]; got != link {
		t.Errorf("descriptor %d is %q, want %q", fd, got, link)
	}
	other := start(t, "exec sleep 60")
	holders, err := proc.Holders(uint32(stat.Ino), os.Getpid(), other.pid)
	proof.Must(t, err)
	if !slices.Equal(holders, []int{os.Getpid()}) {
		t.Errorf("%v hold the socket, want only %d", holders, os.Getpid())
	}
	if holders, err = proc.Holders(uint32(stat.Ino)); !slices.Equal(holders, []int{os.Getpid()}) {
		t.Errorf("of all, %v hold the socket (%v), want only %d", holders, err, os.Getpid())
	}

	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	proof.Must(t, err)
	defer unix.Close(epoll)
	proof.Must(t, unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLET, Fd: 7, Pad: 1,
	}))
	same, err := proc.Duplicate(os.Getpid(), epoll)
	proof.Must(t, err)
	defer unix.Close(same)
	interests, err := proc.InterestsWith(os.Getpid(), fd)
	proof.Must(t, err)
	want := proc.Interest{FD: fd, Events: unix.EPOLLIN | unix.EPOLLET, Data: 1<<32 | 7}
	for i := range interests { // EPOLLHUP and EPOLLERR are always of interest
		interests[i].Events &^= unix.EPOLLHUP | unix.EPOLLERR
	}
	if !slices.Equal(interests, []proc.Interest{want}) {
		t.Errorf("the interest list is %+v, want %+v", interests, want)
	}
	if none, err := proc.InterestsWith(os.Getpid(), epoll); none != nil || err != nil {
		t.Errorf("the interest list with a descriptor that none watches is %+v, %v", none, err)
	}
}

func TestAllProcesses(t *testing.T) {
	p := startReady(t, "sleep 60 & echo ready; wait")
	all, err := proc.All()
	proof.Must(t, err)
	find := func(is func(proc.Process) bool) proc.Process {
		i := slices.IndexFunc(all, is)
		if i < 0 {
			t.Fatalf("not among %+v", all)
		}
		return all[i]
	}
	shell := find(func(q proc.Process) bool { return q.Pid == p.pid })
	sleep := find(func(q proc.Process) bool { return q.Parent == p.pid })
	group, err := unix.Getpgid(0)
	proof.Must(t, err)
	session, err := unix.Getsid(0)
	proof.Must(t, err)
	if want := (proc.Process{Pid: p.pid, Parent: os.Getpid(), Group: group, Session: session}); shell != want {
		t.Errorf("%+v, want %+v", shell, want)
	}
	if sleep.Group != group || sleep.Session != session || sleep.Zombie {
		t.Errorf("%+v", sleep)
	}
	proof.Must(t, unix.Kill(sleep.Pid, unix.SIGKILL))

	ended := start(t, "exit 3")
	proof.Must(t, proc.AwaitEnd(ended.pid))
	all, err = proc.All()
	proof.Must(t, err)
	if zombie := find(func(q proc.Process) bool { return q.Pid == ended.pid }); !zombie.Zombie {
		t.Errorf("%+v has ended", zombie)
	}
	if s, err := proc.ReadStatus(ended.pid); err != nil || !s.Ended() || s.Parent != os.Getpid() {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := ended.cmd.Wait(); err == nil || err.Error() != "exit status 3" {
		t.Errorf("after AwaitEnd: %v", err)
	}
}

// Threads of the kernel are most of an idle machine's processes, and none of interest.
func TestAllPassesOverTheKernel(t *testing.T) {
	if name, err := os.ReadFile("/proc/2/comm"); err != nil || string(name) != "kthreadd\n" {
		t.Skipf("process 2 is %q (%v): no thread of the kernel can be seen here", name, err)
	}
	all, err := proc.All()
	proof.Must(t, err)
	for _, p := range all {
		if p.Parent == 2 {
			t.Errorf("%+v is a thread of the kernel", p)
		}
	}
}

func TestHasEnv(t *testing.T) {
	p := startReady(t, "VARIABLE=ab exec sh -c 'echo ready; kill -STOP $$'")
	for variable, want := range map[string]bool{
		"VARIABLE=ab": true, "VARIABLE=a": false, "ARIABLE=ab": false, "VARIABLE=abc": false,
	} {
		if got, err := proc.HasEnv(p.pid, variable); got != want || err != nil {
			t.Errorf("%s: %v, %v", variable, got, err)
		}
	}
	p.kill()
	if _, err := proc.HasEnv(p.pid, "VARIABLE=ab"); !errors.Is(err, proc.ErrGone) {
		t.Errorf("after its end: %v", err)
	}
}

func TestMapsAFile(t *testing.T) {
	own := filepath.Base(os.Args[0])
	for file, want := range map[string]bool{own: true, own[1:]: false, "libjvm.so": false} {
		if got, err := proc.Maps(os.Getpid(), file); got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", file, got, err, want)
		}
	}
}
