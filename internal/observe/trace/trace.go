//go:build linux

// Package trace reports the system calls of a server, each as it is entered and as it
// returns. Traced makes the calls of a lesson and reports them to an Observer. The
// Recorder is the Observer that turns them into Events, in order; Print and JSON write
// Events; State follows them.
package trace

import (
	"net/netip"
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
