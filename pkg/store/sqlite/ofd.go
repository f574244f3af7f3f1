package sqlite

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// testLock reports whether an open file description other than file's holds a
// lock on byte at, and through which process: -1 when it is not known, as an
// open file description is nobody's in particular, and 0 for a process of
// another PID namespace. It needs no right to write.
func testLock(file *os.File, at int64) (held bool, pid int, err error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
	if err := fcntlLock(file, ofdGetLock, &lk); err != nil {
		return false, 0, err
	}
	return lk.Type != unix.F_UNLCK, int(lk.Pid), nil
}

// fcntlLock holds on to the descriptor while the call is under way, so that a
// Close meanwhile can't turn it into a lock on some other file.
func fcntlLock(file *os.File, cmd int, lk *unix.Flock_t) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = conn.Control(func(fd uintptr) {
		for {
			if errno = unix.FcntlFlock(fd, cmd, lk); !errors.Is(errno, unix.EINTR) {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return errno
}
