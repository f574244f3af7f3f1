package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// prepareFiles lets the guardian look, makes the files (ownFiles), syncs their folder,
// and notes which file the path names.
func (db *DB) prepareFiles() error {
	warnings, err := inspect(db.path)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		db.log.Warn(w)
	}
	if _, err := os.Stat(db.path); errors.Is(err, os.ErrNotExist) && db.opts.Existing {
		return fmt.Errorf("%s is not there: start a worker or enqueue a job first, or name another with --db", db.path)
	}
	if err := db.ownFiles(); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(db.path)); err != nil {
		return err
	}
	db.file, err = identify(db.path)
	return err
}

// ownFiles makes the files that are not there, as private as the database, and
// sees that the others are: the driver asks the umask instead.
func (db *DB) ownFiles() error {
	suffixes := []string{""}
	if !db.opts.Existing { // else it may be another program's database
		suffixes = append(suffixes, "-workers")
	}
	if walMode(db.path) {
		suffixes = append(suffixes, "-wal", "-shm")
	}
	for _, suffix := range suffixes {
		f, err := openOrCreate(db.path+suffix, db.path)
		if err == nil {
			err = errors.Join(takeAfter(f, db.path), f.Close())
		}
		if err != nil {
			return fmt.Errorf("%w: name another place with --db", err)
		}
	}
	return nil
}

// walMode says whether the database is in WAL mode, by its header
// (https://sqlite.org/fileformat.html, 1.3). Where it is not, a -wal file beside
// it would have the driver skip the locks of the mode that it is in.
func walMode(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var header [20]byte
	_, err = f.ReadAt(header[:], 0)
	return err == nil && header[18] == 2 && header[19] == 2
}

// openOrCreate opens path to read and write; a file that it makes gets the
// mode and the owner of the file model.
func openOrCreate(path, model string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
		if !errors.Is(err, fs.ErrNotExist) {
			return file, err
		}
		file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue // another process was quicker
		}
		if err != nil {
			return nil, err
		}
		if err := takeAfter(file, model); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		return file, nil
	}
}

// takeAfter gives file the owner and the mode of the file at model, if there
// is one. SQLite does the same with -wal and -shm: what root made by the way
// must not lock out the database's owner.
func takeAfter(file *os.File, model string) error {
	info, err := os.Stat(model)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	uid, gid := owner(info)
	if err := file.Chown(uid, gid); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return file.Chmod(info.Mode().Perm())
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
