//go:build linux

package play

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// played is a player of three acts, at 0, 1 and 3 seconds, and what came of it: acts and
// states, each with the time in seconds.
type played struct {
	*Player
	began time.Time
	log   []string
}

func newPlayed() *played {
	p := &played{began: time.Now()}
	s := Scenario{Acts: []Act{
		{Client: "a"}, {Client: "b", At: time.Second}, {Client: "c", At: 3 * time.Second},
	}}
	p.Player = NewPlayer(s, func(a Act) { p.note(a.Client) })
	p.Changed = func(state State, next int) { p.note(fmt.Sprint(state, " ", next)) }
	return p
}

func (p *played) note(what string) {
	p.log = append(p.log, fmt.Sprintf("%s at %g", what, time.Since(p.began).Seconds()))
}

func TestAPlayerInTime(t *testing.T) {
	type orders func(t *testing.T, p *played, stop func())
	for _, test := range []struct {
		name string
		do   orders // from the beginning
		want []string
	}{
		{"as written", nil, []string{
			"playing 0 at 0", "a at 0", "playing 1 at 0", "b at 1", "playing 2 at 1", "c at 3",
			"done 3 at 3",
		}},
		{"twice as fast", func(_ *testing.T, p *played, _ func()) { p.Speed = 2 }, []string{
			"playing 0 at 0", "a at 0", "playing 1 at 0", "b at 0.5", "playing 2 at 0.5", "c at 1.5",
			"done 3 at 1.5",
		}},
		{"a pause of ten seconds", func(_ *testing.T, p *played, _ func()) {
			time.AfterFunc(2*time.Second, func() { p.Pause(true) })
			time.AfterFunc(12*time.Second, func() { p.Pause(false) })
		}, []string{
			"playing 0 at 0", "a at 0", "playing 1 at 0", "b at 1", "playing 2 at 1",
			"paused 2 at 2", "playing 2 at 12", "c at 13", "done 3 at 13",
		}},
		{"act by act", func(_ *testing.T, p *played, _ func()) {
			p.Paused = true
			for i := range 3 {
				time.AfterFunc(time.Duration(10*i+10)*time.Second, func() { p.Step() })
			}
		}, []string{
			"paused 0 at 0", "a at 10", "paused 1 at 10", "b at 20", "paused 2 at 20", "c at 30",
			"done 3 at 30",
		}},
		{"a step, and on", func(_ *testing.T, p *played, _ func()) {
			time.AfterFunc(time.Second/2, func() { p.Step() })
			time.AfterFunc(10*time.Second, func() { p.Pause(false) })
		}, []string{
			"playing 0 at 0", "a at 0", "playing 1 at 0", "b at 0.5", "paused 2 at 0.5",
			"playing 2 at 10", "c at 12", "done 3 at 12",
		}},
		{"an act that is late", func(_ *testing.T, p *played, _ func()) {
			do := p.do
			p.do = func(a Act) {
				do(a)
				if a.Client == "a" {
					time.Sleep(1500 * time.Millisecond) // b is due meanwhile
				}
			}
		}, []string{
			"playing 0 at 0", "a at 0", "playing 1 at 1.5", "b at 1.5", "playing 2 at 1.5",
			"c at 3.5", "done 3 at 3.5",
		}},
		{"stopped", func(_ *testing.T, _ *played, stop func()) {
			time.AfterFunc(2*time.Second, stop)
		}, []string{
			"playing 0 at 0", "a at 0", "playing 1 at 0", "b at 1", "playing 2 at 1",
			"stopped 2 at 2",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				p := newPlayed()
				if test.do != nil {
					test.do(t, p, cancel)
				}
				p.Run(ctx)
				if !slices.Equal(p.log, test.want) {
					t.Errorf("%q\nwant %q", p.log, test.want)
				}
				if p.Step() || p.Pause(true) {
					t.Error("it takes orders after the end")
				}
			})
		})
	}
}
