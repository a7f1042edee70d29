//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lesson/internal/tool/exercise"
)

// Shells complete the names of exercises, and say what each is.
func TestExerciseCompletion(t *testing.T) {
	gallery, err := exercise.Carried()
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range commands() {
		if !strings.HasPrefix(cmd.CommandPath(), "lesson exercise ") || !strings.Contains(cmd.Use, "NAME") {
			continue
		}
		first := run(t, "__complete", "exercise", cmd.Name(), "")
		second := run(t, "__complete", "exercise", cmd.Name(), "6", "")
		for _, e := range gallery.Exercises {
			if !strings.Contains(first, e.Name+"\t"+e.Title+"\n") {
				t.Errorf("lesson exercise %s: %s is not offered:\n%s", cmd.Name(), e.Name, first)
			}
			if strings.Contains(second, e.Name) {
				t.Errorf("lesson exercise %s: a second %s is offered:\n%s", cmd.Name(), e.Name, second)
			}
		}
	}
}

// The exit status is what scripts go by.
func TestExerciseStatus(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	work := t.TempDir()
	tests := []struct {
		args   string
		status int
	}{
		{"list", 0},
		{"list extra", 2},
		{"nosuch", 2},
		{"start", 2},
		{"start nosuch", 2},
		{"check 1", 2}, // no copy
		{"watch 1", 2},
		{"reset 1", 1},
		{"start 1 --dir " + work, 0},
		{"start 1 --dir " + work, 1}, // there is one
		{"reset 1", 0},
		{"reset 1 --dir " + work, 0},
		{"check 1 --dir /nosuch", 2},
		{"check nosuch", 2},
		{"check 1 --nosuch", 2},
		{"hint 1", 0},
		{"hint 1 --again", 0},
		{"hint nosuch", 2},
		{"solution 1", 0},
		{"solution nosuch", 2},
	}
	for _, test := range tests {
		root := newRoot()
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		root.SetArgs(append([]string{"exercise"}, strings.Fields(test.args)...))
		status := 0
		err := root.Execute()
		var usage usageError
		var cannot cannotRun
		switch {
		case errors.As(err, &usage), errors.As(err, &cannot):
			status = 2
		case err != nil:
			status = 1
		}
		if status != test.status {
			t.Errorf("lesson exercise %s: status %d (%v), want %d", test.args, status, err, test.status)
		}
	}
}

// Ctrl-C is how watch ends, so it is no failure.
func TestExerciseWatchEnds(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	work := t.TempDir()
	run(t, "exercise", "start", "1", "--dir", work)
	// It watches what does not build, too, and that is quickly found out.
	main := filepath.Join(work, "01-last-chunk", "main.go")
	if err := os.WriteFile(main, []byte("nothing\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, number := range signals {
		if signal.Ignored(number) { // as nohup has it, and then it has no effect
			continue
		}
		cmd := exec.Command("lesson", "exercise", "watch", "1")
		var log transcript
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); !strings.Contains(log.String(), "watching "); time.Sleep(time.Millisecond) {
			if time.Since(start) > patience {
				_ = cmd.Process.Kill() // it is a failure already
				t.Fatalf("it does not watch:\n%s", &log)
			}
		}
		if !strings.Contains(log.String(), "main.go:1:1: ") {
			t.Errorf("it does not say what go build says:\n%s", &log)
		}
		if err := cmd.Process.Signal(number); err != nil {
			t.Fatal(err)
		}
		stop := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %s it ends with %v:\n%s", name, err, &log)
		}
		stop.Stop()
	}
}
