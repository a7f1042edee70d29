//go:build linux

// Package trace reports the system calls of a server, each as it is entered and as it
// returns. Traced makes the calls of a lesson and reports them to an Observer. The
// Recorder is the Observer that turns them into Events, in order; Print and JSON write
// Events; State follows them.
package trace

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Call is one system call. The first group of fields is known when the call is
// entered, the second when it has returned.
type Call struct {
	Number  int64         // numbers the calls of a trace, from 1
	Name    string        // as in the manual: "accept4"
	FD      int           // the descriptor it is about; -1 when there is none
	Args    string        // what is between its parentheses, readable
	File    string        // the server's source file: "blocking/once.go"
	Line    int           // and the line in it
	Thread  int           // the OS thread, as gettid(2) returns it
	Entered time.Duration // Kernel.Now

	Took    time.Duration
	Blocked bool              // it waited: see Return
	Result  int               // as the manual has it; -1 after an error
	Err     error             // nil, or a unix.Errno
	Peer    netip.AddrPort    // the client of the connection that accept returned
	Data    []byte            // what was read or written; valid until Leave returns
	Events  []unix.EpollEvent // what epoll_wait returned; valid until Leave returns
}

// An Observer is called for every call, on the goroutine that makes it: Enter before
// the call, which may then block forever, and Leave after it, with the same *Call.
// Calls of several goroutines overlap. An Observer that keeps the Call must not read it
// between the two.
type Observer interface {
	Enter(*Call)
	Leave(*Call)
}

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
