//go:build linux

package simulated

import "golang.org/x/sys/unix"

// A Hash tells states apart: of four million states, two different ones have the same
// Hash with a probability of one in two million.
type Hash uint64

// Add makes the numbers part of the Hash. Their order counts.
func (h *Hash) Add(numbers ...int) {
	for _, n := range numbers {
		*h = (*h ^ Hash(n)) * 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
		*h ^= *h >> 32
	}
}

// AddBools makes the truth of each part of the Hash.
func (h *Hash) AddBools(bools ...bool) {
	bits := 1
	for _, b := range bools {
		bits <<= 1
		if b {
			bits |= 1
		}
	}
	h.Add(bits)
}

// learn makes what a call returns part of the history: all that the server can know.
func (k *Kernel) learn(n *int, err *error) {
	errno, _ := (*err).(unix.Errno) // 0 for no error
	k.history.Add(*n, int(errno), int(k.now))
}

// Remember makes n part of the history: what a decorator has answered in the kernel's
// place.
func (k *Kernel) Remember(n int) { k.history.Add(n) }

// Hash returns a hash of the kernel's state and of the history: when each call began, and
// what it has returned. A server that does the same each time is in the same state after
// the same history, and so is what is in the buffers: the bytes of a server follow from its
// history, and those of a client must always be the same. So of a buffer only its length
// counts.
func (k *Kernel) Hash() Hash {
	h := k.history
	h.Add(int(k.now), len(k.files), len(k.clients))
	for _, t := range k.timers {
		h.Add(int(t.at), t.client.number)
	}
	for _, f := range k.files {
		k.addFile(&h, f)
	}
	for _, l := range k.sockets {
		h.Add(len(l.queue))
		for _, c := range l.queue {
			h.Add(c.client.number)
		}
	}
	for _, c := range k.clients {
		h.Add(len(c.unread), int(c.err))
		h.AddBools(c.conn == nil, c.end, c.reset, c.gone, c.endSent, c.refused, c.retried)
		if c.conn != nil { // which may have no descriptor any more
			h.addSocket(c.conn)
		}
	}
	return h
}

func (k *Kernel) addFile(h *Hash, f *file) {
	switch {
	case f == nil:
		h.Add(0)
		return
	case f.epoll != nil:
		h.Add(len(f.epoll.interest), len(f.epoll.ready))
		for _, e := range f.epoll.interest {
			h.Add(e.fd, int(e.events), int(e.data.Fd), int(e.data.Pad))
			h.Add(k.number(e.file))
		}
		for _, e := range f.epoll.ready {
			h.Add(e.fd, k.number(e.file))
		}
	case f.counter != nil:
		h.Add(int(f.counter.count))
	case f.socket == nil:
	case f.socket.client != nil:
		h.Add(f.socket.client.number)
	default:
		h.addSocket(f.socket)
	}
	h.Add(f.descriptors, k.number(f), len(f.watched))
	h.AddBools(f.nonblocking)
	for _, e := range f.watched { // the order in which they are woken
		h.Add(e.fd, k.number(e.epoll.file))
	}
}

func (h *Hash) addSocket(s *socket) {
	h.Add(int(s.state), len(s.unread), len(s.unsent), int(s.err), s.lowWater, int(s.rcvTimeout))
	h.AddBools(s.file == nil, s.end, s.readShut, s.writeShut, s.endSent, s.noSpace)
}
