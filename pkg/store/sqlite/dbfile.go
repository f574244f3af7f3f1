package sqlite

import (
	"cmp"
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
// come from the disk (copyAgain); until that can be arranged each sync fails. That it
// is to be arranged is noted in the seats' file, as the kernel tells each descriptor of
// the failure once, and whoever was told may be gone by then.
type dbFile struct {
	osFile
	path string
}

// DeviceCharacteristics implements vfs.File, without what osFile can't do.
func (f *dbFile) DeviceCharacteristics() vfs.DeviceCharacteristic {
	return f.osFile.DeviceCharacteristics() &^ vfs.IOCAP_BATCH_ATOMIC
}

// Sync implements vfs.File.
func (f *dbFile) Sync(flags vfs.SyncFlag) error {
	err := f.osFile.Sync(flags)
	seats, e := os.OpenFile(f.path+"-workers", os.O_RDWR, 0)
	if e != nil {
		return err
	}
	defer seats.Close()
	if failed, _ := word(seats, syncFailed); failed == 0 && err == nil {
		return nil
	}
	shm, e := os.OpenFile(f.path+"-shm", os.O_RDWR, 0)
	if e != nil {
		return err // another mode than WAL, whose journal SQLite keeps
	}
	defer shm.Close()
	_ = setWord(seats, syncFailed, 1) // where it can't be noted, this may be the last that is known
	if f.copyAgain(shm) {
		_ = setWord(seats, syncFailed, 0) // else there is one more copy
	}
	return cmp.Or(err, error(sqlite3.IOERR_FSYNC))
}

// copyAgain has the next checkpoint copy all of -wal, and throws the database out of the
// cache. It is false, and does neither, while somebody reads: pages that are not on the
// disk can be read from the cache alone. A checkpoint calls it, and there is one at a time.
func (f *dbFile) copyAgain(shm *os.File) bool {
	readers := unix.Flock_t{Type: unix.F_WRLCK, Start: walReaders, Len: walReadersOf} // until shm is closed
	if fcntlLock(shm, ofdSetLock, &readers) != nil || setWord(shm, walCopied, 0) != nil {
		return false
	}
	dropCache(f.Fd(), 0)
	return true
}
