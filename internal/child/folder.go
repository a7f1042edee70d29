//go:build linux

package child

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A Folder is a temporary folder of this program. It is removed by Remove, or by the next
// Temporary of the same name if this program is killed before.
type Folder struct {
	Path string
	lock *os.File // the folder, locked: the kernel unlocks it when this program ends
}

// Temporary makes a folder in os.TempDir whose name begins with name, and removes the
// folders of that name whose programs have ended.
func Temporary(name string) (*Folder, error) {
	if err := removeLeft(name); err != nil {
		return nil, err
	}
	for {
		dir, err := os.MkdirTemp("", name+"-*")
		if err != nil {
			return nil, err
		}
		lock, err := lockFolder(dir, unix.LOCK_EX)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another program took it for one that was left, before it was locked
		}
		if err != nil {
			return nil, errors.Join(err, os.Remove(dir))
		}
		return &Folder{dir, lock}, nil
	}
}

// Remove removes the folder with all that is in it.
func (f *Folder) Remove() error { return errors.Join(os.RemoveAll(f.Path), f.lock.Close()) }

// madeWithin is how long a folder may be without its lock after it was made.
const madeWithin = time.Second

// removeLeft removes the folders of that name that no program holds.
func removeLeft(name string) error {
	all, err := filepath.Glob(filepath.Join(os.TempDir(), name+"-*"))
	if err != nil {
		return err
	}
	for _, dir := range all {
		about, err := os.Lstat(dir)
		if err != nil || !about.IsDir() || time.Since(about.ModTime()) < madeWithin {
			continue // it is gone, or was made just now
		}
		lock, err := lockFolder(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // a program holds it, or it belongs to another user
		}
		if err := (&Folder{dir, lock}).Remove(); err != nil {
			return err
		}
	}
	return nil
}

// lockFolder opens a folder of this user and locks it: flock(2). The error is
// fs.ErrNotExist when another program has removed the folder meanwhile.
func lockFolder(dir string, how int) (*os.File, error) {
	folder, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var about unix.Stat_t
	err = errors.Join(unix.Flock(int(folder.Fd()), how), unix.Fstat(int(folder.Fd()), &about))
	switch {
	case err != nil:
	case about.Nlink == 0:
		err = fs.ErrNotExist
	case int(about.Uid) != os.Geteuid():
		err = fs.ErrPermission
	}
	if err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
}
