//go:build linux

package exercise

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"lesson/internal/progress"
	"lesson/internal/proof"
)

func recordIn(t *testing.T) Record {
	return Record{progress.File{Path: filepath.Join(t.TempDir(), "state", "lesson", "progress.json")}}
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
}

// Fewer hints than none make a panic where the next one is looked up.
func TestRecordIsValidated(t *testing.T) {
	record := recordIn(t)
	proof.Must(t, os.MkdirAll(filepath.Dir(record.File.Path), 0o700))
	proof.Must(t, os.WriteFile(record.File.Path, []byte(`{"exercises": {"01-a": {"hints": -5}}}`), 0o600))
	if _, err := record.All(); err == nil || !strings.Contains(err.Error(), "-5 hints") {
		t.Errorf("the error is %v; want one that names the hints", err)
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
