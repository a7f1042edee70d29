//go:build linux

package exercise

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
	"time"

	"golang.org/x/sys/unix"
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

// A Record keeps the learner's progress in one small file.
type Record struct{ File string }

// DefaultRecord is in the user's folder for state: $XDG_STATE_HOME/lesson, or
// ~/.local/state/lesson. A folder that is not absolute counts as none, as the
// XDG Base Directory Specification has it. Without $HOME, the home is that of
// /etc/passwd.
func DefaultRecord() (Record, error) {
	folder := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(folder) {
		home, err := os.UserHomeDir()
		if err != nil {
			account, unknown := user.Current()
			if unknown != nil {
				return Record{}, fmt.Errorf("no place for the progress: set XDG_STATE_HOME: %w", err)
			}
			home = account.HomeDir
		}
		folder = filepath.Join(home, ".local", "state")
	}
	return Record{filepath.Join(folder, "lesson", "exercises.json")}, nil
}

// content is what is in the file. Names of exercises that this program does not
// know are kept: another version of it may.
type content struct {
	Exercises map[string]Progress `json:"exercises"`
}

// All is the progress with every exercise that has any, by name. Without a file
// there is none. A file that cannot be understood is an error: it may be the
// work of weeks.
func (r Record) All() (map[string]Progress, error) {
	text, err := os.ReadFile(r.File)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]Progress{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the progress cannot be read: %w", err)
	}
	c, err := understand(text)
	if err != nil {
		return nil, fmt.Errorf("the progress in %s cannot be understood: %w; mend the file,"+
			" or move it away to begin anew", r.File, err)
	}
	if c.Exercises == nil {
		c.Exercises = map[string]Progress{}
	}
	return c.Exercises, nil
}

// understand takes the text for a content only when all of it can be written
// back.
func understand(text []byte) (content, error) {
	var c content
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return c, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return c, errors.New("something follows its end")
	}
	for name, p := range c.Exercises {
		if p.Hints < 0 {
			return c, fmt.Errorf("%q has %d hints", name, p.Hints)
		}
	}
	return c, nil
}

// Of is the progress with one exercise.
func (r Record) Of(name string) (Progress, error) {
	all, err := r.All()
	return all[name], err
}

// Update changes the progress with one exercise. The file is replaced in one
// go, so that nobody ever finds half of it; a lock on its folder keeps two
// programs, say watch in one terminal and hint in another, from losing what the
// other has written.
func (r Record) Update(name string, change func(*Progress)) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("the progress is not kept: %w", err)
		}
	}()
	folder := filepath.Dir(r.File)
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

	all, err := r.All()
	if err != nil {
		return err
	}
	p := all[name]
	change(&p)
	all[name] = p
	text, err := json.MarshalIndent(content{all}, "", "  ")
	if err != nil {
		return err
	}
	return replace(r.File, append(text, '\n'), 0o600)
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

// replace gives a file a new text, in one go: a program that opens it finds the old
// text or the new one. The file keeps its mode; a new one gets the given mode.
func replace(file string, text []byte, mode fs.FileMode) (err error) {
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
