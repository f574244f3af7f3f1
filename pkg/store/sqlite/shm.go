package sqlite

import (
	"encoding/binary"
	"io"
	"os"
)

// Where things are in the -shm file: offsets, and bytes that SQLite locks. Sections
// are those of https://sqlite.org/walformat.html.
const (
	walCommits   = 8   // iChange (2.1)
	walCopied    = 96  // nBackfill (2.2): how much of -wal is copied back
	walReadMarks = 100 // aReadMark (2.2), five: up to which frame readers see
	walWriteLock = 120 // WAL_WRITE_LOCK (2.3.1): from a writer's first change until its commit is done
	walReadLock  = 123 // WAL_READ_LOCK (2.3), five, one for each mark
	walOpen      = 128 // UNIX_SHM_DMS of os_unix.c: by each connection that has -wal open
)

// The readers that see part of -wal. Those of walReadLock itself see none of it, as all
// had been copied back when they began; a checkpoint holds that byte while it copies and
// syncs.
const (
	walReaders   = walReadLock + 1
	walReadersOf = 4
)

// word is a number of 32 bits in a file, in this machine's order of bytes; 0 with an error.
func word(file *os.File, at int64) (uint32, error) {
	var bytes [4]byte
	if _, err := file.ReadAt(bytes[:], at); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint32(bytes[:]), nil
}

func setWord(file *os.File, at int64, n uint32) error {
	_, err := file.WriteAt(binary.NativeEndian.AppendUint32(nil, n), at)
	return err
}

// commits is SQLite's count of all commits to the file, by whatever program. It says of
// a change only that there was one, as it begins anew where the -shm file does.
func (db *DB) commits() (uint32, error) {
	return word(db.shm, walCommits)
}

// copiedBack is how many of the -wal file's pages were copied back, by whichever
// process; 0 where that can't be told.
func (db *DB) copiedBack() int {
	pages, _ := word(db.shm, walCopied)
	return int(pages)
}

// locked says whether somebody, who may be of this process, is in a write transaction
// right now; false where that can't be told, as the store is closed.
func (db *DB) locked() bool {
	held, _, err := testLock(db.shm, walWriteLock)
	return err == nil && held
}

// oldestReader returns the lock byte of those readers that see the least of the
// -wal file: while they stay, it can't begin anew. Readers that come and go see
// more. False: there are no readers.
func oldestReader(shm *os.File) (at int64, ok bool) {
	var marks [5]uint32
	if err := binary.Read(io.NewSectionReader(shm, walReadMarks, 20), binary.NativeEndian, &marks); err != nil {
		return 0, false
	}
	var oldest uint32
	for i, mark := range marks {
		lock := walReadLock + int64(i)
		held, _, err := testLock(shm, lock)
		if err == nil && held && (!ok || mark < oldest) {
			at, oldest, ok = lock, mark, true
		}
	}
	return at, ok
}
