package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// errMoved is returned by fileID.still. What is written from then on is lost.
var errMoved = errors.New("was moved or replaced while open")

// fileSystem is what a folder lies on. The zero value is a local disk.
type fileSystem struct {
	name      string
	untrusted bool   // another kernel or a program answers for its locks and its shared memory
	warning   string // what to know about one that works
}

// resolve returns the absolute path of a database with no symbolic link in it,
// so that all who name the file in different ways find its -wal and -workers
// in the same folder. The file need not be there, its folder must; a link that
// leads nowhere is refused.
func resolve(dbPath string) (string, error) {
	path, err := filepath.Abs(dbPath)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", dbPath, err)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return "", fmt.Errorf("%s can't be opened: its folder %s is not there; create it (%w)", dbPath, filepath.Dir(path), err)
		}
		return filepath.Join(dir, filepath.Base(path)), nil
	}
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is a link to a file that is not there; remove the link or put the file back (%w)", dbPath, err)
	}
	if err != nil {
		return "", fmt.Errorf("%s can't be reached; check the folders on its way (%w)", dbPath, err)
	}
	return target, nil
}

// inspect looks at a database before it is opened, or before it is made, and
// refuses places where SQLite's locks, its shared memory or its fsync can't be
// trusted, and files that are not a database. The warnings are lines for the
// log. The path is one that resolve returned. It may be called again while the
// database is open.
func inspect(dbPath string) (warnings []string, err error) {
	dir := filepath.Dir(dbPath)
	place, err := fileSystemOf(dir)
	if err != nil {
		return nil, fmt.Errorf("%s can't be opened: %s can't be read (%w)", dbPath, dir, err)
	}
	if place.untrusted {
		return nil, fmt.Errorf("%s is on %s: its locks can't be trusted; put it on a local disk of this machine", dbPath, place.name)
	}
	if place.warning != "" {
		warnings = append(warnings, fmt.Sprintf("%s is on %s: %s", dbPath, place.name, place.warning))
	}
	// A file that is mounted by itself has no folder of its own: every
	// container then has a -wal that the others don't see.
	mounted, err := mountPoint(dbPath, dbPath+"-wal", dbPath+"-shm", dbPath+"-workers")
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", dbPath, err)
	}
	if mounted != "" {
		return nil, fmt.Errorf("%s is a mount point: the database and its -wal would part; mount its folder instead", mounted)
	}
	// Before checkFile, as that closes a descriptor.
	if err := foreignLocks(dbPath); err != nil {
		return nil, err
	}
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return nil, fmt.Errorf("%s can't be opened: its folder can't be written to, and -wal must lie there; give user %d the right to (%w)", dbPath, os.Geteuid(), err)
	}
	if err := checkWAL(dbPath); err != nil {
		return nil, err
	}
	return warnings, checkFile(dbPath)
}

func statfs(path string) (unix.Statfs_t, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == nil {
			return st, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return st, &fs.PathError{Op: "statfs", Path: path, Err: err}
		}
	}
}

// checkWAL refuses a -wal file whose database was taken away: SQLite would throw
// it away with what was committed last, and begin an empty database.
func checkWAL(dbPath string) error {
	// In this order, as others may be making both just now: the database comes first.
	wal, err := os.Stat(dbPath + "-wal")
	if err != nil || wal.Size() == 0 {
		return nil
	}
	info, err := os.Stat(dbPath)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return fmt.Errorf("%s was taken away from its -wal file, which holds what was written last: put it back there, or move %s-wal away too", dbPath, dbPath)
	}
	return nil
}

// checkFile refuses what is there under the database's name but is none, has
// other names too, or can't be written.
func checkFile(dbPath string) error {
	info, err := os.Lstat(dbPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspect %s: %w", dbPath, err)
	}
	switch {
	case info.IsDir():
		return fmt.Errorf("%s is a folder; name a file in it, such as %s", dbPath, filepath.Join(dbPath, "shoal.db"))
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file (%s); name another path", dbPath, info.Mode())
	case links(info) > 1:
		return fmt.Errorf("%s has %d hard links: who opens it by another name has another -wal, and both lose data; keep one name", dbPath, links(info))
	}
	file, err := os.OpenFile(dbPath, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("%s can't be written; give user %d the right to (%w)", dbPath, os.Geteuid(), err)
	}
	defer file.Close()
	return checkHeader(file)
}

// checkHeader refuses a file that begins otherwise than every SQLite database
// does (https://sqlite.org/fileformat.html, 1.3). An empty file will become
// one. A journal that is left beside it wins: after a power cut in the first
// commit it puts an unfinished file right.
func checkHeader(file *os.File) error {
	const magic = "SQLite format 3\x00"
	if journal, err := os.Stat(file.Name() + "-journal"); err == nil && journal.Size() > 0 {
		return nil
	}
	head := make([]byte, len(magic))
	n, err := io.ReadFull(file, head)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("inspect %s: %w", file.Name(), err)
	}
	if string(head[:n]) != magic {
		return fmt.Errorf("%s is no SQLite database; name another path", file.Name())
	}
	return nil
}

// fileID says which file a path named once. It is worth something only while
// that file is held open, else its inode number may be given to another. So
// inspect first (on overlayfs its look turns the file into one of the upper
// layer), then identify, then open, and ask still after.
type fileID struct{ info os.FileInfo }

// identify opens nothing: closing a descriptor would drop the POSIX locks that
// another SQLite library in this process may hold on the file.
func identify(path string) (fileID, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return fileID{}, fmt.Errorf("identify: %w", err)
	}
	return fileID{info}, nil
}

// still returns nil when path, one that resolve returned, names the same file
// as ever and nothing else does. Otherwise it returns errMoved: who opens the
// path next won't see our commits. It costs one lstat.
func (id fileID) still(path string) error {
	now, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %w: the path is empty now; put the file and its -wal back, then start again", path, errMoved)
	case err != nil:
		return fmt.Errorf("look after the database: %w", err)
	case !os.SameFile(id.info, now):
		return fmt.Errorf("%s %w: another file has its path now; put the right one and its -wal there, then start again", path, errMoved)
	case links(now) != 1:
		return fmt.Errorf("%s %w: it has %d hard links now; keep one name, then start again", path, errMoved, links(now))
	}
	return nil
}

// links returns how many names a file has.
func links(info os.FileInfo) uint64 {
	return uint64(info.Sys().(*syscall.Stat_t).Nlink)
}

// owner returns the user and the group of a file.
func owner(info os.FileInfo) (uid, gid int) {
	stat := info.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid)
}
