//go:build linux

package proc_test

import (
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/proc"
	"lesson/internal/proof"
)

func TestTheCallThatAProcessSleepsIn(t *testing.T) {
	p := start(t, "exec sleep 1000")
	var calls []proc.Call
	proof.Eventually(t, "the process sleeps", func() bool {
		var err error
		calls, err = proc.Blocked(p.pid)
		return err == nil && len(calls) == 1 &&
			(calls[0].Number == unix.SYS_CLOCK_NANOSLEEP || calls[0].Number == unix.SYS_NANOSLEEP)
	})
	pointer := calls[0].Args[2]
	if calls[0].Number == unix.SYS_NANOSLEEP {
		pointer = calls[0].Args[0]
	}
	if limit, err := proc.Seconds(p.pid, pointer); limit != 1000*time.Second || err != nil {
		t.Errorf("it sleeps for %v, %v; want 1000 s", limit, err)
	}
	if _, err := proc.Blocked(os.Getpid()); !errors.Is(err, proc.ErrRuns) {
		t.Errorf("the test itself: %v, want %v", err, proc.ErrRuns)
	}
	p.kill()
	if _, err := proc.Blocked(p.pid); !errors.Is(err, proc.ErrGone) {
		t.Errorf("a process that has ended: %v, want %v", err, proc.ErrGone)
	}
}

func TestTimers(t *testing.T) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	proof.Must(t, err)
	defer unix.Close(fd)
	for _, seconds := range []int64{0, 1000} {
		value := unix.ItimerSpec{Value: unix.Timespec{Sec: seconds}}
		proof.Must(t, unix.TimerfdSettime(fd, 0, &value, nil))
		if runs, err := proc.TimerRuns(os.Getpid(), fd); runs != (seconds > 0) || err != nil {
			t.Errorf("set to %d s, it runs: %v, %v", seconds, runs, err)
		}
	}
	alarm := func(want bool) {
		t.Helper()
		if alarm, err := proc.Alarm(os.Getpid()); alarm != want || err != nil {
			t.Errorf("alarm is %v, %v; want %v", alarm, err, want)
		}
	}
	alarm(false)
	var id int32
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, 0,
		uintptr(unsafe.Pointer(&id)))
	if errno != 0 {
		t.Fatal(errno)
	}
	alarm(true)
	if _, _, errno = unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(id), 0, 0); errno != 0 {
		t.Fatal(errno)
	}
	alarm(false)
}

func TestDuplicateIsTheSameFile(t *testing.T) {
	r, w, err := os.Pipe()
	proof.Must(t, err)
	defer r.Close()
	defer w.Close()
	fd, err := proc.Duplicate(os.Getpid(), int(w.Fd()))
	proof.Must(t, err)
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("x"))
	proof.Must(t, err)
	if n, err := r.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("read %d bytes, %v; want 1", n, err)
	}
}
