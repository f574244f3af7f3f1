package sqlite

import (
	"os"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
	"golang.org/x/sys/unix"
)

// dbFile is a connection's database file. SQLite syncs it at the end of a checkpoint
// that has copied all of -wal, before -wal may begin anew.
//
// Where that sync fails, pages are missing on the disk, but the kernel takes them for
// clean, and ext4 their blocks for never written. The next checkpoint would copy onto
// them again what this one has copied, and not at all what others had copied before it
// without a sync. Its own sync would succeed, -wal would begin anew, and after a power
// cut the database would lack what -wal had.
//
// So after a sync that has failed all of -wal is to be copied once more, onto pages that
// come from the disk (copyAgain); until that can be arranged each sync fails. The kernel
// tells each descriptor of the failure once, so each connection that had the file open
// sees to that.
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

// copyAgain has the next checkpoint copy all of -wal, and throws the database out of the
// cache. It is false, and does neither, while somebody reads: pages that are not on the
// disk can be read from the cache alone. A checkpoint calls it, and there is one at a time.
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
