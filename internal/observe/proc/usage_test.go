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
	"lesson/internal/proof"
)

func TestMemoryGrowsWithWhatIsTouched(t *testing.T) {
	memory := func() int64 {
		m, err := proc.Memory(os.Getpid())
		proof.Must(t, err)
		return m
	}
	before := memory()
	const size = 32 << 20
	pages, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	proof.Must(t, err)
	after := memory()
	proof.Must(t, unix.Munmap(pages))
	const noise = size / 4 // the garbage collector may give memory back meanwhile
	if got := after - before; got < size-noise || got > size+noise {
		t.Errorf("%d bytes touched, and the memory has grown by %d", size, got)
	}
}

func TestMemoryOfAFileIsNotCounted(t *testing.T) {
	program, err := os.Open("/proc/self/exe")
	proof.Must(t, err)
	defer program.Close()
	info, err := program.Stat()
	proof.Must(t, err)
	before, err := proc.Memory(os.Getpid())
	proof.Must(t, err)
	pages, err := unix.Mmap(int(program.Fd()), 0, int(info.Size()), unix.PROT_READ,
		unix.MAP_PRIVATE|unix.MAP_POPULATE)
	proof.Must(t, err)
	defer unix.Munmap(pages)
	after, err := proc.Memory(os.Getpid())
	proof.Must(t, err)
	if got := after - before; got > info.Size()/2 {
		t.Errorf("a file of %d bytes is mapped, and the memory has grown by %d", info.Size(), got)
	}
}

func TestNoMemoryAfterTheEnd(t *testing.T) {
	p := start(t, "exec sleep 60")
	p.kill()
	if _, err := proc.Memory(p.pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("memory: %v, want %v", err, proc.ErrGone)
	}
	if _, err := proc.Threads(p.pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("threads: %v, want %v", err, proc.ErrGone)
	}
	if _, err := proc.Ran(p.pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("ran: %v, want %v", err, proc.ErrGone)
	}
	if _, err := proc.DescriptorLimit(p.pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("limit: %v, want %v", err, proc.ErrGone)
	}
}

func TestDescriptorLimitIsTheOneInForce(t *testing.T) {
	p := startReady(t, "ulimit -Sn 100; echo ready; exec sleep 60")
	got, err := proc.DescriptorLimit(p.pid)
	proof.Must(t, err)
	if got != 100 {
		t.Errorf("the limit is %d, want 100", got)
	}
}

func TestStatusOfAThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	want := proc.Status{State: 'R', Process: os.Getpid(), Parent: os.Getppid()}
	if got, err := proc.ReadStatus(unix.Gettid()); got != want || err != nil {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	p := start(t, "exit 0")
	p.kill()
	if _, err := proc.ReadStatus(p.pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("when it has ended: %v, want %v", err, proc.ErrGone)
	}
}

func TestThreadsAndTheirTime(t *testing.T) {
	p := start(t, "while :; do :; done")
	threads, err := proc.Threads(p.pid)
	proof.Must(t, err)
	if threads != 1 {
		t.Errorf("a shell has %d threads, want 1", threads)
	}
	proof.Eventually(t, "its clock to go on", func() bool {
		ran, err := proc.Ran(p.pid)
		proof.Must(t, err)
		return ran > 50*time.Millisecond
	})
	p.stop(t)
	used, err := proc.Used(p.pid)
	proof.Must(t, err)
	ran, err := proc.Ran(p.pid)
	proof.Must(t, err)
	if got := used.Threads[p.pid].Ran; got != ran {
		t.Errorf("its one thread ran for %v, all of it for %v", got, ran)
	}

	rests := startReady(t, "echo ready; exec sleep 60")
	before := time.Duration(-1)
	proof.Eventually(t, "the clock of one that sleeps to stand", func() bool {
		now, err := proc.Ran(rests.pid)
		proof.Must(t, err)
		stands := now == before
		before = now
		return stands
	})
}
