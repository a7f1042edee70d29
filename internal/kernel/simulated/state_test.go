//go:build linux

package simulated_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"lesson/internal/kernel/simulated"
	"lesson/internal/proof"
)

// A server that keeps an eventfd for its signals has a state like any other.
func TestStateWithAnEventfd(t *testing.T) {
	k := simulated.New(simulated.Options{})
	list, err := k.EpollCreate1(0)
	proof.Must(t, err)
	wake, err := k.Silent()
	proof.Must(t, err)
	proof.Must(t, k.EpollCtl(list, unix.EPOLL_CTL_ADD, wake, unix.EpollEvent{Events: unix.EPOLLIN}))
	interest := k.State().Interest
	if len(interest) != 1 || interest[0].FD != wake || interest[0].Events != "IN" {
		t.Errorf("the interest list has %+v, want descriptor %d for IN", interest, wake)
	}
}
