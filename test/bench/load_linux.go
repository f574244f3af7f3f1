package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// loadSysProcAttr is how the load's processes are started: Ctrl-C is not for them, and
// the kernel ends them with their parent.
func loadSysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// loadRSS is how much memory this process has now, in bytes; 0: not known.
func loadRSS() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text)) // proc(5): size, resident, … in pages
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
