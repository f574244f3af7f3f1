package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// seesLocks says that locked can tell.
const seesLocks = true

// locked says whether somebody has locked a byte of a file (open file description
// locks, fcntl(2)).
func locked(file *os.File, at int64) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &lk)
	return lk.Type != unix.F_UNLCK, err
}

// childSysProcAttr is how children are started: Ctrl-C is not for them, and the
// kernel ends them with their parent.
func childSysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// loadRSS is how much memory this process has now, in bytes; 0: not known.
func loadRSS() int64 { return memoryOf(os.Getpid(), "VmRSS") }
