//go:build linux

package check

import (
	"slices"

	"golang.org/x/sys/unix"

	"lesson/internal/observe/ptrace"
)

// A spinKind is why a server spins, as far as its calls show it.
type spinKind uint8

const (
	spinsUnknown      spinKind = iota
	spinsAtEnd                 // read returns 0
	spinsWriting               // write returns EAGAIN
	spinsAccepting             // accept returns EMFILE, or the like
	spinsOnError               // a call on a connection returns another error
	spinsOnRoom                // epoll reports EPOLLOUT
	spinsOnUrgent              // epoll reports EPOLLPRI
	spinsReading               // read returns EAGAIN
	spinsOnHangUp              // epoll reports EPOLLHUP or EPOLLERR
	spinsOnEvent               // epoll, poll or select report something
	spinsOnTimeout             // they return 0
	spinsWithoutCalls          // there are none
)

// spinCauses are the causes that follow.
var spinCauses = map[spinKind]string{
	spinsAtEnd: "The server does not check for end of file: read returns 0, and the server reads again.",
	spinsReading: "A read that has returned EAGAIN is tried again at once. Wait until the kernel" +
		" reports that the connection is readable.",
	spinsWriting: "A write that has returned EAGAIN is tried again at once. Keep what is unsent, and" +
		" wait for EPOLLOUT.",
	spinsAccepting: "accept has failed because no descriptor is left, and is tried again at once. An" +
		" event loop must stop watching the listener, which stays readable, and a thread must sleep." +
		" Try again when a connection has been closed, and after a short while.",
	spinsOnError: "An error is ignored, and the call that has failed is made again.",
	spinsOnHangUp: "EPOLLHUP and EPOLLERR are reported until the descriptor is closed, even with an" +
		" interest of 0. Close the connection when EPOLLERR or EPOLLHUP comes.",
	spinsOnUrgent: "EPOLLPRI is reported until the urgent data has been read, with MSG_OOB or by a read beyond it." +
		" Do not ask for EPOLLPRI.",
	spinsOnRoom: "Interest in EPOLLOUT with nothing to send: a send buffer nearly always has room, and" +
		" that is reported again and again.",
	spinsOnEvent: "An event, such as EPOLLIN or EPOLLRDHUP, is not handled, so it is reported again at" +
		" once. Handle it, or do not ask for it.",
	spinsOnTimeout:    "The call that waits for events has a timeout of 0, or of hardly more.",
	spinsWithoutCalls: "A loop that makes no system call: it computes, or polls a variable.",
}

// fewSpins is how many calls are too few to conclude anything from. Fewer do where accept
// fails for want of a descriptor: a server may write a report about each failure, which takes
// many calls that fail for the same reason.
const (
	fewSpins   = 20
	fewAccepts = 5
)

// enough reports whether a call was made often enough to be why the server spins, when the
// most frequent one was made most times.
func (k spinKind) enough(times, most int64) bool {
	if k == spinsAccepting {
		return times >= fewAccepts
	}
	return times >= max(fewSpins, most/3)
}

// spinOf finds what explains that a server spins among the outcomes of its calls.
func spinOf(outcomes map[ptrace.Outcome]int64) *spin {
	var useful, most int64
	for o, n := range outcomes {
		if slices.Contains(runtimes, o.Call) {
			continue
		}
		most = max(most, n)
		if o.Result > 0 && worksForAClient(o.Call) {
			useful = max(useful, n)
		}
	}
	found := &spin{}
	for o, n := range outcomes { // unless something explains it
		if n == most && !slices.Contains(runtimes, o.Call) {
			found = &spin{Outcome: o, times: n}
		}
	}
	for o, n := range outcomes {
		kind := kindOf(o)
		// What is done about an event explains more than the event.
		if kind == spinsUnknown || !kind.enough(n, most) || useful > n/3 {
			continue // or it works, and ends one client after the other
		}
		if found.kind == spinsUnknown || kind < found.kind || kind == found.kind && n > found.times {
			found = &spin{Outcome: o, kind: kind, times: n}
		}
	}
	return found
}

// worksForAClient reports whether a call that succeeds serves a client.
func worksForAClient(call string) bool {
	return call == "accept" || call == "accept4" ||
		slices.Contains(readCalls, call) || slices.Contains(writeCalls, call)
}

func kindOf(o ptrace.Outcome) spinKind {
	errno := unix.Errno(0)
	if o.Result < 0 && o.Result > -512 { // beyond that, the kernel makes the call again
		errno = unix.Errno(-o.Result)
	}
	accepts := o.Call == "accept" || o.Call == "accept4"
	reads, writes := slices.Contains(readCalls, o.Call), slices.Contains(writeCalls, o.Call)
	shortage := []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM}
	switch {
	case reads && o.Result == 0:
		return spinsAtEnd
	case reads && errno == unix.EAGAIN:
		return spinsReading
	case writes && errno == unix.EAGAIN:
		return spinsWriting
	case accepts && slices.Contains(shortage, errno):
		return spinsAccepting
	case (reads || writes || accepts) && errno != 0 && errno != unix.EAGAIN && errno != unix.EINTR:
		return spinsOnError
	case !slices.Contains(waitCalls, o.Call):
		return spinsUnknown
	case o.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0:
		return spinsOnHangUp
	case o.Events&unix.EPOLLPRI != 0:
		return spinsOnUrgent
	case o.Events != 0 && o.Events&^unix.EPOLLOUT == 0:
		return spinsOnRoom
	case o.Result > 0:
		return spinsOnEvent
	case o.Result == 0:
		return spinsOnTimeout
	}
	return spinsUnknown
}
