//go:build linux

package kernel_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

func TestEventNames(t *testing.T) {
	tests := []struct {
		mask uint32
		want string
	}{
		{0, "0"},
		{unix.EPOLLIN, "EPOLLIN"},
		{unix.EPOLLOUT, "EPOLLOUT"},
		{unix.EPOLLHUP | unix.EPOLLIN, "EPOLLIN|EPOLLHUP"},
		{unix.EPOLLERR | unix.EPOLLRDHUP, "EPOLLRDHUP|EPOLLERR"},
		{unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, "EPOLLIN|EPOLLOUT|EPOLLET"},
		{unix.EPOLLIN | unix.EPOLLONESHOT, "EPOLLIN|EPOLLONESHOT"},
		{unix.EPOLLIN | unix.EPOLLEXCLUSIVE, "EPOLLIN|EPOLLEXCLUSIVE"},
		{unix.EPOLLRDBAND, "0x80"},
		{unix.EPOLLIN | unix.EPOLLRDBAND, "EPOLLIN|0x80"},
	}
	for _, test := range tests {
		if got := kernel.EventNames(test.mask); got != test.want {
			t.Errorf("EventNames(%#x) = %q, want %q", test.mask, got, test.want)
		}
	}
}
