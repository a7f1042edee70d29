//go:build linux

package check

import (
	"context"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Look is what tells that a file has been written since, file by file.
type Look map[string]stamp

type stamp struct {
	size    int64
	written time.Time
}

// LookAt looks at files; of a folder, at the files in it. An editor may replace them
// under our eyes: what is not there is not in the look. Hidden files, which
// editors keep for themselves, are not either.
func LookAt(paths ...string) Look {
	seen := make(Look)
	for _, path := range paths {
		entries, err := os.ReadDir(path)
		if err != nil {
			seen.add(path)
			continue
		}
		for _, entry := range entries {
			if !strings.HasPrefix(entry.Name(), ".") {
				seen.add(filepath.Join(path, entry.Name()))
			}
		}
	}
	return seen
}

func (l Look) add(file string) {
	if info, err := os.Stat(file); err == nil && info.Mode()&fs.ModeType == 0 {
		l[file] = stamp{info.Size(), info.ModTime()}
	}
}

// every is how often the files are looked at. That is soon enough for a person,
// and a few system calls a second; inotify(7) would be woken at once, and would
// need a new watch for every file that an editor replaces.
const every = 200 * time.Millisecond

// AwaitChange waits until the files look different from before, and then until they
// have stayed the same from one look to the next: an editor, or a compiler, writes
// in several steps. It returns the last look, or an error when ctx ends first.
func AwaitChange(ctx context.Context, before Look, paths ...string) (Look, error) {
	last := before
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(every):
		}
		now := LookAt(paths...)
		if !maps.Equal(now, before) && maps.Equal(now, last) {
			return now, nil
		}
		last = now
	}
}
