package report

import "math"

// A scale puts numbers from..to at the places a..b of a picture.
type scale struct {
	log      bool
	from, to float64
	a, b     float64
}

// newScale covers the axis, or, where that leaves it open, the values. round
// says whether it begins and ends at a round number, and, unless it is
// logarithmic, includes 0.
func newScale(axis Axis, values []float64, round bool) scale {
	s := scale{log: axis.Log, from: math.Inf(1), to: math.Inf(-1)}
	for _, v := range values {
		if s.takes(v) {
			s.from, s.to = min(s.from, v), max(s.to, v)
		}
	}
	if s.from > s.to { // no data: any range will do
		s.from, s.to = 1, 10
	}
	switch {
	case s.log && !apart(s.from, s.to):
		s.from, s.to = s.from/2, s.to*2
	case !s.log && (round || !apart(s.from, s.to)):
		s.from, s.to = min(0, s.from), max(0, s.to)
		if !apart(s.from, s.to) {
			s.to = s.from + 1
		}
	}
	if round {
		s.widen()
	}
	if apart(axis.From, axis.To) && usable(axis.From) && s.takes(axis.To) {
		s.to = axis.To
		if s.takes(axis.From) {
			s.from = axis.From
		} else if !apart(s.from, s.to) {
			s.from = s.to / 10
		}
	}
	return s
}

// takes reports whether v has a place on such a scale, if it is long enough. What is
// as good as 0 has none on a logarithmic one.
func (s scale) takes(v float64) bool { return usable(v) && (!s.log || v > 1e-90) }

// apart reports whether a is so far below b that numbers fit between them.
func apart(a, b float64) bool { return b-a > max(1e-9*math.Abs(a), 1e-9*math.Abs(b), 1e-95) }

// widen moves both ends outwards to round numbers.
func (s *scale) widen() {
	if s.log {
		s.from, s.to = roundDown(s.from), roundUp(s.to)
		return
	}
	step := roundUp((s.to - s.from) / 8)
	s.from, s.to = math.Floor(s.from/step)*step, math.Ceil(s.to/step-1e-9)*step
}

// roundDown returns the largest of …, 1, 2, 5, 10, 20, … that is not above v.
func roundDown(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	for _, step := range []float64{5, 2} {
		if step*decade <= v*(1+1e-9) {
			return step * decade
		}
	}
	return decade
}

// roundUp returns the smallest of …, 1, 2, 5, 10, 20, … that is not below v.
func roundUp(v float64) float64 {
	decade := math.Pow(10, math.Floor(math.Log10(v)+1e-9))
	for _, step := range []float64{1, 2, 5} {
		if step*decade >= v*(1-1e-9) {
			return step * decade
		}
	}
	return 10 * decade
}

// at returns the place of v, never outside a..b.
func (s scale) at(v float64) float64 {
	v = min(max(v, s.from), s.to)
	part := (v - s.from) / (s.to - s.from)
	if s.log {
		part = math.Log(v/s.from) / math.Log(s.to/s.from)
	}
	return s.a + part*(s.b-s.a)
}

// holds reports whether v has a place.
func (s scale) holds(v float64) bool {
	slack := 1e-9 * (s.to - s.from)
	return s.takes(v) && v >= s.from-slack && v <= s.to+slack
}

// A tick is a labelled number of an axis.
type tick struct {
	at    float64
	label string
}

// ticks returns the finest choice of round numbers that fits.
func (s scale) ticks(format func(float64) string, fits func(a, b tick) bool) []tick {
	format = orShort(format)
	for _, values := range s.choices() {
		var ticks []tick
		good := len(values) <= 12
		for _, v := range values {
			next := tick{s.at(v), prose(format(v))}
			if n := len(ticks); n > 0 {
				last := ticks[n-1]
				good = good && last.label != next.label && fits(last, next)
			}
			ticks = append(ticks, next)
		}
		if good {
			return ticks
		}
	}
	return nil
}

// choices returns round numbers of the scale, the finest choice first.
func (s scale) choices() [][]float64 {
	if s.log && s.to >= 10*s.from {
		return s.decades()
	}
	var all [][]float64
	for step := roundUp((s.to - s.from) / 12); step <= s.to-s.from; step = roundUp(step * 1.5) {
		var values []float64
		for i := math.Ceil(s.from/step - 1e-9); s.holds(i*step) && len(values) < 14; i++ {
			values = append(values, i*step+0) // -0 + 0 is 0
		}
		all = append(all, values)
	}
	return all
}

// decades returns the choices for a logarithmic scale: 1, 2, 5 of each decade, each
// decade, every second, and so on.
func (s scale) decades() [][]float64 {
	first, last := math.Ceil(math.Log10(s.from)-1e-9), math.Floor(math.Log10(s.to)+1e-9)
	all := make([][]float64, 1)
	for d := first - 1; d <= last; d++ {
		for _, step := range []float64{1, 2, 5} {
			if v := step * math.Pow(10, d); s.holds(v) {
				all[0] = append(all[0], v)
			}
		}
	}
	for every := 1.0; every <= max(1, last-first); every++ {
		var values []float64
		for d := first; d <= last; d += every {
			values = append(values, math.Pow(10, d))
		}
		all = append(all, values)
	}
	return all
}
