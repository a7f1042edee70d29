//go:build linux

package check

import (
	"lesson/internal/child"
	"lesson/internal/lesson"
)

// Lesson is one of the lessons, by name, as a target: this program, started again.
// Its deadline for unfinished requests is Options.Timeout where that is judged.
func Lesson(name string) (Target, error) {
	l, err := lesson.Find(name)
	if err != nil {
		return Target{}, err
	}
	program, err := child.Lesson(name, "--timeout", "{seconds}s")
	if err != nil {
		return Target{}, err
	}
	return Target{Name: l.Command, Command: program.Command}, nil
}
