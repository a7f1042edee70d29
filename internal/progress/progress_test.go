//go:build linux

package progress

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"lesson/internal/proof"
)

// A notes is a section of the tests: a count for each name.
type notes map[string]struct {
	Count int `json:"count"`
}

func (n *notes) Valid() error {
	for _, note := range *n {
		if note.Count < 0 {
			return errors.New("a negative count")
		}
	}
	return nil
}

func fileIn(t *testing.T) File {
	return File{filepath.Join(t.TempDir(), "state", "lesson", "progress.json")}
}

// add counts one more under a name.
func add(t *testing.T, f File, section, name string) error {
	t.Helper()
	n := notes{}
	return f.Update(section, &n, func() {
		note := n[name]
		note.Count++
		n[name] = note
	})
}

func TestSectionsAreKept(t *testing.T) {
	f := fileIn(t)
	n := notes{}
	if err := f.Read("one", &n); err != nil || len(n) != 0 {
		t.Fatalf("without a file: %v, %v; want nothing", n, err)
	}
	proof.Must(t, add(t, f, "one", "a"))
	proof.Must(t, add(t, f, "two", "b"))
	proof.Must(t, add(t, f, "one", "a"))
	for section, want := range map[string]map[string]int{"one": {"a": 2}, "two": {"b": 1}, "three": {}} {
		n, got := notes{}, map[string]int{}
		proof.Must(t, f.Read(section, &n))
		for name, note := range n {
			got[name] = note.Count
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("section %s: %v, want %v", section, got, want)
		}
	}
	// Nothing else is left in the folder, and other users may not look into it.
	entries, err := os.ReadDir(filepath.Dir(f.Path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v; want one file", entries, err)
	}
	info, err := os.Stat(filepath.Dir(f.Path))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v; want mode 0700", info, err)
	}
}

// A file that is not understood is named and kept aside, and the next command works.
func TestNothingIsThrownAway(t *testing.T) {
	for what, text := range map[string]string{
		"empty":                      "",
		"no JSON":                    "hello\n",
		"cut short":                  `{"one": {"a": {"count": 2}`,
		"more after the end":         `{"one": {}} {"one": {}}`,
		"garbage after the end":      `{"one": {}} hello`,
		"a list":                     `[]`,
		"null":                       `null`,
		"a field of another version": `{"one": {"a": {"stars": 3}}}`,
		"another type":               `{"one": {"a": {"count": "two"}}}`,
		"a value out of bounds":      `{"one": {"a": {"count": -5}}}`,
	} {
		f := fileIn(t)
		proof.Must(t, os.MkdirAll(filepath.Dir(f.Path), 0o700))
		for _, aside := range []string{".bad", ".bad2"} {
			proof.Must(t, os.WriteFile(f.Path, []byte(text), 0o600))
			err := add(t, f, "one", "a")
			if err == nil || !strings.Contains(err.Error(), "kept as "+f.Path+aside) {
				t.Errorf("%s: the error is %v; want one that says where the file is kept", what, err)
			}
			if kept, err := os.ReadFile(f.Path + aside); err != nil || string(kept) != text {
				t.Errorf("%s: it has become %q, %v", what, kept, err)
			}
		}
		if err := add(t, f, "one", "a"); err != nil {
			t.Errorf("%s: the next command: %v", what, err)
		}
	}
}

// What the first edition kept is found.
func TestTheFirstEditionsFile(t *testing.T) {
	f := fileIn(t)
	proof.Must(t, os.MkdirAll(filepath.Dir(f.Path), 0o700))
	old := filepath.Join(filepath.Dir(f.Path), "exercises.json")
	proof.Must(t, os.WriteFile(old, []byte(`{"exercises": {"a": {"count": 6}}}`), 0o600))
	proof.Must(t, add(t, f, "exercises", "a"))
	n := notes{}
	if err := f.Read("exercises", &n); err != nil || n["a"].Count != 7 {
		t.Errorf("%v, %v; want 7", n, err)
	}
}

// Two programs at once lose nothing of each other.
func TestTheFileIsShared(t *testing.T) {
	f := fileIn(t)
	const programs, updates = 8, 10
	var all sync.WaitGroup
	for i := range programs {
		all.Go(func() {
			for range updates {
				if err := add(t, f, []string{"one", "two"}[i%2], "a"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, section := range []string{"one", "two"} {
		n := notes{}
		if err := f.Read(section, &n); err != nil || n["a"].Count != programs*updates/2 {
			t.Errorf("%s: %v, %v; want %d", section, n, err, programs*updates/2)
		}
	}
}

func TestDefault(t *testing.T) {
	account, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	for _, test := range []struct{ what, state, home, want string }{
		{"as the user likes", "/state", "/home/x", "/state/lesson/progress.json"},
		{"as usual", "", "/home/x", "/home/x/.local/state/lesson/progress.json"},
		{"not absolute", "state", "/home/x", "/home/x/.local/state/lesson/progress.json"},
		{"no HOME", "", "", filepath.Join(account.HomeDir, ".local/state/lesson/progress.json")},
	} {
		t.Setenv("XDG_STATE_HOME", test.state)
		t.Setenv("HOME", test.home)
		if f, err := Default(); f.Path != test.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", test.what, f.Path, err, test.want)
		}
	}
}
