//go:build linux

package explore

import (
	"fmt"
	"strings"
)

// Retell plays an order again that Report.Replay names. It returns the story, and what was
// wrong with it; nil if nothing was.
func Retell(p Program, text string) (*Story, *Failure, error) {
	s, f, replay, err := split(text)
	if err != nil {
		return nil, nil, err
	}
	story := &Story{}
	failure, err := again(p, s, f, replay, story)
	if err != nil {
		return nil, nil, err
	}
	story.fold()
	return story, failure, nil
}

// again plays one execution again, and records it in the story.
func again(p Program, s Scenario, f Faults, replay string, story *Story) (*Failure, error) {
	deviations, err := parseReplay(replay)
	if err != nil {
		return nil, err
	}
	return run(p, s, f, &chooser{deviations: deviations}, story), nil
}

// ParseFaults reads the value of a flag.
func ParseFaults(text string) (Faults, error) {
	switch text {
	case "none":
		return Faults{}, nil
	case "short":
		return Faults{Short: true}, nil
	case "errors":
		return Faults{Errors: true}, nil
	case "all":
		return Faults{Short: true, Errors: true}, nil
	}
	return Faults{}, fmt.Errorf("no faults %q; there are none, short, errors and all", text)
}

func (f Faults) String() string {
	for _, name := range []string{"none", "short", "errors"} {
		if g, err := ParseFaults(name); err == nil && f == g {
			return name
		}
	}
	return "all"
}

// join makes one string of all that replays an order: which choices there are depends on
// the faults.
func join(scenario string, f Faults, replay string) string {
	return scenario + ":" + f.String() + ":" + replay
}

// notAnOrder returns an error for a text that names no order.
func notAnOrder(text string) error {
	return fmt.Errorf("%q is not an order; copy what explore has printed after --replay,"+
		" such as one:all:i.1", text)
}

func split(text string) (s Scenario, f Faults, replay string, err error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return s, f, "", notAnOrder(text)
	}
	if s, err = FindScenario(parts[0]); err != nil {
		return s, f, "", err
	}
	if f, err = ParseFaults(parts[1]); err != nil {
		return s, f, "", err
	}
	_, err = parseReplay(parts[2])
	return s, f, parts[2], err
}
