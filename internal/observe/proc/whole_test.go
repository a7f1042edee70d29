//go:build linux

package proc_test

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
)

func TestMemoryGrowsWithWhatIsTouched(t *testing.T) {
	memory := func() int64 {
		m, err := proc.Memory(os.Getpid())
		must(t, err)
		return m
	}
	before := memory()
	const size = 32 << 20
	pages, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	must(t, err)
	after := memory()
	must(t, unix.Munmap(pages))
	const noise = size / 4 // the garbage collector may give memory back meanwhile
	if got := after - before; got < size-noise || got > size+noise {
		t.Errorf("%d bytes touched, and the memory has grown by %d", size, got)
	}
}

func TestMemoryOfAFileIsNotCounted(t *testing.T) {
	program, err := os.Open("/proc/self/exe")
	must(t, err)
	defer program.Close()
	info, err := program.Stat()
	must(t, err)
	before, err := proc.Memory(os.Getpid())
	must(t, err)
	pages, err := unix.Mmap(int(program.Fd()), 0, int(info.Size()), unix.PROT_READ,
		unix.MAP_PRIVATE|unix.MAP_POPULATE)
	must(t, err)
	defer unix.Munmap(pages)
	after, err := proc.Memory(os.Getpid())
	must(t, err)
	if got := after - before; got > info.Size()/2 {
		t.Errorf("a file of %d bytes is mapped, and the memory has grown by %d", info.Size(), got)
	}
}

func TestNoMemoryAfterTheEnd(t *testing.T) {
	p := start(t, "exec sleep 60")
	must(t, p.Kill())
	if _, err := proc.Memory(p.Pid()); !errors.Is(err, proc.ErrGone) {
		t.Errorf("memory: %v, want %v", err, proc.ErrGone)
	}
	if _, err := proc.Threads(p.Pid()); !errors.Is(err, proc.ErrGone) {
		t.Errorf("threads: %v, want %v", err, proc.ErrGone)
	}
	if _, err := proc.Ran(p.Pid()); !errors.Is(err, proc.ErrGone) {
		t.Errorf("ran: %v, want %v", err, proc.ErrGone)
	}
	if _, err := proc.DescriptorLimit(p.Pid()); !errors.Is(err, proc.ErrGone) {
		t.Errorf("limit: %v, want %v", err, proc.ErrGone)
	}
}

func TestDescriptorLimitIsTheOneInForce(t *testing.T) {
	p := start(t, "ulimit -Sn 100; echo ready; exec sleep 60")
	said(t, p, "ready")
	got, err := proc.DescriptorLimit(p.Pid())
	must(t, err)
	if got != 100 {
		t.Errorf("the limit is %d, want 100", got)
	}
}

func TestProcessOfAThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, tid := range []int{os.Getpid(), unix.Gettid()} {
		if pid, err := proc.OfThread(tid); pid != os.Getpid() || err != nil {
			t.Errorf("thread %d: %d, %v, want %d", tid, pid, err, os.Getpid())
		}
	}
	p := start(t, "exit 0")
	<-p.Ended()
	if _, err := proc.OfThread(p.Pid()); !errors.Is(err, proc.ErrGone) {
		t.Errorf("when it has ended: %v, want %v", err, proc.ErrGone)
	}
}

func TestThreadsAndTheirTime(t *testing.T) {
	p := start(t, "while :; do :; done")
	threads, err := proc.Threads(p.Pid())
	must(t, err)
	if threads != 1 {
		t.Errorf("a shell has %d threads, want 1", threads)
	}
	eventually(t, "its clock goes on", func() bool {
		ran, err := proc.Ran(p.Pid())
		must(t, err)
		return ran > 50*time.Millisecond
	})
	used, err := proc.Used(p.Pid())
	must(t, err)
	ran, err := proc.Ran(p.Pid())
	must(t, err)
	if got := used.Threads[p.Pid()].Ran; got > ran || ran-got > time.Second {
		t.Errorf("its one thread ran for %v, all of it for %v", got, ran)
	}

	rests := start(t, "echo ready; exec sleep 60")
	said(t, rests, "ready")
	before := time.Duration(-1)
	eventually(t, "the clock of one that sleeps stands still", func() bool {
		now, err := proc.Ran(rests.Pid())
		must(t, err)
		stands := now == before
		before = now
		return stands
	})
}
