//go:build linux

package explore

import (
	"golang.org/x/sys/unix"

	"lesson/internal/kernel"
)

// Faults says which calls may go wrong.
type Faults struct {
	Short  bool // read and send less than was asked, return one event of several
	Errors bool // EINTR, and errors of accept4 and epoll_ctl
}

// wrapped is the simulated kernel, with the faults that are asked for in front of it.
func (x *execution) wrapped() Kernel {
	return &faulty{&kernel.Faulty{Kernel: x.kernel, Plan: x.plan}, x.kernel, x}
}

// faulty adds to kernel.Faulty what only an exploration can choose.
type faulty struct {
	*kernel.Faulty
	Machine
	x *execution
}

func (f *faulty) Run(main, wait func()) {
	f.x.alone = false
	f.x.kernel.Run(main, wait)
}

// EpollWait may return one event where it could return more.
func (f *faulty) EpollWait(epfd int, events []unix.EpollEvent, milliseconds int) (int, error) {
	if f.x.faults.Short && len(events) > 1 && f.x.choose.pick("events", 2) == 1 {
		f.x.kernel.Remember(-1) // plan remembers others
		f.x.faulted = callKey{"epoll_wait", -1}
		events = events[:1]
	}
	return f.Faulty.EpollWait(epfd, events, milliseconds)
}

// Send may be given less than the server wants to send: the kernel cannot see that it fell short.
func (f *faulty) Send(fd int, p []byte, flags int) (int, error) {
	n, err := f.Faulty.Send(fd, p, flags)
	if err == nil && n < len(p) {
		f.x.kernel.FellShort(fd)
	}
	return n, err
}

// shortFaults and errorFaults are the faults of each call. Clients must not notice any.
var (
	shortFaults = map[string][]kernel.Fault{
		"read": {{Limit: 1}},
		"send": {{Limit: 1}},
	}
	errorFaults = map[string][]kernel.Fault{
		"accept4": {{Err: unix.ECONNABORTED}, {Err: unix.EMFILE}, {Err: unix.ENOBUFS},
			{Err: unix.EINTR}},
		"read":       {{Err: unix.EINTR}},
		"send":       {{Err: unix.EINTR}},
		"epoll_wait": {{Err: unix.EINTR}},
	}
)

// plan chooses whether a call goes wrong, and how.
func (x *execution) plan(name string, fd int) (kernel.Fault, bool) {
	var faults []kernel.Fault
	if x.faults.Short && !x.kernel.IsEventfd(fd) {
		faults = append(faults, shortFaults[name]...)
	}
	if x.faults.Errors {
		for _, fault := range errorFaults[name] {
			// A signal interrupts only a call that blocks.
			if fault.Err != unix.EINTR || fd < 0 || x.kernel.MayBlock(fd) {
				faults = append(faults, fault)
			}
		}
	}
	if len(faults) == 0 {
		return kernel.Fault{}, false
	}
	chosen := x.choose.pick(name, 1+len(faults))
	if chosen == 0 {
		return kernel.Fault{}, false
	}
	x.kernel.Remember(chosen)
	x.faulted = callKey{name, fd}
	fault := faults[chosen-1]
	if fault.Err != nil {
		x.kernel.Skip(name, fd) // the call is made, as far as the story goes
	}
	return fault, true
}
