//go:build linux

package explore

import (
	"encoding/json"
	"os"
	"slices"
	"strings"

	"lesson/internal/kernel/simulated"
	"lesson/internal/words"
)

// A Story is one execution, step by step.
type Story struct {
	Steps []Step `json:"steps"`
	// Failed is the text of the Failure, as a sentence.
	Failed *words.Sentence `json:"failed,omitempty"`

	file      *os.File // where save writes it; nil for nowhere
	announced map[callKey]func()
}

// announce keeps what begins the step of a call.
func (s *Story) announce(key callKey, begin func()) {
	if s.announced == nil {
		s.announced = make(map[callKey]func())
	}
	s.announced[key] = begin
}

// begin begins the step of a call that was announced.
func (s *Story) begin(key callKey) {
	if s == nil || s.announced[key] == nil {
		return
	}
	s.announced[key]()
	delete(s.announced, key)
}

// A Step is an act of a client or a system call of the server, with the state of the
// kernel after it.
type Step struct {
	// Number counts the steps from 1: causes refer to it.
	Number int `json:"number"`
	// Times is how often a system call returned the same in a row, if more than once.
	Times int `json:"times,omitempty"`

	Who   string          `json:"who"` // "server", or "" for a client
	Text  string          `json:"text"`
	Said  *words.Sentence `json:"said,omitempty"`  // Text, unless it is the text of a call
	Began int             `json:"began,omitempty"` // of a return: the step in which the call began
	File  string          `json:"file,omitempty"`  // of a system call: where it is made
	Line  int             `json:"line,omitempty"`
	Why   []string        `json:"why,omitempty"` // of an epoll_wait: the cause of each event
	// Reasons has what Why has, as sentences.
	Reasons []words.Sentence `json:"reasons,omitempty"`
	State   simulated.State  `json:"state"`
}

// maxSteps bounds a story. Only a server that repeats itself has a longer one.
const maxSteps = 400

// full reports whether nothing more is recorded.
func (s *Story) full() bool { return len(s.Steps) >= maxSteps }

func (s *Story) add(x *execution, who, text string) {
	step := Step{Number: len(s.Steps) + 1, Who: who, Text: text, State: x.kernel.State()}
	s.Steps = append(s.Steps, step)
	s.save()
}

// blocked returns the steps of the calls that have not returned.
func (s *Story) blocked() []Step {
	var all []Step
	for _, step := range s.Steps {
		returned := func(call Step) bool { return call.Number == step.Began }
		if all = slices.DeleteFunc(all, returned); strings.HasSuffix(step.Text, waitsMark) {
			all = append(all, step)
		}
	}
	return all
}

// waitsMark ends the text of a call that blocks.
const waitsMark = " waits"

// fold replaces the steps by the folded ones.
func (s *Story) fold() {
	if s != nil {
		s.Steps = s.folded()
	}
}

// folded returns the steps, in which a call that repeats the one before is part of it.
func (s *Story) folded() []Step {
	var steps []Step
	for _, step := range s.Steps {
		if n := len(steps); n > 0 && step.repeats(steps[n-1]) {
			steps[n-1].Times = max(1, steps[n-1].Times) + 1
			steps[n-1].State = step.State
			continue
		}
		steps = append(steps, step)
	}
	return steps
}

// say makes the text of the step from a sentence.
func (s *Step) say(said words.Sentence) { s.Text, s.Said = said.Text, &said }

func (s Step) repeats(before Step) bool {
	return s.Who != "" && s.Text == before.Text && s.File == before.File && s.Line == before.Line &&
		slices.Equal(s.Why, before.Why)
}

// save writes down how far the story has come: the program may end the process.
func (s *Story) save() {
	if s.file == nil {
		return
	}
	text, err := json.Marshal(s)
	if err == nil {
		err = s.file.Truncate(0)
	}
	if err == nil {
		_, err = s.file.WriteAt(text, 0)
	}
	if err != nil {
		panic(err)
	}
}
