//go:build linux

package proc

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestCallName(t *testing.T) {
	for number, want := range map[int]string{
		unix.SYS_READ: "read", unix.SYS_ACCEPT4: "accept4", unix.SYS_EPOLL_CTL: "epoll_ctl",
		unix.SYS_IO_URING_SETUP: "io_uring_setup", unix.SYS_LISTNS: "listns",
		unix.SYS_RSEQ: "rseq", unix.SYS_PIDFD_SEND_SIGNAL: "pidfd_send_signal",
		400: "syscall 400", -1: "syscall -1", 99999: "syscall 99999",
	} {
		if got := CallName(number); got != want {
			t.Errorf("%d: %q, want %q", number, got, want)
		}
	}
}
