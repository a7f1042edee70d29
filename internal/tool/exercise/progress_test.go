//go:build linux

package exercise

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

func recordIn(t *testing.T) Record {
	return Record{filepath.Join(t.TempDir(), "state", "lesson", "exercises.json")}
}

func TestStage(t *testing.T) {
	now := time.Now()
	tests := []struct {
		what string
		p    Progress
		want Stage
	}{
		{"nothing", Progress{}, NotStarted},
		{"a hint alone", Progress{Hints: 1}, NotStarted},
		{"a copy", Progress{Dir: "/x", Started: now}, Started},
		{"judged", Progress{Started: now, Checked: now, Failing: []string{"a/b"}}, Broken},
		{"judged without a copy of ours", Progress{Checked: now}, Broken},
		{"solved", Progress{Started: now, Checked: now, Solved: now}, Solved},
		{"solved, and broken since", Progress{Checked: now, Solved: now, Failing: []string{"a/b"}}, Solved},
	}
	for _, test := range tests {
		if got := test.p.Stage(); got != test.want {
			t.Errorf("%s: %s, want %s", test.what, got, test.want)
		}
	}
}

func TestRecordKeeps(t *testing.T) {
	record := recordIn(t)
	if all, err := record.All(); err != nil || len(all) != 0 {
		t.Fatalf("without a file: %v, %v; want nothing", all, err)
	}
	want := map[string]Progress{
		"01-a": {Dir: "/home/x/01-a", Started: time.Now().UTC().Round(0), Hints: 2},
		"02-b": {Checked: time.Now().UTC().Round(0), Failing: []string{"a/b", "c/d"}},
	}
	for name, p := range want {
		if err := record.Update(name, func(old *Progress) { *old = p }); err != nil {
			t.Fatal(err)
		}
	}
	got, err := record.All()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	// Nothing else is left in the folder, and nobody else may look into it.
	entries, err := os.ReadDir(filepath.Dir(record.File))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v; want one file", entries, err)
	}
	info, err := os.Stat(filepath.Dir(record.File))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v; want mode 0700", info, err)
	}
}

// A file that is not understood stays as it is, and is named.
func TestRecordThrowsNothingAway(t *testing.T) {
	tests := []struct{ what, text string }{
		{"empty", ""},
		{"no JSON", "hello\n"},
		{"cut short", `{"exercises": {"01-a": {"hints": 2}`},
		{"more after the end", `{"exercises": {}} {"exercises": {}}`},
		{"garbage after the end", `{"exercises": {}} hello`},
		{"a list", `[]`},
		{"a field of another version", `{"exercises": {"01-a": {"stars": 3}}}`},
		{"another type", `{"exercises": {"01-a": {"hints": "two"}}}`},
		{"fewer hints than none", `{"exercises": {"01-a": {"hints": -5}}}`},
	}
	for _, test := range tests {
		record := recordIn(t)
		if err := os.MkdirAll(filepath.Dir(record.File), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(record.File, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := record.All()
		if err == nil || !strings.Contains(err.Error(), record.File) || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: the error is %v; want one that names the file and what to do", test.what, err)
		}
		if err := record.Update("01-a", func(p *Progress) { p.Hints++ }); err == nil {
			t.Errorf("%s: Update writes over it", test.what)
		}
		if text, err := os.ReadFile(record.File); err != nil || string(text) != test.text {
			t.Errorf("%s: it has become %q, %v", test.what, text, err)
		}
	}
}

// The progress with an exercise that this program does not know is kept.
func TestRecordKeepsStrangers(t *testing.T) {
	record := recordIn(t)
	if err := record.Update("99-from-tomorrow", func(p *Progress) { p.Hints = 3 }); err != nil {
		t.Fatal(err)
	}
	if err := record.Update("01-a", func(p *Progress) { p.Hints = 1 }); err != nil {
		t.Fatal(err)
	}
	if p, err := record.Of("99-from-tomorrow"); err != nil || p.Hints != 3 {
		t.Errorf("%+v, %v; want 3 hints", p, err)
	}
}

// Two programs at once lose nothing of each other.
func TestRecordIsShared(t *testing.T) {
	record := recordIn(t)
	const programs, updates = 8, 10
	var all sync.WaitGroup
	for i := range programs {
		all.Go(func() {
			for range updates {
				err := record.Update(fmt.Sprint(i%2), func(p *Progress) { p.Hints++ })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	for _, name := range []string{"0", "1"} {
		if p, err := record.Of(name); err != nil || p.Hints != programs*updates/2 {
			t.Errorf("%d updates of %s, %v; want %d", p.Hints, name, err, programs*updates/2)
		}
	}
}

func TestDefaultRecord(t *testing.T) {
	account, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	tests := []struct{ what, state, home, want string }{
		{"as the user likes", "/state", "/home/x", "/state/lesson/exercises.json"},
		{"as usual", "", "/home/x", "/home/x/.local/state/lesson/exercises.json"},
		{"not absolute", "state", "/home/x", "/home/x/.local/state/lesson/exercises.json"},
		{"no HOME", "", "", filepath.Join(account.HomeDir, ".local/state/lesson/exercises.json")},
	}
	for _, test := range tests {
		t.Setenv("XDG_STATE_HOME", test.state)
		t.Setenv("HOME", test.home)
		record, err := DefaultRecord()
		if record.File != test.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", test.what, record.File, err, test.want)
		}
	}
}
