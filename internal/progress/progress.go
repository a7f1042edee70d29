//go:build linux

// Package progress keeps what a learner has done in one small file: a section for each
// tool that remembers something.
package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A File is where the progress is kept, as a JSON object with a member for each section.
// It need not exist.
type File struct{ Path string }

const (
	name    = "progress.json"
	oldName = "exercises.json" // of the first edition, which had one section
)

// Default returns the file in the user's folder for state: $XDG_STATE_HOME/lesson, or
// ~/.local/state/lesson. A folder that is not absolute counts as none, as the XDG Base
// Directory Specification has it. Without $HOME, the home is that of /etc/passwd.
func Default() (File, error) {
	folder := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(folder) {
		home, err := os.UserHomeDir()
		if err != nil {
			account, unknown := user.Current()
			if unknown != nil {
				return File{}, fmt.Errorf("no place for the progress: set XDG_STATE_HOME: %w", err)
			}
			home = account.HomeDir
		}
		folder = filepath.Join(home, ".local", "state")
	}
	return File{filepath.Join(folder, "lesson", name)}, nil
}

// A Section is what one tool keeps: a pointer to what JSON is decoded into.
type Section interface {
	// Valid reports what is wrong with the values of a section that was just read.
	Valid() error
}

// Read reads a section. What is not in the file leaves it as it is. A file that cannot be
// understood may be the work of weeks: it is kept under another name, and the error says
// where. The next Read finds no file.
func (f File) Read(name string, section Section) error {
	_, err := f.read(name, section)
	return err
}

func (f File) read(name string, section Section) (map[string]json.RawMessage, error) {
	text, err := f.text()
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]json.RawMessage{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the progress cannot be read: %w", err)
	}
	sections, err := understand(text, name, section)
	if err == nil {
		return sections, nil
	}
	aside, kept := f.setAside()
	if kept != nil {
		return nil, fmt.Errorf("the progress in %s cannot be understood: %w; move it away: %w", f.Path, err, kept)
	}
	return nil, fmt.Errorf("the progress in %s cannot be understood: %w; it is kept as %s,"+
		" and the next command begins with none", f.Path, err, aside)
}

// text returns what is in the file, or in that of the first edition when there is no other.
func (f File) text() ([]byte, error) {
	text, err := os.ReadFile(f.Path)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	return os.ReadFile(filepath.Join(filepath.Dir(f.Path), oldName))
}

// setAside gives the file, whichever was read, a name that is not taken.
func (f File) setAside() (aside string, err error) {
	path := f.Path
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		path = filepath.Join(filepath.Dir(f.Path), oldName)
	}
	aside = path + ".bad"
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			return aside, os.Rename(path, aside)
		} else if err != nil {
			return "", err
		}
		aside = fmt.Sprintf("%s.bad%d", path, n)
	}
}

// understand takes the text for a progress only when all of it can be written back.
func understand(text []byte, name string, section Section) (map[string]json.RawMessage, error) {
	var sections map[string]json.RawMessage
	if err := strictly(text, &sections); err != nil {
		return nil, err
	}
	if sections == nil {
		return nil, errors.New("it is no JSON object")
	}
	if own, ok := sections[name]; ok {
		if err := strictly(own, section); err != nil {
			return nil, err
		}
	}
	return sections, section.Valid()
}

// strictly decodes text, and refuses what it would lose.
func strictly(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("something follows its end")
	}
	return nil
}

// Update reads a section, has it changed, and writes it; the other sections stay. The
// file is replaced in one step, so that no reader finds half of it. A lock on its folder
// keeps two programs, say watch in one terminal and hint in another, from losing what
// the other has written.
func (f File) Update(name string, section Section, change func()) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("the progress is not kept: %w", err)
		}
	}()
	folder := filepath.Dir(f.Path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	lock, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer lock.Close() // and the lock goes with it
	if err := flock(lock); err != nil {
		return fmt.Errorf("lock %s: %w", folder, err)
	}

	sections, err := f.read(name, section)
	if err != nil {
		return err
	}
	change()
	if sections[name], err = json.Marshal(section); err != nil {
		return err
	}
	text, err := json.MarshalIndent(sections, "", "  ")
	if err != nil {
		return err
	}
	return Replace(f.Path, append(text, '\n'), 0o600)
}

// flock waits for the lock on a file that is open.
func flock(file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return err
		}
	}
}

// Replace gives a file a new text in one step: a program that opens it finds the old text
// or the new one. The file keeps its mode; a new one gets the given mode.
func Replace(file string, text []byte, mode fs.FileMode) (err error) {
	if info, err := os.Stat(file); err == nil {
		mode = info.Mode().Perm()
	}
	// Whatever the file was called, a name that begins with "." is no Go file,
	// and nothing that watches the folder for those sees it.
	temporary, err := os.CreateTemp(filepath.Dir(file), ".lesson-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name()) // the error that counts is the first one
		}
	}()
	_, err = temporary.Write(text)
	err = errors.Join(err, temporary.Chmod(mode))
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), file)
}
