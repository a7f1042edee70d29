//go:build linux

package crowd

import (
	"fmt"
	"slices"

	"lesson/internal/observe/proc"
)

// MostConns bounds what may be asked for.
const MostConns = 1_000_000

// spare is the descriptors that a process needs besides its crowd: its listener,
// its epoll instance, the probes.
const spare = 64

// plan is the sizes that can be measured, each once, the smallest first, and what
// must be said about the others.
func plan(asked []int, limits proc.Limits, available int64) (sizes []int, notes []string, err error) {
	usual := len(asked) == 0
	if usual {
		asked = Usual
	}
	for _, n := range asked {
		if n < 1 || n > MostConns {
			return nil, nil, fmt.Errorf("--conns must be from 1 to %d, not %d", MostConns, n)
		}
	}
	most := limits.Descriptors - spare
	why := fmt.Sprintf("a process may have %d descriptors open here (ulimit -n), and a"+
		" connection is one; try: ulimit -n %d", limits.Descriptors, slices.Max(asked)+spare)
	// Before it is measured, a guess that errs on the safe side: for both ends, and the
	// thread that one of the servers has for each.
	const guess = 24 << 10
	if room := int(min(available/2/guess, MostConns)); room < most {
		most = room
		why = fmt.Sprintf("they might take half of the %d MiB that are available", available>>20)
	}
	if most < 1 {
		return nil, nil, fmt.Errorf("no crowd fits: %s", why)
	}
	for _, n := range asked {
		sizes = append(sizes, min(n, most))
	}
	if slices.Max(asked) > most {
		notes = append(notes, fmt.Sprintf("Crowds end at %d connections and not at %d: %s.",
			most, slices.Max(asked), why))
		if usual {
			sizes = []int{max(1, most/16), max(1, most/4), max(1, most/2), most}
		}
	}
	slices.Sort(sizes)
	sizes = slices.Compact(sizes)
	if len(sizes) < 2 {
		notes = append(notes, "With one size there is no line to fit, and nothing to project.")
	}
	return sizes, notes, nil
}

// sizes is the sizes for a server that serves only so many.
func (t Target) sizes(sizes []int) []int {
	if t.Most == 0 || sizes[len(sizes)-1] <= t.Most {
		return sizes
	}
	var fit []int
	for _, n := range sizes {
		fit = append(fit, min(n, t.Most))
	}
	return slices.Compact(fit)
}
