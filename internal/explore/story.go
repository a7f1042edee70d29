//go:build linux

package explore

import (
	"lesson/internal/kernel/simulated"
)

// A Story is one execution, step by step.
type Story struct {
	Steps []Step `json:"steps"`
}

// A Step is an act of a client or a system call of the server, with the state of the
// kernel after it.
type Step struct {
	Who   string          `json:"who"` // "" for a client or the world
	Text  string          `json:"text"`
	File  string          `json:"file,omitempty"`
	Line  int             `json:"line,omitempty"`
	Why   []string        `json:"why,omitempty"` // of an epoll_wait: what put each event on the ready list
	State simulated.State `json:"state"`
}

func (s *Story) add(x *execution, who, text string, why []string) *Step {
	s.Steps = append(s.Steps, Step{Who: who, Text: text, Why: why, State: x.kernel.State()})
	return &s.Steps[len(s.Steps)-1]
}
