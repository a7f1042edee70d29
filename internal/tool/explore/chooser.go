//go:build linux

package explore

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"lesson/internal/kernel/simulated"
)

// A deviation takes another alternative than the first at one choice of an execution.
type deviation struct{ at, value int }

// A chooser makes the choices of one execution: the deviations it is given, and else
// the first alternative, or a random one. It remembers how many there were each time.
type chooser struct {
	deviations []deviation // by at
	random     *rand.Rand  // nil for none
	share      float64     // of random choices that deviate
	asked      []int32     // the alternatives of each choice so far
	taken      []deviation

	states *states        // of the search; nil for an execution that is only played again
	state  simulated.Hash // that was noted last
	merged bool           // the execution has ended in a state seen before
}

// pick returns the alternative to take, less than n.
func (c *chooser) pick(_ string, n int) int {
	if n < 2 {
		return 0
	}
	at := len(c.asked)
	c.asked = append(c.asked, int32(n))
	value := 0
	if next := len(c.taken); c.random == nil && next < len(c.deviations) && c.deviations[next].at == at {
		value = min(c.deviations[next].value, n-1)
	}
	if c.random != nil && c.random.Float64() < c.share {
		value = c.random.IntN(n)
	}
	if value > 0 {
		c.taken = append(c.taken, deviation{at, value})
	}
	return value
}

// noDeviation is the replay of the plain execution.
const noDeviation = "0"

// replayString writes deviations as text: "c.1-14.3", in base 36.
func replayString(ds []deviation) string {
	if len(ds) == 0 {
		return noDeviation
	}
	var parts []string
	for _, d := range ds {
		parts = append(parts, fmt.Sprintf("%s.%s", strconv.FormatInt(int64(d.at), 36),
			strconv.FormatInt(int64(d.value), 36)))
	}
	return strings.Join(parts, "-")
}

// parseReplay reads what replayString has written.
func parseReplay(text string) ([]deviation, error) {
	if text == noDeviation {
		return nil, nil
	}
	var ds []deviation
	last := int64(-1)
	for _, part := range strings.Split(text, "-") {
		at, value, found := strings.Cut(part, ".")
		a, err1 := strconv.ParseInt(at, 36, 32)
		v, err2 := strconv.ParseInt(value, 36, 32)
		if !found || err1 != nil || err2 != nil || a <= last || v < 1 {
			return nil, notAnOrder(text)
		}
		last = a
		ds = append(ds, deviation{int(a), int(v)})
	}
	return ds, nil
}
