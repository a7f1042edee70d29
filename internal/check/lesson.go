//go:build linux

package check

import (
	"os"
	"strings"

	"lesson/internal/lesson"
)

// Lesson is one of the lessons, by name, as a target: this program, started again.
// Its deadline for unfinished requests is Options.Timeout where that is judged.
func Lesson(name string) (Target, error) {
	l, err := lesson.Find(name)
	if err != nil {
		return Target{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return Target{}, err
	}
	command := append([]string{program}, strings.Fields(l.Command)[1:]...)
	return Target{
		Name:    l.Command,
		Command: append(command, "--addr", "{addr}", "--timeout", "{seconds}s"),
	}, nil
}
