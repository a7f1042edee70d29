//go:build linux

package exercise

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lesson/internal/report"
	"lesson/internal/tool/check"
)

// A Desk is where a learner works at the exercises: each method is what one
// subcommand of `lesson exercise` does.
type Desk struct {
	Gallery *Gallery
	Record  Record
	Judge   Judge

	Language string // of what is quoted from the pages: one of docs, or "" for English

	Out   io.Writer          // what was asked for
	Print check.PrintOptions // how it looks
	Log   io.Writer          // what happens meanwhile
	// Progress, if not nil, is called with the progress of a check.
	Progress func(done, all int, r check.Result)
}

// A listed exercise is what List shows of one.
type listed struct {
	Name    string `json:"name"`
	Number  int    `json:"number"`
	Title   string `json:"title"`
	Symptom string `json:"symptom"`
	Server  string `json:"server"`
	Chapter string `json:"chapter"` // its file in the repository
	Stage   Stage  `json:"stage"`
	Progress
}

func (d *Desk) listed() ([]listed, error) {
	progress, err := d.Record.All()
	if err != nil {
		return nil, err
	}
	var all []listed
	for _, e := range d.Gallery.Exercises {
		p := progress[e.Name]
		all = append(all, listed{
			Name: e.Name, Number: e.Number, Title: e.Title, Symptom: e.Symptom,
			Server: e.Kind.Name, Chapter: "docs/" + e.Kind.Chapter,
			Stage: p.Stage(), Progress: p,
		})
	}
	return all, nil
}

// List shows all exercises, and how far the learner has come with each.
func (d *Desk) List() error {
	all, err := d.listed()
	if err != nil {
		return err
	}
	table := report.Table{Left: 5, Width: report.Width(d.Out),
		Head: []string{"EXERCISE", "SERVER", "CHAPTER", "HINTS", "PROGRESS"}}
	solved := 0
	for _, l := range all {
		table.Rows = append(table.Rows,
			[]string{l.Name, l.Server, l.Chapter, fmt.Sprint(l.Hints), string(l.Stage)})
		if l.Stage == Solved {
			solved++
		}
	}
	table.Print(d.Out)
	_, err = fmt.Fprintf(d.Out, "\n%d of %d solved\n", solved, len(all))
	return err
}

// ListJSON is List for machines.
func (d *Desk) ListJSON() error {
	all, err := d.listed()
	if err != nil {
		return err
	}
	return report.JSON(d.Out, all)
}

// Start makes the learner's copy, in a folder of the exercise's name in parent,
// which is made when it is not there. Hints that were seen stay seen.
func (d *Desk) Start(name, parent string) error {
	e, err := d.Gallery.Find(name)
	if err != nil {
		return err
	}
	p, err := d.Record.Of(e.Name)
	if err != nil {
		return err // nothing is begun that cannot be remembered
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	dir, err := d.Gallery.copyOut(e, parent, d.Language)
	if errors.Is(err, fs.ErrExist) {
		where := ""
		if dir != p.Dir {
			where = " --dir " + shown(dir)
		}
		return fmt.Errorf("%s already exists, and was not changed; to judge it, type: lesson exercise "+
			"check %s%s; to start over: lesson exercise reset %[2]s%[3]s", shown(dir), e.Name, where)
	}
	if err != nil {
		return fmt.Errorf("cannot copy %s: %w", e.Name, err)
	}
	err = d.Record.Update(e.Name, func(p *Progress) { p.Dir, p.Started = dir, time.Now() })
	if err != nil {
		return fmt.Errorf("the copy is in %s, but %w", dir, err)
	}
	r, err := e.in(d.Language)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.Out, `%s

%s

Your copy is in %s. Read README.md there first.

  lesson exercise check %[4]s    is it fixed?
  lesson exercise watch %[4]s    the same, whenever you save
  lesson exercise hint %[4]s     the next hint
`, r.quote, r.away(r.about), shown(dir), e.Name)
	return err
}

// shown is a path as short as it can be typed from here.
func shown(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return report.Printable(path)
	}
	if short, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(short) {
		return report.Printable(short)
	}
	return report.Printable(path)
}

// copyOf returns an exercise and the folder with the learner's copy: where it was started,
// or, when dir is not "", dir itself or the folder of the exercise's name in it.
func (d *Desk) copyOf(name, dir string) (e Exercise, folder string, err error) {
	if e, err = d.Gallery.Find(name); err != nil {
		return e, "", err
	}
	p, err := d.Record.Of(e.Name)
	if err != nil {
		return e, "", err
	}
	if dir == "" {
		if p.Dir == "" {
			return e, "", fmt.Errorf("%s is not started; type: lesson exercise start %[1]s", e.Name)
		}
		if len(goFiles(p.Dir)) == 0 {
			return e, "", fmt.Errorf("there are no Go files in %s any more; type: lesson exercise start %s, "+
				"or give the folder of the copy with --dir", p.Dir, e.Name)
		}
		return e, p.Dir, nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return e, "", err
	}
	for _, folder := range []string{dir, filepath.Join(dir, e.Name)} {
		if len(goFiles(folder)) > 0 {
			return e, folder, nil
		}
	}
	return e, "", fmt.Errorf("there are no Go files in %s, nor in its folder %s; type:"+
		" lesson exercise start %[2]s --dir %[1]s", dir, e.Name)
}

// Hint shows the next hint, or again those that were seen.
func (d *Desk) Hint(name string, again bool) error {
	e, err := d.Gallery.Find(name)
	if err != nil {
		return err
	}
	p, err := d.Record.Of(e.Name)
	if err != nil {
		return err
	}
	seen := min(p.Hints, len(e.Hints))
	switch {
	case again && seen == 0:
		_, err = fmt.Fprintf(d.Out, "You have not seen a hint yet. For the first, type: lesson exercise hint %s\n", e.Name)
	case again:
		for i := range seen {
			err = errors.Join(err, d.hint(e, i))
		}
	case seen == len(e.Hints):
		_, err = fmt.Fprintf(d.Out, `There are no more hints.

  lesson exercise hint %[1]s --again    the %[2]d again
  lesson exercise solution %[1]s        the change, and why it works
`, e.Name, seen)
	default:
		// What cannot be remembered is shown all the same, and said.
		err = errors.Join(d.hint(e, seen), d.Record.Update(e.Name, func(p *Progress) { p.Hints = seen + 1 }))
	}
	return err
}

func (d *Desk) hint(e Exercise, i int) error {
	r, err := e.in(d.Language)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.Out, "Hint %d of %d\n\n%s\n\n", i+1, len(e.Hints), r.hints[i])
	return err
}

// Solution shows the change as a diff, and says why it works.
func (d *Desk) Solution(name string) error {
	e, err := d.Gallery.Find(name)
	if err != nil {
		return err
	}
	r, err := e.in(d.Language)
	if err != nil {
		return err
	}
	patched, err := e.Patched()
	if err != nil {
		return err
	}
	difference := report.Unified(
		report.Text{Name: "a/main.go", Body: e.Source},
		report.Text{Name: "b/main.go", Body: patched}, d.Print.Colour)
	_, err = fmt.Fprintf(d.Out, "%s\n%s\n", difference, r.solution)
	return err
}

// Reset starts an exercise over: with the original main.go, and as if no hint
// had been seen and nothing checked. The learner's main.go is kept beside it.
func (d *Desk) Reset(name, dir string) error {
	e, dir, err := d.copyOf(name, dir)
	if err != nil {
		return err
	}
	kept, err := e.restore(dir)
	if err != nil {
		return fmt.Errorf("cannot put main.go back: %w", err)
	}
	err = d.Record.Update(e.Name, func(p *Progress) { *p = Progress{Dir: dir, Started: time.Now()} })
	if err != nil {
		return err
	}
	said := "It had not been changed."
	if kept != "" {
		said = "Your version is now " + shown(kept) + "."
	}
	_, err = fmt.Fprintf(d.Out, "%s is the original again. %s\n", shown(filepath.Join(dir, "main.go")), said)
	if err != nil {
		return err
	}
	for _, other := range goFiles(dir) {
		if filepath.Base(other) != "main.go" {
			_, err = fmt.Fprintf(d.Out, "%s was not removed, and is still part of the program.\n", shown(other))
		}
	}
	return err
}
