//go:build linux

package check

import (
	"errors"
	"time"

	"lesson/internal/protocol"
)

// Many servers give up a client that does not close, or does not read its answer, after a
// second. What a case is about must be over by then. On a busy machine it may not be: then
// the case has missed it, and begins again with another server.
const (
	stays     = 900 * time.Millisecond // after its request, a client is not given up
	mostTries = 5                      // of a case; the last is judged as it is
)

// errMissed is the error of a step that comes too late for what the case is about.
var errMissed = errors.New("the machine is too busy")

// inTime plays a case until it misses nothing.
func inTime(play func(last bool) (Result, error)) (Result, error) {
	for try := 1; ; try++ {
		result, err := play(try == mostTries)
		if !errors.Is(err, errMissed) {
			return result, err
		}
	}
}

// miss returns errMissed, but not in the last try: then it is noted.
func (t *trial) miss() error {
	if !t.last {
		return errMissed
	}
	t.note("%v: it may have been looked at too late", errMissed)
	return nil
}

// asks remembers when a client's request became complete. The server has not begun to answer
// before.
func (t *trial) asks(name, text string) {
	complete := func(sent string) bool {
		return new(protocol.Request).Add([]byte(sent)) != protocol.Incomplete
	}
	if !complete(t.sent[name]) && complete(t.sent[name]+text) {
		t.asked = time.Now()
	}
}

// beginsInTime returns a step that is about a client which the server has not given up.
func beginsInTime(s step) step {
	do := s.do
	s.do = func(t *trial) error {
		if time.Since(t.asked) > stays {
			if err := t.miss(); err != nil {
				return err
			}
		}
		return do(t)
	}
	return s
}

// endsInTime returns a step that watches a server which has not given up the client. If it
// fails, it has seen enough, however late.
func endsInTime(s step) step {
	do := s.do
	s.do = func(t *trial) error {
		err := do(t)
		if err == nil && time.Since(t.asked) > stays {
			return t.miss()
		}
		return err
	}
	return s
}
