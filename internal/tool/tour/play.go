//go:build linux

package tour

import (
	"sync"
	"time"
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

// The states of a scenario.
const (
	playing = "playing"
	paused  = "paused"
	done    = "done"
	stopped = "stopped"
)

// A scenarioEvent says how far a scenario has come.
type scenarioEvent struct {
	header
	Name  string `json:"name"`
	State string `json:"state"`
	Next  int    `json:"next"` // the index of the next act
}

// A performance is a scenario that is played to the servers of a session.
type performance struct {
	session *session
	script  script
	speed   float64
	orders  chan scenarioOrder
	over    chan struct{} // closed when it has ended
	once    sync.Once
	quit    chan struct{}
}

// direct starts a scenario, or does what is wanted of the one that is played.
func (s *session) direct(order scenarioOrder) error {
	if order.Name != "" {
		return s.startPlay(order)
	}
	s.mu.Lock()
	p := s.play
	s.mu.Unlock()
	if p == nil {
		return badRequest("no scenario is played").hint(`start one: {"name": "slow-client"}`)
	}
	if order.Stop {
		p.stop()
		return nil
	}
	select {
	case p.orders <- order:
		return nil
	case <-p.over:
		return badRequest("the scenario is over").hint("start it again")
	}
}

func (s *session) startPlay(order scenarioOrder) error {
	script, err := findScript(order.Name)
	if err != nil {
		return err
	}
	if order.Speed == 0 {
		order.Speed = 1
	}
	if order.Speed < 0.01 || order.Speed > 100 {
		return badRequest("speed %g", order.Speed).hint("1 is as written, 0.25 four times slower")
	}
	p := &performance{
		session: s, script: script, speed: order.Speed,
		orders: make(chan scenarioOrder), over: make(chan struct{}), quit: make(chan struct{}),
	}
	s.mu.Lock()
	before := s.play
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.play != before {
		return gone("the session has ended, or another scenario has begun")
	}
	s.play = p
	go p.run(order.Paused)
	return nil
}

// stop ends the play, and returns when it has ended.
func (p *performance) stop() {
	p.once.Do(func() { close(p.quit) })
	<-p.over
}

func (p *performance) tell(state string, next int) {
	p.session.journal.tell("scenario", "scenario", &scenarioEvent{
		Name: p.script.Name, State: state, Next: next,
	})
}

// run does the acts, each at its time.
func (p *performance) run(waits bool) {
	defer close(p.over)
	next, at := 0, time.Duration(0) // at is the time in the script
	if !waits {
		p.tell(playing, next)
	} else {
		p.tell(paused, next)
	}
	for next < len(p.script.Acts) {
		act := p.script.Acts[next]
		var due <-chan time.Time
		began := time.Now()
		if !waits {
			due = time.After(time.Duration(float64(act.At-at) / p.speed))
		}
		step := false
		select {
		case <-p.quit:
			p.tell(stopped, next)
			return
		case order := <-p.orders:
			passed := time.Duration(float64(time.Since(began)) * p.speed)
			if !waits {
				at = min(at+passed, act.At)
			}
			switch {
			case order.Step:
				step, waits = true, true
			case order.Pause != nil && *order.Pause != waits:
				waits = *order.Pause
				p.tell(map[bool]string{true: paused, false: playing}[waits], next)
			}
			if !step {
				continue
			}
		case <-due:
		}
		// What the act has come to, the client's events say. It is refused only when
		// too many acts wait already, and then it is late anyway.
		_ = p.session.act(act.Act, "scenario")
		next, at = next+1, act.At
		if next < len(p.script.Acts) {
			p.tell(map[bool]string{true: paused, false: playing}[waits], next)
		}
	}
	p.tell(done, next)
}
