//go:build linux

package bench

import (
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// saturatedAt is the part of its time from which on a client is the bottleneck: what
// is left is too little to have asked for much more.
const saturatedAt = 0.9

// wideAt is the distance of the quartiles, as a part of the median, from which on a
// report says that a figure is shaky.
const wideAt = 0.2

// rate is requests served in a second.
func (r Round) rate() float64 { return float64(r.Served) / r.Elapsed.Seconds() }

// cpu is microseconds of processor time for a request.
func (r Round) cpu() float64 { return perRequest(r.CPU, r.Served) }

func perRequest(d time.Duration, served int64) float64 {
	return float64(d) / float64(time.Microsecond) / float64(served)
}

// summarise makes the figures of a size from its rounds.
func (s *Size) summarise() {
	var rates, cpus, busy []float64
	var served, sleeps, preempted int64
	var user, system time.Duration
	for _, r := range s.Rounds {
		busy = append(busy, r.Busy)
		if r.Served == 0 {
			continue
		}
		rates, cpus = append(rates, r.rate()), append(cpus, r.cpu())
		served, sleeps, preempted = served+r.Served, sleeps+r.Sleeps, preempted+r.Preempted
		user, system = user+r.User, system+r.System
	}
	s.PerSecond, s.CPU = spread(rates), spread(cpus)
	s.Busy = spread(busy).Median
	s.Saturated = s.Busy > saturatedAt
	if served == 0 {
		return
	}
	s.Sleeps, s.Preempted = float64(sleeps)/float64(served), float64(preempted)/float64(served)
	if both := user + system; both > 0 {
		s.User = s.CPU.Median * float64(user) / float64(both)
		s.System = s.CPU.Median - s.User
	}
}

// compare adds the ratios to the same size of the first server. Rates are compared
// only where the client limited neither.
func (s *Size) compare(first *Size) {
	s.CPURatio = ratios(s.Rounds, first.Rounds, Round.cpu)
	if !s.Saturated && !first.Saturated {
		s.PerSecondRatio = ratios(s.Rounds, first.Rounds, Round.rate)
	}
}

// ratios is a figure of each round by that of the same round of another server;
// nil when no round has both.
func ratios(rounds, by []Round, figure func(Round) float64) *Spread {
	var all []float64
	for i := range min(len(rounds), len(by)) {
		if rounds[i].Served > 0 && by[i].Served > 0 && figure(by[i]) > 0 {
			all = append(all, figure(rounds[i])/figure(by[i]))
		}
	}
	if len(all) == 0 {
		return nil
	}
	s := spread(all)
	return &s
}

// spread is the median and the quartiles; 0 of no numbers. Between two numbers it
// takes what lies in proportion between them.
func spread(numbers []float64) Spread {
	if len(numbers) == 0 {
		return Spread{}
	}
	sorted := slices.Sorted(slices.Values(numbers))
	at := func(part float64) float64 {
		place := part * float64(len(sorted)-1)
		below := int(place)
		above := min(below+1, len(sorted)-1)
		return sorted[below] + (place-float64(below))*(sorted[above]-sorted[below])
	}
	return Spread{Median: at(0.5), Low: at(0.25), High: at(0.75)}
}

// wide says whether the numbers differ too much to be quoted without a word.
func (s Spread) wide() bool { return s.High-s.Low > wideAt*s.Median }

func latencyOf(h *hdrhistogram.Histogram) Latency {
	at := func(percent float64) float64 {
		return float64(h.ValueAtPercentile(percent)) / float64(time.Microsecond)
	}
	return Latency{P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: at(100)}
}
