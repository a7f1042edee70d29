//go:build linux

package tour

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lesson/internal/child"
	"lesson/internal/observe/proc"
	"lesson/internal/proof"
)

// A program that is removed while it starts ends at once, with all that it has started.
func TestRemovedWhileItStarts(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	c := newColumn("s1", ownProgram, "never listens", nil, newJournal())
	c.start = func(c *column) (running, error) {
		return startProgram(child.Program{Command: []string{
			"sh", "-c", `setsid sh -c 'echo $$ >"$0"; exec sleep 60' "$0"`, file, "{port}",
		}}, c, shownAs)
	}
	launched := make(chan error, 1)
	go func() { launched <- c.launch() }()
	pid := startedIn(t, file)
	c.stop()
	if s, err := proc.ReadStatus(pid); err == nil && !s.Ended() {
		t.Errorf("its child %d still runs", pid)
	}
	if err := <-launched; err == nil {
		t.Error("it was started")
	}
}

// A build is a child like others: it ends with the page that asked for it, with all that it
// has started, and its folder goes with the tour. One that has failed is tried again.
func TestABuildEndsWithItsColumn(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	pidFile := filepath.Join(t.TempDir(), "pid")
	command := fmt.Sprintf(`#!/bin/sh
if [ ! -e %[1]s-failed ]; then touch %[1]s-failed; echo "no such package"; exit 1; fi
setsid sh -c 'echo $$ >%[1]s; exec sleep 60' & wait
`, pidFile)
	fake := filepath.Join(dir, "go")
	proof.WriteProgram(t, fake, []byte(command))
	var b builds
	const name = "06-one-read-per-edge"
	if _, err := b.exercise(t.Context(), name); err == nil || !strings.Contains(err.Error(), "no such package") {
		t.Errorf("a build that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	built := make(chan error, 1)
	go func() {
		_, err := b.exercise(ctx, name)
		built <- err
	}()
	pid := startedIn(t, pidFile)
	cancel()
	if err := <-built; err == nil {
		t.Error("it was built")
	}
	if s, err := proc.ReadStatus(pid); err == nil && !s.Ended() {
		t.Errorf("the compiler %d still runs", pid)
	}
	proof.Must(t, b.close())
	if left, err := filepath.Glob(filepath.Join(dir, "lesson-*")); len(left) > 0 || err != nil {
		t.Errorf("%q is left: %v", left, err)
	}
}

// startedIn waits for a process to write its id into a file, and returns it.
func startedIn(t *testing.T, file string) (pid int) {
	t.Helper()
	proof.Eventually(t, "a child to start", func() bool {
		text, err := os.ReadFile(file)
		if err == nil {
			_, err = fmt.Sscan(string(text), &pid)
		}
		return err == nil
	})
	return pid
}
