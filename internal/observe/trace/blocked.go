//go:build linux

package trace

import (
	"slices"
	"strings"
	"time"
)

// blocking is how long a call must take to count as blocked, and not merely as slow.
const blocking = time.Millisecond

// Return completes a call that returned at that time. mayBlock reports whether calls on
// a descriptor may block.
//
// A call has blocked if it took a millisecond and is one that waits: for a descriptor
// that may block, or for a time that is not zero. Any other call that took as long was
// preempted: its thread had no processor meanwhile.
func (c *Call) Return(at time.Duration, result int, err error, mayBlock func(fd int) bool) {
	c.Took, c.Result, c.Err = at-c.Entered, result, err
	c.Blocked = c.Took >= blocking && Waits(c.Name) && !strings.HasSuffix(c.Args, ", 0 ms") &&
		(c.FD < 0 || mayBlock(c.FD))
}

// waits are the calls that wait: on a descriptor, or for many or for a time.
var waits = []string{
	"accept", "accept4", "connect", "read", "readv", "recv", "recvmsg",
	"write", "writev", "send", "sendmsg", "sendfile", "splice",
	"epoll_wait", "poll", "ppoll", "select", "pselect6", "nanosleep",
}

// Waits reports whether calls of that name wait for something.
func Waits(name string) bool { return slices.Contains(waits, name) }
