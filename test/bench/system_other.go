//go:build !linux

package main

import (
	"os"
	"syscall"
)

// seesLocks says that locked can tell.
const seesLocks = false

func locked(*os.File, int64) (bool, error) { return false, nil }

// childSysProcAttr is how children are started: Ctrl-C is not for them. With their
// parent their input ends.
func childSysProcAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// loadRSS is the most memory that this process has had, in bytes (getrusage(2) of
// darwin); 0: not known. What it has now the system tells only programs in C.
func loadRSS() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Maxrss
}
