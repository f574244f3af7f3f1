package sqlite

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// walWriteLock is the byte of the -shm file that a writer in WAL mode locks,
// from before its first change until its commit is done: WAL_WRITE_LOCK, the
// first of the lock bytes (https://sqlite.org/walformat.html, 2.3.1).
const walWriteLock = 120

// holder is a process that has one of SQLite's locks.
type holder struct {
	PID     int
	Name    string // as the kernel has it, 15 bytes at most; empty: not known
	Stopped bool   // by a signal or a debugger: it won't let go by itself
}

// String returns the holder as a log line names it: "pid 4711 (worker, stopped)".
func (h holder) String() string {
	switch {
	case h.Name == "":
		return fmt.Sprintf("pid %d", h.PID)
	case h.Stopped:
		return fmt.Sprintf("pid %d (%s, stopped)", h.PID, h.Name)
	}
	return fmt.Sprintf("pid %d (%s)", h.PID, h.Name)
}

// holderOf names a process, which may be this one, that holds a lock on that byte
// of -shm right now. False means that nobody does, or that it can't be found out: a process of
// another user or of another container stays hidden. It reads all of /proc that
// it may, so it is for a lock that has been held for long.
func holderOf(shm *os.File, at int64) (h holder, ok bool) {
	held, pid, err := testLock(shm, at)
	if err != nil || !held {
		return holder{}, false
	}
	if pid <= 0 {
		if pid, ok = findHolder(shm, at); !ok {
			return holder{}, false
		}
	}
	return describe(pid), true
}

// locked says whether somebody, who may be of this process, is in a write transaction
// right now; false where that can't be told, as the store is closed.
func (db *DB) locked() bool {
	held, _, err := testLock(db.shm, walWriteLock)
	return err == nil && held
}

// word is a number of 32 bits in a file, in this machine's order of bytes; 0 with an error.
func word(file *os.File, at int64) (uint32, error) {
	var bytes [4]byte
	if _, err := file.ReadAt(bytes[:], at); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint32(bytes[:]), nil
}

// A reader locks one of five bytes of the -shm file, which stands for the frame
// of the -wal file up to which it sees: WAL_READ_LOCK and aReadMark
// (https://sqlite.org/walformat.html, 2.3 and 2.2). The first is for readers that
// see nothing of it, as all of it had been copied back when they began.
const (
	walReadLock  = 123
	walReadMarks = 100
)

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
		byteOf := walReadLock + int64(i)
		held, _, err := testLock(shm, byteOf)
		if err == nil && held && (!ok || mark < oldest) {
			at, oldest, ok = byteOf, mark, true
		}
	}
	return at, ok
}
