//go:build linux

package explore

import (
	"encoding/binary"
	"encoding/json"

	"lesson/internal/kernel/simulated"
)

// states are the states that a search has seen, between two acts. What can follow a state
// is always the same, if the server is: so an execution that comes to a state seen before
// ends there. What follows has been tried with as few deviations, or will be.
//
// The state of a server cannot be read. But one that does the same each time, in one
// goroutine, is in the same state after the same history of calls: simulated.Kernel.Hash.
type states struct {
	seen  map[simulated.Hash]struct{}
	whole string // why no execution ends early any more; "" if they do
}

// The reasons why no execution ends early.
const (
	concurrent = "the server makes calls in several goroutines"
	unsteady   = "the server did not do the same again after the same events"
)

// maxStates bounds the memory: about 80 MB.
const maxStates = 1 << 21

func newStates() *states { return &states{seen: make(map[simulated.Hash]struct{})} }

// seen notes the state in which the execution is, and reports whether it ends here. asleep
// says that a call of the server blocks; else one is about to be made.
func (x *execution) seen(asleep bool) bool {
	c := x.choose
	if c.states == nil || x.scenario.Plain {
		return false
	}
	last := -1
	if len(c.deviations) > 0 {
		last = c.deviations[len(c.deviations)-1].at
	}
	at := len(c.asked)
	if at < last {
		return false // on the way of an execution before this one
	}
	s := c.states
	if x.kernel.Several() {
		s.whole = concurrent
	}
	h := x.hash(asleep)
	if h == c.state {
		return false // asked again, and nothing has happened
	}
	c.state = h
	_, seen := s.seen[h]
	switch full := len(s.seen) >= maxStates; {
	case at == last:
		if s.whole == "" && !seen && !full {
			s.whole = unsteady
		}
		return false
	case !seen && !full:
		s.seen[h] = struct{}{}
	}
	c.merged = seen && s.whole == "" && c.random == nil
	return c.merged
}

// hash returns a hash of all on which the rest of the execution depends, and the
// judgement.
func (x *execution) hash(asleep bool) simulated.Hash {
	h := x.kernel.Hash()
	for _, letter := range []byte(x.scenario.Name) {
		h.Add(int(letter))
	}
	h.Add(x.idle, x.since, x.base)
	h.AddBools(asleep, x.stopping, x.kernel.Changes() != x.changed)
	for _, a := range x.actors {
		h.Add(a.next, len(a.left), len(a.sent), len(a.got))
		h.AddBools(a.end, a.err != nil, a.gone)
		if a.conn != nil {
			h.Add(a.conn.Number())
		}
	}
	return h
}

// MarshalJSON and UnmarshalJSON hand the states from one process to the next.
func (s *states) MarshalJSON() ([]byte, error) {
	all := make([]byte, 0, 8*len(s.seen))
	for h := range s.seen {
		all = binary.LittleEndian.AppendUint64(all, uint64(h))
	}
	return json.Marshal(handedOver{all, s.whole})
}

func (s *states) UnmarshalJSON(text []byte) error {
	var h handedOver
	if err := json.Unmarshal(text, &h); err != nil {
		return err
	}
	*s = states{make(map[simulated.Hash]struct{}, len(h.Seen)/8), h.Whole}
	for all := h.Seen; len(all) >= 8; all = all[8:] {
		s.seen[simulated.Hash(binary.LittleEndian.Uint64(all))] = struct{}{}
	}
	return nil
}

type handedOver struct {
	Seen  []byte
	Whole string
}
