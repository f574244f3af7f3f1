package sqlite

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errSeatTaken is returned by Take when the byte is held through another open
// file description.
var errSeatTaken = errors.New("seat is taken")

// What is in the seats' file: numbers of 32 bits, which nothing but these read.
const (
	batonPasses = 0 // baton.passes
	syncFailed  = 4 // dbFile: all of -wal is to be copied into the database again, if it isn't 0
)

// seatFile is one open file description of <database>-workers. The worker with id n holds
// a lock on byte n, and the kernel drops it with the last descriptor, however its process
// died; byte 0 is the baton's. These are open file description locks (fcntl(2),
// F_OFD_SETLK): unlike POSIX locks they survive when another descriptor of the file is
// closed, and a child that inherits the descriptor keeps them. The file is never
// truncated and never removed, or two workers could hold one byte of two files.
type seatFile struct {
	file *os.File
	info os.FileInfo // as it was opened
}

// openSeatFile opens, and makes if need be, the seat file beside a database,
// whose path is one that resolve returned. A new one takes the database's mode,
// and its owner where that is allowed; without a database its mode is 0600.
func openSeatFile(dbPath string) (*seatFile, error) {
	file, err := openOrCreate(dbPath+"-workers", dbPath)
	if err != nil {
		return nil, fmt.Errorf("open the seats: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file; remove it while no worker runs", file.Name())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the seats: %w", err), file.Close())
	}
	return &seatFile{file: file, info: info}, nil
}

// Take locks the byte of a worker's id, which is 1 or more, and never waits.
// It returns errSeatTaken when somebody else holds it.
func (f *seatFile) Take(id int64) error {
	if id < 1 {
		return fmt.Errorf("take seat %d: a worker's id is 1 or more", id)
	}
	err := f.lock(id, unix.F_WRLCK)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = errSeatTaken
	}
	if err != nil {
		return fmt.Errorf("take seat %d: %w", id, err)
	}
	return nil
}

// Give unlocks the byte of id; one that is free already stays so.
func (f *seatFile) Give(id int64) error {
	if err := f.lock(id, unix.F_UNLCK); err != nil {
		return fmt.Errorf("give seat %d back: %w", id, err)
	}
	return nil
}

// Held reports whether the byte of id is held through another open file
// description. One's own locks never stand in one's own way: a byte that was
// taken through this very seatFile looks free. So does an id below 1, which no
// worker ever had.
func (f *seatFile) Held(id int64) (bool, error) {
	if id < 1 {
		return false, nil
	}
	held, _, err := testLock(f.file, id)
	if err != nil {
		return false, fmt.Errorf("look at seat %d: %w", id, err)
	}
	return held, nil
}

// File is the descriptor behind the locks, for a child to inherit: the bytes
// then stay held until that child has ended too.
func (f *seatFile) File() *os.File { return f.file }

// Close lets go of every byte, unless a child holds the descriptor as well.
func (f *seatFile) Close() error { return f.file.Close() }

func (f *seatFile) lock(at int64, kind int16) error {
	return fcntlLock(f.file, ofdSetLock, &unix.Flock_t{Type: kind, Start: at, Len: 1})
}
