//go:build linux

// Package trace shows a lesson's system calls. A Recorder makes data of them, for
// other programs. A Printer prints them, one line each: the call as it
// is entered, and behind it, as it is left, what came of it. A call that blocks
// is a line that stands there unfinished.
package trace

import (
	"time"

	"golang.org/x/sys/unix"
)

// A Call is one system call. All but the last group of fields is known when
// it is entered; the last when it is left.
type Call struct {
	Name    string        // as in the manual: "accept4"
	FD      int           // the descriptor it is about; -1 when there is none
	Args    string        // what stands between its parentheses, readable
	File    string        // the lesson's source file: "blocking/once.go"
	Line    int           // and the line in it
	Thread  int           // the OS thread, as gettid(2) gives it
	Entered time.Duration // Kernel.Now

	Took   time.Duration
	Result int               // as the manual has it; -1 after an error
	Err    error             // nil, or a unix.Errno
	Data   []byte            // what was read or written; valid until Leave returns
	Events []unix.EpollEvent // what epoll_wait returned; valid until Leave returns
}

// An Observer is told of every call, on the goroutine that makes it: Enter
// before the call (which may then block for ever) and Leave after it, with the
// same *Call. Calls of several goroutines overlap. An Observer that keeps the
// Call must not read it between the two.
type Observer interface {
	Enter(*Call)
	Leave(*Call)
}

// Several is an Observer that tells several others.
type Several []Observer

// Enter tells all of a call that begins.
func (s Several) Enter(c *Call) {
	for _, o := range s {
		o.Enter(c)
	}
}

// Leave tells all of a call that has ended.
func (s Several) Leave(c *Call) {
	for _, o := range s {
		o.Leave(c)
	}
}
