package main

import (
	"os"
	"syscall"
)

// childSysProcAttr is how children are started: Ctrl-C is not for them, and the
// kernel ends them with their parent.
func childSysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// loadRSS is how much memory this process has now, in bytes; 0: not known.
func loadRSS() int64 { return memoryOf(os.Getpid(), "VmRSS") }
