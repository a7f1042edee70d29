//go:build linux

package check

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(path...), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

func TestChanged(t *testing.T) {
	tests := []struct {
		what         string
		change       func(dir string) error
		file, folder bool // it is seen where main.go is watched, or its folder
	}{
		{"it is written", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main // and more\n"), 0o644)
		}, true, true},
		{"it is replaced", func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, ".new"), []byte("package other\n"), 0o644); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, "main.go"))
		}, true, true},
		{"it is touched", func(dir string) error {
			return os.Chtimes(filepath.Join(dir, "main.go"), time.Time{}, time.Now().Add(time.Second))
		}, true, true},
		{"it is removed", func(dir string) error { return os.Remove(filepath.Join(dir, "main.go")) }, true, true},
		{"the folder is removed", os.RemoveAll, true, true},
		{"another file comes", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "other.go"), nil, 0o644)
		}, false, true},
		{"a hidden file comes", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, ".#main.go"), nil, 0o644)
		}, false, false},
		{"a folder comes", func(dir string) error { return os.Mkdir(filepath.Join(dir, "more"), 0o755) }, false, false},
		{"nothing happens", func(string) error { return nil }, false, false},
	}
	for _, test := range tests {
		for watched, seen := range map[string]bool{"main.go": test.file, ".": test.folder} {
			t.Run(test.what+", watching "+watched, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { // the clock is not the machine's
					dir := t.TempDir()
					write(t, "package main\n", dir, "main.go")
					path := filepath.Join(dir, watched)
					before := LookAt(path)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					if err := test.change(dir); err != nil {
						t.Fatal(err)
					}
					if _, err := AwaitChange(ctx, before, path); (err == nil) != seen {
						t.Errorf("%v, want a change: %v", err, seen)
					}
				})
			})
		}
	}
}

// While an editor is still writing, the change is not over.
func TestChangedWaitsForTheLastWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file := filepath.Join(dir, "main.go")
		write(t, "package main\n", file)
		before := LookAt(dir)
		const writes, more = 10, "// more\n"
		go func() {
			for i := range writes {
				time.Sleep(every / 2)
				write(t, "package main\n"+strings.Repeat(more, i+1), file)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		last, err := AwaitChange(ctx, before, dir)
		if err != nil {
			t.Fatal(err)
		}
		want := int64(len("package main\n") + writes*len(more))
		if got := last[file].size; got != want {
			t.Errorf("%d bytes, want %d", got, want)
		}
	})
}
