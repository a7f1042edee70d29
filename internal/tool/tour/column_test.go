//go:build linux

package tour

import (
	"fmt"
	"os"
	"path/filepath"
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
	var pid int
	proof.Eventually(t, "its child to start", func() bool {
		text, err := os.ReadFile(file)
		if err == nil {
			_, err = fmt.Sscan(string(text), &pid)
		}
		return err == nil
	})
	c.stop()
	if s, err := proc.ReadStatus(pid); err == nil && !s.Ended() {
		t.Errorf("its child %d still runs", pid)
	}
	if err := <-launched; err == nil {
		t.Error("it was started")
	}
}
