//go:build linux

package exercise

import (
	"fmt"
	"time"

	"lesson/internal/progress"
)

// A Progress is how far a learner has come with one exercise.
type Progress struct {
	Dir     string    `json:"dir,omitempty"`     // the copy; "" when there is none
	Started time.Time `json:"started,omitzero"`  // when the copy was made
	Hints   int       `json:"hints,omitempty"`   // how many have been seen
	Checked time.Time `json:"checked,omitzero"`  // when a copy was judged last
	Failing []string  `json:"failing,omitempty"` // the cases that failed then
	Solved  time.Time `json:"solved,omitzero"`   // when all cases held for the first time
}

// A Stage is a Progress in a word or two.
type Stage string

// The stages. What has been solved stays so, whatever the learner tries out in
// the copy afterwards, until it is reset.
const (
	NotStarted Stage = "not started"
	Started    Stage = "started"
	Broken     Stage = "broken still"
	Solved     Stage = "solved"
)

// Stage is how far that is.
func (p Progress) Stage() Stage {
	switch {
	case !p.Solved.IsZero():
		return Solved
	case !p.Checked.IsZero():
		return Broken
	case !p.Started.IsZero():
		return Started
	}
	return NotStarted
}

// A Record keeps the learner's progress with the exercises: a section of the file.
type Record struct{ File progress.File }

// section is the name of the exercises' section.
const section = "exercises"

// DefaultRecord returns the record in the user's file.
func DefaultRecord() (Record, error) {
	file, err := progress.Default()
	return Record{file}, err
}

// exercises is the section. Names of exercises that this program does not know are
// kept: another version of it may.
type exercises map[string]Progress

// Valid reports numbers that no program has written.
func (e *exercises) Valid() error {
	for name, p := range *e {
		if p.Hints < 0 {
			return fmt.Errorf("%q has %d hints", name, p.Hints)
		}
	}
	return nil
}

// All returns the progress with every exercise that has any, by name.
func (r Record) All() (map[string]Progress, error) {
	all := exercises{}
	err := r.File.Read(section, &all)
	return all, err
}

// Of returns the progress with one exercise.
func (r Record) Of(name string) (Progress, error) {
	all, err := r.All()
	return all[name], err
}

// Update changes the progress with one exercise.
func (r Record) Update(name string, change func(*Progress)) error {
	all := exercises{}
	return r.File.Update(section, &all, func() {
		p := all[name]
		change(&p)
		all[name] = p
	})
}
