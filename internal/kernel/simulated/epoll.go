//go:build linux

package simulated

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"lesson/internal/words"
)

// The numbers in the comments are those of docs/epoll-semantics.md.

// privateBits are not events: EP_PRIVATE_BITS in fs/eventpoll.c.
const privateBits = unix.EPOLLWAKEUP | unix.EPOLLONESHOT | unix.EPOLLET | unix.EPOLLEXCLUSIVE

// exclusiveBits may stand beside EPOLLEXCLUSIVE: EPOLLEXCLUSIVE_OK_BITS.
const exclusiveBits = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLERR | unix.EPOLLHUP |
	unix.EPOLLWAKEUP | unix.EPOLLET | unix.EPOLLEXCLUSIVE

// An epoll is an interest list and a ready list.
type epoll struct {
	kernel   *Kernel
	file     *file
	interest []*entry // in the order of their ADD
	ready    []*entry // in the order in which they are to be looked at
}

// An entry of the interest list is found by its open file and its number.
type entry struct {
	epoll  *epoll
	file   *file
	fd     int
	events uint32
	data   unix.EpollEvent // its Fd and Pad are the caller's

	onReadyList bool
	cause       words.Sentence // why it was put on the ready list last
	since       int            // and in which step
	reported    int            // the step in which epoll_wait last returned it; 0 for never
}

func (e *epoll) find(f *file, fd int) *entry {
	for _, i := range e.interest {
		if i.file == f && i.fd == fd {
			return i
		}
	}
	return nil
}

func (e *epoll) ctl(op int, f *file, fd int, event unix.EpollEvent) unix.Errno {
	found := e.find(f, fd)
	exclusive := event.Events&unix.EPOLLEXCLUSIVE != 0
	if exclusive && (op == unix.EPOLL_CTL_MOD ||
		op == unix.EPOLL_CTL_ADD && (event.Events&^exclusiveBits != 0 || f.epoll != nil)) {
		return unix.EINVAL
	}
	switch op {
	case unix.EPOLL_CTL_ADD:
		if found != nil {
			return unix.EEXIST
		}
		added := &entry{epoll: e, file: f, fd: fd}
		e.interest = append(e.interest, added)
		f.watched = slices.Insert(f.watched, 0, added) // add_wait_queue: last in, first woken
		added.arm(event, causeAdded)
	case unix.EPOLL_CTL_MOD:
		switch {
		case found == nil:
			return unix.ENOENT
		case found.events&unix.EPOLLEXCLUSIVE != 0:
			return unix.EINVAL
		}
		found.arm(event, causeChanged)
	case unix.EPOLL_CTL_DEL:
		if found == nil {
			return unix.ENOENT
		}
		found.remove()
	default:
		return unix.EINVAL
	}
	return 0
}

// arm sets what the entry asks for, and reports at once what is there already.
func (e *entry) arm(event unix.EpollEvent, cause words.Sentence) {
	e.events = event.Events | unix.EPOLLERR | unix.EPOLLHUP
	e.data = event
	if e.file.poll()&e.events != 0 {
		e.enqueue(cause)
	}
}

func (e *entry) remove() {
	is := func(other *entry) bool { return other == e }
	e.epoll.interest = slices.DeleteFunc(e.epoll.interest, is)
	e.epoll.ready = slices.DeleteFunc(e.epoll.ready, is)
	e.file.watched = slices.DeleteFunc(e.file.watched, is)
}

// wake puts the entry on the ready list if it asks for one of the events in key, 0
// standing for any: ep_poll_callback. A fired EPOLLONESHOT asks for nothing.
func (e *entry) wake(key uint32, cause words.Sentence) {
	if e.events&^privateBits == 0 || key != 0 && key&e.events == 0 {
		return
	}
	e.enqueue(cause)
}

func (e *entry) enqueue(cause words.Sentence) {
	if e.onReadyList {
		return
	}
	e.onReadyList = true
	e.cause, e.since = cause, e.epoll.kernel.stepNow()
	e.epoll.ready = append(e.epoll.ready, e)
	for _, outer := range e.epoll.file.watched { // a list that watches this list
		outer.wake(unix.EPOLLIN, words.Say("an entry of %s is ready", e.epoll.name()))
	}
}

// collect fills events from the ready list: ep_send_events. What is ready is asked
// now and not when the entry was put there. A level-triggered entry that is reported
// goes back to the end of the list; one that is not ready any more is dropped.
func (e *epoll) collect(events []unix.EpollEvent) int {
	list := e.ready
	e.ready = nil
	e.kernel.Why, e.kernel.last = e.kernel.Why[:0], e.kernel.last[:0]
	n := 0
	for len(list) > 0 && n < len(events) {
		i := list[0]
		list = list[1:]
		i.onReadyList = false
		mask := i.file.poll() & i.events
		if mask == 0 {
			continue
		}
		events[n] = i.data
		events[n].Events = mask
		n++
		e.kernel.Why = append(e.kernel.Why, Cause{i.fd, i.cause, i.since})
		e.kernel.last = append(e.kernel.last, i)
		switch {
		case i.events&unix.EPOLLONESHOT != 0:
			i.events &= privateBits
		case i.events&unix.EPOLLET == 0:
			i.onReadyList = true
			e.ready = append(e.ready, i)
			i.cause = causeReported
		}
	}
	e.ready = append(slices.Clone(list), e.ready...)
	e.kernel.ReportedIn(e.kernel.stepNow())
	return n
}

// ReportedIn returns in which step the epoll_wait that has just reported events returns, if
// not in the one that is being done: clients may have acted while it blocked.
func (k *Kernel) ReportedIn(step int) {
	for _, e := range k.last {
		e.reported = step
		if e.onReadyList {
			e.since = step
		}
	}
}

// name returns the number under which the list is known.
func (e *epoll) name() string { return fmt.Sprint(slices.Index(e.kernel.files, e.file)) }

// poll returns the readiness of the epoll descriptor itself.
func (e *epoll) poll() uint32 {
	for _, i := range e.ready {
		if i.file.poll()&i.events != 0 {
			return unix.EPOLLIN
		}
	}
	return 0
}

func (e *epoll) close() {
	for len(e.interest) > 0 {
		e.interest[0].remove()
	}
}
