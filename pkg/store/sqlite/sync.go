package sqlite

import (
	"bytes"
	"math"
	"os"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// syncVFS is the driver's own VFS, but a failed sync leaves nothing behind, neither in
// the database (dbfile.go) nor in the -wal file; and a COMMIT's frames are gathered
// (gather.go).
//
// The kernel reports a failed write once, to the sync, and takes the pages for
// clean then: they can be read and are not on the disk. To write them once more
// and sync without an error does not put them there for certain either: ext4
// leaves new blocks marked as never written, and they read as zeros when the
// cache is gone. SQLite knows nothing of this. It would write the next frames over
// the failed ones, be told that all is well, and after a power cut they would be
// missing, with whatever was acknowledged since.
//
// So the pages are thrown out of the cache before the error is returned: then
// SQLite still holds the lock under which it wrote, and nobody writes over them
// before. Whoever is killed before that leaves them: a process that had the file open
// is told of the failure by its own next sync, as the kernel tells each descriptor
// once; a newcomer is not, and throws out what lies where it writes first.
type syncVFS struct{ vfs.VFSFilename }

// syncName is how a connection string names it.
const syncName = "shoal"

func registerVFS() {
	vfs.Register(syncName, syncVFS{vfs.Find("").(vfs.VFSFilename)})
}

// OpenFilename implements vfs.VFSFilename.
func (v syncVFS) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	file, flags, err := v.VFSFilename.OpenFilename(name, flags)
	own, ok := file.(osFile)
	switch {
	case err != nil || !ok:
	case flags&vfs.OPEN_WAL != 0:
		return &walFile{osFile: own, from: noFrames}, flags, nil
	case flags&vfs.OPEN_MAIN_DB != 0:
		return &dbFile{own, name.String()}, flags, nil
	}
	return file, flags, err
}

// osFile is what the driver's own files can do.
type osFile interface {
	vfs.FileHasMoved
	vfs.FileLockState
	vfs.FileMemoryMapper
	vfs.FilePersistWAL
	vfs.FilePowersafeOverwrite
	vfs.FileSharedMemory
	vfs.FileSizeHint
	Fd() uintptr
}

// walFile is a connection's -wal file.
type walFile struct {
	osFile
	gathered
	from, end int64 // of what this connection has written since its last sync
	done      int64 // the end of what was synced then, with all before it; 0: nothing is known to be
}

// noFrames, as walFile.from: this connection has written nothing since its last sync.
const noFrames = math.MaxInt64

// WriteAt implements vfs.File.
func (f *walFile) WriteAt(p []byte, at int64) (int, error) {
	if f.done == 0 && f.from == noFrames {
		dropCache(f.Fd(), at) // nothing from here on is committed, and nobody else writes
	}
	f.from, f.end = min(f.from, at), max(f.end, at+int64(len(p)))
	if f.committing {
		return f.gather(f.osFile, p, at)
	}
	return f.osFile.WriteAt(p, at)
}

// ReadAt implements vfs.File.
func (f *walFile) ReadAt(p []byte, at int64) (int, error) {
	if err := f.flush(f.osFile); err != nil {
		return 0, err
	}
	return f.osFile.ReadAt(p, at)
}

// Sync implements vfs.File. A connection that has written nothing syncs for a
// checkpoint, without the write lock, and leaves the file to those who have. But the
// kernel has told it then, and will not once more: it begins as a newcomer does.
func (f *walFile) Sync(flags vfs.SyncFlag) error {
	if err := f.flush(f.osFile); err != nil {
		return vfs.SystemError(err, sqlite3.IOERR_WRITE) // not of the sync: noSpace asks
	}
	err := f.osFile.Sync(flags)
	if f.from == noFrames {
		if err != nil {
			f.done = 0
		}
		return err
	}
	if err != nil {
		f.forget()
	} else {
		f.done = f.end
	}
	f.from, f.end = noFrames, 0
	return err
}

// forget throws the file out of the cache. Frames before our own are committed,
// but may be those of a program that does not sync: what the disk does not have of
// them is written once more, for the next sync.
func (f *walFile) forget() {
	others := make([]byte, max(0, f.from-f.done))
	if _, err := f.ReadAt(others, f.done); err != nil {
		others = nil
	}
	dropCache(f.Fd(), 0)
	onDisk := make([]byte, len(others))
	if _, err := f.ReadAt(onDisk, f.done); err != nil || !bytes.Equal(onDisk, others) {
		_, _ = f.osFile.WriteAt(others, f.done) // the next sync tells of its error
	}
}

// forgetOrphan throws a -wal file that nobody has open out of the cache, and the
// database too, before a first connection reads them: whoever was the last to have them
// open may have been killed after a sync that failed, and before forget or copyAgain, or
// have known of neither. Who ends as it should leaves no -wal file. It tells of no error,
// as the connection will.
func forgetOrphan(path string) {
	if shm, err := os.Open(path + "-shm"); err == nil {
		defer shm.Close()
		if held, _, err := testLock(shm, walOpen); held || err != nil {
			return
		}
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		return
	}
	for _, path := range []string{path, path + "-wal"} {
		if f, err := os.Open(path); err == nil {
			dropCache(f.Fd(), 0)
			f.Close()
		}
	}
}
