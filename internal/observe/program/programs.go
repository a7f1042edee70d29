//go:build linux

package program

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lesson/internal/observe/ptrace"
	"lesson/internal/words"
)

// A program is what a process runs, if lines are found in it.
type program interface {
	// place returns where in the program's own source a stopped thread makes its call: no
	// file if something else makes it, or if that is not known.
	place(ptrace.Stop) (file string, line int, known bool)
}

// programs finds out what threads run. It reads each file once.
type programs struct {
	lines   map[string]*lines
	pythons map[string]*pythonFile
}

func newPrograms() *programs {
	return &programs{lines: map[string]*lines{}, pythons: map[string]*pythonFile{}}
}

var errNoInformation = errors.New("the program has no debugging information")

// of returns the program that a thread runs, and nil and the reason if it has no lines.
func (p *programs) of(tid int) (program, error) {
	link := fmt.Sprintf("/proc/%d/exe", tid)
	target, err := os.Readlink(link)
	if err != nil {
		return nil, err // it has just ended
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", tid))
	if err != nil {
		return nil, err
	}
	maps := string(text)
	// First: python3 itself may have debugging information, too.
	if python, err := p.python(tid, target, maps); python != nil || err != nil {
		return python, err
	}
	l, known := p.lines[target]
	if !known {
		l = readLines(link) // by the link: the file itself may have been removed
		p.lines[target] = l
	}
	if l == nil {
		return nil, errNoInformation
	}
	offset, found := l.offset(maps, target)
	if !found {
		return nil, errNoInformation
	}
	return &loaded{l, offset}, nil
}

// WithoutLines says why the calls of a running process come without lines: the zero Sentence if
// they come with them.
func WithoutLines(pid int) words.Sentence {
	_, err := newPrograms().of(pid)
	switch {
	case errors.Is(err, errOtherPython):
		return words.Say("Its calls are shown without lines: this Python does not keep them where" +
			" CPython 3.11 to 3.14 does.")
	case errors.Is(err, errNoInformation) && runsScript(pid):
		return words.Say("Its calls are shown without lines: the interpreter makes them, not a line of the script.")
	case errors.Is(err, errNoInformation):
		return words.Say("Its calls are shown without lines: it has no debugging information." +
			" In C or C++, compile it with -g.")
	}
	return words.Sentence{} // also if it has just ended
}

// runsScript reports whether a process was started with the name of a script.
func runsScript(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && slices.ContainsFunc(strings.Split(string(line), "\x00"), isScript)
}

// isScript reports whether a file is a program that an interpreter runs, by its name.
func isScript(file string) bool {
	scripts := []string{".py", ".rb", ".pl", ".js", ".lua", ".sh"}
	return slices.Contains(scripts, filepath.Ext(file))
}

// Sources returns the source files of a program's own packages, as its compiler saw them. Of
// a program without debugging information, it returns the scripts that the command names.
func Sources(program string, arguments ...string) []string {
	if own := compiledFrom(program); len(own) > 0 {
		return own
	}
	var own []string
	for _, argument := range arguments {
		file, err := filepath.Abs(argument)
		if err != nil || !isScript(file) {
			continue
		}
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			own = append(own, file)
		}
	}
	return own
}
