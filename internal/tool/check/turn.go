//go:build linux

package check

import (
	"errors"
	"time"

	"lesson/internal/observe/proc"
)

// On a busy machine a server may not get a processor for as long as a client waits. Before
// the client gives it up, the server gets its turn: it runs for aTurn, or until it sleeps.
// One turn is enough to answer a client that has come, and more than enough to wait for it.
const (
	aTurn    = 20 * time.Millisecond
	turnMost = 5 * time.Second // so long it may wait for the turn
)

// A turn is one turn of a server.
type turn struct {
	began time.Time
	ran   time.Duration // by the server, before it began
}

// over reports whether the turn is over. The first call begins it. It is over at once for a
// server whose processes cannot be seen.
func (t *turn) over(s *server) bool {
	if asleep, err := s.asleep(); asleep || err != nil {
		return true
	}
	ran := s.onProcessor()
	if t.began.IsZero() {
		t.began, t.ran = time.Now(), ran
		return false
	}
	return ran-t.ran >= aTurn || time.Since(t.began) > turnMost
}

// asleep reports whether all threads of the server sleep.
func (s *server) asleep() (bool, error) {
	for _, pid := range s.Pids() {
		asleep, err := proc.Asleep(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil || !asleep {
			return false, err
		}
	}
	return true, nil
}

// onProcessor returns the processor time of the server's processes that have not ended.
func (s *server) onProcessor() (sum time.Duration) {
	for _, pid := range s.Pids() {
		if ran, err := proc.Ran(pid); err == nil {
			sum += ran
		}
	}
	return sum
}
