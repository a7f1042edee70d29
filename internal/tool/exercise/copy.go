//go:build linux

package exercise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"lesson/docs"
	"lesson/internal/child"
	"lesson/internal/progress"
	"lesson/internal/tool/check"
)

// files are what a learner's copy begins with, by name, with the README in a language
// of docs.
func (g *Gallery) files(e Exercise, language string) (map[string]string, error) {
	r, err := e.in(language)
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"main.go":   e.Source,
		"README.md": e.task(r),
		"go.mod":    strings.Replace(g.goMod, "module exercise", "module "+e.Name, 1),
		"go.sum":    g.goSum,
	}, nil
}

// task is the README of a copy. It ends where the hints begin: an editor does
// not fold them, and who opens the file would have read the solution.
func (e Exercise) task(r readme) string {
	return fmt.Sprintf(`# %02d %s

> %s

%s

## %s

%s

## %s

%s

    lesson exercise check %[9]s

%[10]s

    lesson exercise hint %[9]s
    lesson exercise solution %[9]s
`, e.Number, r.title, strings.ReplaceAll(r.quote, "\n", "\n> "), r.away(r.about), r.sections[0],
		r.away(r.look), r.sections[1], r.words.fixed, e.Name, r.words.hint)
}

// copyOut makes the folder parent/NAME with the learner's copy in it, and
// returns its absolute path. It makes all or nothing, and fails with
// fs.ErrExist when there is something of that name already.
func (g *Gallery) copyOut(e Exercise, parent, language string) (string, error) {
	files, err := g.files(e, language)
	if err != nil {
		return "", err
	}
	parent, err = filepath.Abs(parent)
	if err != nil {
		return "", err
	}
	target := filepath.Join(parent, e.Name)
	if _, err := os.Lstat(target); err == nil {
		return target, fs.ErrExist
	}
	temporary, err := os.MkdirTemp(parent, "."+e.Name+"-*")
	if err != nil {
		return "", err
	}
	err = os.Chmod(temporary, 0o755) // a temporary one is its owner's only
	for name, text := range files {
		if err == nil {
			err = os.WriteFile(filepath.Join(temporary, name), []byte(text), 0o644)
		}
	}
	if err == nil {
		err = os.Rename(temporary, target) // fails when target has come meanwhile
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(temporary))
	}
	return target, nil
}

// goFiles are the Go files of a copy, and nothing when there is no folder. Those
// that begin with "." or "_" the go command passes over, and so do we: editors
// keep such files for themselves.
func goFiles(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // to go build it is the same: there is nothing to build
	}
	var files []string
	for _, entry := range entries {
		name := entry.Name()
		if filepath.Ext(name) == ".go" && name[0] != '.' && name[0] != '_' && !entry.IsDir() {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files
}

// restore puts the original main.go back into a copy. The learner's is kept in
// the file whose name it returns: main.go.bak, or with a number after it when
// there is one from an earlier time; "" when there was nothing to keep.
func (e Exercise) restore(dir string) (kept string, err error) {
	file := filepath.Join(dir, "main.go")
	text, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist): // nothing to keep
	case err != nil:
		return "", err
	case string(text) == e.Source:
		return "", nil
	default:
		kept, err = keep(file+".bak", text)
		if err != nil {
			return "", err
		}
	}
	return kept, progress.Replace(file, []byte(e.Source), 0o644)
}

// keep writes a file that was not there before.
func keep(name string, text []byte) (string, error) {
	for n := 1; ; n++ {
		numbered := name
		if n > 1 {
			numbered += strconv.Itoa(n)
		}
		file, err := os.OpenFile(numbered, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = file.Write(text)
		return numbered, errors.Join(err, file.Close())
	}
}

// Unpack writes the exercise of that name into a temporary folder that can be built, as it
// is broken or repaired. It returns the folder, the exercise's model, and what removes the
// folder.
func Unpack(name string, repaired bool) (folder string, model check.Model, remove func() error, err error) {
	g, err := Carried()
	if err != nil {
		return "", "", nil, err
	}
	e, err := g.Find(name)
	if err != nil {
		return "", "", nil, err
	}
	if repaired {
		if e.Source, err = e.Patched(); err != nil {
			return "", "", nil, err
		}
	}
	parent, err := child.Temporary("lesson-exercise")
	if err != nil {
		return "", "", nil, err
	}
	if folder, err = g.copyOut(e, parent.Path, docs.English); err != nil {
		return "", "", nil, errors.Join(err, parent.Remove())
	}
	return folder, e.Kind.Model, parent.Remove, nil
}
