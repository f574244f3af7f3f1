package sqlite

import (
	"os"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"golang.org/x/sys/unix"
)

// dbFile is a connection's database file, which SQLite syncs at the end of a checkpoint
// that has copied all of -wal, before it gives that up. Where the sync fails, the next
// checkpoint copies what this one has copied once more, over pages that the kernel takes
// for clean and ext4 for never written, and what others copied before it, which was not
// synced then, not at all. SQLite would be told that all is well, and after a power cut
// the database would be missing what -wal had.
//
// So a sync that has failed fails until all of -wal is to be copied again, onto pages
// that come from the disk. The kernel tells each descriptor of the failure, and so each
// connection that had the file open sees to that.
type dbFile struct {
	osFile
	shm    string // the path of -shm
	failed bool
}

// DeviceCharacteristics implements vfs.File, without what osFile can't do.
func (f *dbFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.osFile.DeviceCharacteristics() &^ vfs.IOCAP_BATCH_ATOMIC
}

// Sync implements vfs.File.
func (f *dbFile) Sync(flags vfs.SyncFlag) error {
	err := f.osFile.Sync(flags)
	if err == nil && !f.failed {
		return nil
	}
	f.failed = !f.copyAgain()
	if err == nil {
		err = sqlite3.IOERR_FSYNC
	}
	return err
}

// Of the -shm file: how much of -wal is copied (nBackfill of
// https://sqlite.org/walformat.html, 2.2), and the bytes that those lock who read the
// database besides -wal. The first of these a checkpoint has locked itself.
const (
	walCopied    = 96
	walReaders   = walReadLock + 1
	walReadersOf = 4
)

// copyAgain has the next checkpoint copy all of -wal, and throws the database out of the
// cache. Nobody may be reading it: what the disk does not have, it has in the cache alone
// until then. It is called by a checkpoint, beside which there is no other.
func (f *dbFile) copyAgain() bool {
	shm, err := os.OpenFile(f.shm, os.O_RDWR, 0)
	if err != nil {
		return os.IsNotExist(err) // in another mode than WAL, whose journal SQLite keeps
	}
	defer shm.Close() // which unlocks
	if fcntlLock(shm, ofdSetLock, &unix.Flock_t{Type: unix.F_WRLCK, Start: walReaders, Len: walReadersOf}) != nil {
		return false
	}
	if _, err := shm.WriteAt(make([]byte, 4), walCopied); err != nil {
		return false
	}
	dropCache(f.Fd(), 0)
	return true
}
