//go:build linux

package tour

import (
	"context"

	"lesson/internal/play"
)

// A scenarioOrder is what a page wants of a scenario.
type scenarioOrder struct {
	Name   string  `json:"name"`  // start it, after a fresh start of all
	Speed  float64 `json:"speed"` // of Name: 0 is 1
	Paused bool    `json:"paused"`

	Step  bool  `json:"step"`  // the next act only
	Pause *bool `json:"pause"` // or go on
	Stop  bool  `json:"stop"`
}

// A scenarioEvent tells how far a scenario has come.
type scenarioEvent struct {
	header
	Name  string     `json:"name"`
	State play.State `json:"state"`
	Next  int        `json:"next"` // the index of the next act
}

// A performance is a scenario that is played to the servers of a session.
type performance struct {
	*play.Player
	cancel context.CancelFunc
}

// stop ends the performance, and returns when it has ended.
func (p *performance) stop() {
	p.cancel()
	<-p.Over()
}

// direct starts a scenario, or does what is wanted of the one that is played.
func (s *session) direct(order scenarioOrder) error {
	if order.Name != "" {
		return s.perform(order)
	}
	s.mu.Lock()
	p := s.performed
	s.mu.Unlock()
	if p == nil {
		return badRequest("no scenario is played").hint(`start one: {"name": "one-waits"}`)
	}
	continues := true
	switch {
	case order.Stop:
		p.stop()
	case order.Step:
		continues = p.Step()
	case order.Pause != nil:
		continues = p.Pause(*order.Pause)
	}
	if !continues {
		return badRequest("the scenario is over").hint("start it again")
	}
	return nil
}

// perform starts a scenario, after a fresh start of all servers and clients.
func (s *session) perform(order scenarioOrder) error {
	scenario, err := play.Few().Find(order.Name)
	if err != nil {
		return notFound("%v", err)
	}
	if order.Speed == 0 {
		order.Speed = 1
	}
	if order.Speed < 0.01 || order.Speed > 100 {
		return badRequest("speed %g", order.Speed).hint("1 is as written, 0.25 four times slower")
	}
	s.mu.Lock()
	before := s.performed
	s.mu.Unlock()
	if before != nil {
		before.stop()
	}
	s.dismiss()
	for _, c := range s.shown() {
		if err := c.launch(); err != nil { // step 1 may have ended
			return failure(err)
		}
	}
	player := play.NewPlayer(scenario, func(a play.Act) {
		// What came of the act, the client's events tell. It is refused only when
		// too many acts wait already, and then it is late anyway.
		_ = s.act(a, "scenario")
	})
	player.Speed, player.Paused = order.Speed, order.Paused
	player.Changed = func(state play.State, next int) {
		s.journal.tell("scenario", "scenario",
			&scenarioEvent{Name: scenario.Name, State: state, Next: next})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.performed != before {
		return gone("the session has ended, or another scenario has begun")
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.performed = &performance{player, cancel}
	go func() {
		defer cancel()
		player.Run(ctx)
	}()
	return nil
}
