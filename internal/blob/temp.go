package blob

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeTemp makes a folder for temporary files and locks it. The kernel drops
// the lock when the process dies, however it dies: a folder that can be locked
// is a dead one's, and no clock is needed to tell.
func (s *Store) makeTemp() (*os.File, error) {
	root := filepath.Join(s.dir, "tmp")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, err
	}
	s.sweep.Do(func() { sweepTemps(root) })
	for {
		name, err := os.MkdirTemp(root, "")
		if err != nil {
			return nil, err
		}
		dir, err := lock(name, unix.LOCK_EX)
		if errors.Is(err, fs.ErrNotExist) {
			continue // swept by another process before we had the lock
		}
		if err != nil {
			return nil, err
		}
		if _, err := os.Lstat(name); err == nil {
			return dir, nil
		}
		dir.Close()
	}
}

// sweepTemps removes what dead processes left. It is a courtesy: what can't be
// removed now is left to the next process.
func sweepTemps(root string) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return
	}
	for _, e := range entries {
		dir, err := lock(filepath.Join(root, e.Name()), unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue
		}
		os.RemoveAll(dir.Name())
		dir.Close()
	}
}

func lock(name string, how int) (*os.File, error) {
	dir, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(dir.Fd()), how)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, unix.EINTR) {
			dir.Close()
			return nil, err
		}
	}
}
