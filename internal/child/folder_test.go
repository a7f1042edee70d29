//go:build linux

package child

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lesson/internal/proof"
)

// A folder stays while its program runs. One that a program left when it was killed is
// removed by the next program that makes one of the same name.
func TestTemporaryFoldersAreRemovedByTheNextStart(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	held, err := Temporary("lesson-test")
	proof.Must(t, err)
	killed, err := Temporary("lesson-test")
	proof.Must(t, err)
	proof.Must(t, os.WriteFile(filepath.Join(killed.Path, "program"), nil, 0o600))
	proof.Must(t, killed.lock.Close()) // as the kernel does it when a program ends
	other := filepath.Join(os.TempDir(), "lesson-other-1")
	link := filepath.Join(os.TempDir(), "lesson-test-link")
	proof.Must(t, errors.Join(os.Mkdir(other, 0o700), os.Symlink(other, link)))
	longAgo := time.Now().Add(-time.Hour)
	for _, dir := range []string{held.Path, killed.Path, other} {
		proof.Must(t, os.Chtimes(dir, longAgo, longAgo))
	}

	next, err := Temporary("lesson-test")
	proof.Must(t, err)
	for _, c := range []struct {
		what, path string
		stays      bool
	}{
		{"that of a program that runs", held.Path, true},
		{"that of a program that was killed", killed.Path, false},
		{"its own", next.Path, true},
		{"one of another name", other, true},
		{"a link", link, true},
	} {
		if _, err := os.Lstat(c.path); (err == nil) != c.stays {
			t.Errorf("%s: %v, want it there: %v", c.what, err, c.stays)
		}
	}
	proof.Must(t, errors.Join(held.Remove(), next.Remove()))
	if _, err := os.Stat(held.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed, it is still there: %v", err)
	}
}
