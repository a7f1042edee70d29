//go:build linux

package play

import (
	"context"
	"time"
)

// A State tells whether a scenario continues.
type State string

// The states of a Player.
const (
	Playing State = "playing"
	Paused  State = "paused"
	Ended   State = "done"
	Stopped State = "stopped"
)

// A Player hands out the acts of a scenario, each at its time. It can be paused, go
// step by step, and be faster or slower than the scenario says.
type Player struct {
	// Speed is 1 as written, 0.25 four times slower. Set it before Run.
	Speed float64
	// Paused lets Run begin with a pause. Set it before Run.
	Paused bool
	// Changed is called with the index of the next act whenever that or the state
	// changes. Calls do not overlap. Set it before Run.
	Changed func(state State, next int)

	acts   []Act
	do     func(Act)
	orders chan order
	over   chan struct{}
}

type order int

const (
	pause order = iota
	resume
	step
)

// NewPlayer returns a player that calls do for each act, from one goroutine.
func NewPlayer(s Scenario, do func(Act)) *Player {
	return &Player{
		Speed: 1, Changed: func(State, int) {},
		acts: s.Acts, do: do, orders: make(chan order), over: make(chan struct{}),
	}
}

// Run plays until all acts are handed out, or ctx is done. It must be called once. When an
// act is late, because the machine was busy, those after it are as late: no two are closer
// together than the scenario has them.
func (p *Player) Run(ctx context.Context) {
	defer close(p.over)
	c := clock{speed: p.Speed, since: time.Now(), paused: p.Paused}
	for next, last := 0, State(""); next < len(p.acts); {
		if state := c.state(); state != last {
			last = state
			p.Changed(state, next)
		}
		act := p.acts[next]
		select {
		case <-ctx.Done():
			p.Changed(Stopped, next)
			return
		case o := <-p.orders:
			if c.obey(o); o != step {
				continue
			}
			c.at = act.At
		case <-c.due(act.At):
			c.pass(act.At)
		}
		p.do(act)
		next, last = next+1, ""
	}
	p.Changed(Ended, len(p.acts))
}

// Pause pauses the player, or lets it continue. It returns false when the player is
// over.
func (p *Player) Pause(on bool) bool {
	if on {
		return p.tell(pause)
	}
	return p.tell(resume)
}

// Step hands out the next act, and pauses. It returns false when the player is over.
func (p *Player) Step() bool { return p.tell(step) }

// Over returns a channel that is closed when Run returns.
func (p *Player) Over() <-chan struct{} { return p.over }

func (p *Player) tell(o order) bool {
	select {
	case p.orders <- o:
		return true
	case <-p.over:
		return false
	}
}

// A clock tells the time in a scenario.
type clock struct {
	speed  float64
	paused bool
	at     time.Duration // the time in the scenario, at since if it is not paused
	since  time.Time
}

func (c *clock) now() time.Duration {
	if c.paused {
		return c.at
	}
	return c.at + time.Duration(float64(time.Since(c.since))*c.speed)
}

func (c *clock) obey(o order) {
	c.at, c.since = c.now(), time.Now()
	c.paused = o != resume
}

// pass begins again at a time that is due: what has gone by since then does not count.
func (c *clock) pass(at time.Duration) {
	if c.now() > at {
		c.at, c.since = at, time.Now()
	}
}

func (c *clock) state() State {
	if c.paused {
		return Paused
	}
	return Playing
}

// due returns a channel that is ready at a time in the scenario: never, if paused.
func (c *clock) due(at time.Duration) <-chan time.Time {
	if c.paused {
		return nil
	}
	return time.After(time.Duration(float64(at-c.now()) / c.speed))
}
