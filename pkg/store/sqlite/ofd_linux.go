package sqlite

import "golang.org/x/sys/unix"

// The commands of open file description locks, Linux 3.15 and later.
const (
	ofdGetLock = unix.F_OFD_GETLK
	ofdSetLock = unix.F_OFD_SETLK
)
