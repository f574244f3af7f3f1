package handlers

import (
	"bytes"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// descriptors is the folder of the process's open ones.
const descriptors = "/proc/self/fd"

// kernelClock is the one of Go's timers, for all processes alike.
const kernelClock = unix.CLOCK_MONOTONIC

// ownBinary names the binary that runs, also where its file was replaced since.
func ownBinary() (string, error) { return "/proc/self/exe", nil }

// awaitExit returns when the child has exited, and leaves it to be waited for.
func awaitExit(pid int) {
	for {
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return
		}
	}
}

// ended says whether nothing of a process group that was killed runs any more.
// To be asked once is enough: the kernel lets no process fork while it kills
// the group.
//
// A zombie has ended. It may stay for long where process 1 doesn't wait for
// orphans, as in many containers, so that only /proc can tell.
func ended(pgid int) bool {
	if err := unix.Kill(-pgid, 0); err == unix.ESRCH {
		return true
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer proc.Close()
	names, err := proc.Readdirnames(0)
	if err != nil {
		return false
	}
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil {
			continue
		}
		if stat, err := os.ReadFile("/proc/" + name + "/stat"); err == nil && runsIn(pgid, stat) {
			return false
		}
	}
	return true
}

// runsIn reads a line of proc_pid_stat(5): whether a process is of the group
// and runs. A zombie with threads is one whose first thread alone has ended.
func runsIn(pgid int, stat []byte) bool {
	// The command's name may hold spaces and brackets; state is the field
	// behind it, pgrp is two and num_threads seventeen fields further on.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 18 || string(fields[2]) != strconv.Itoa(pgid) {
		return false
	}
	switch string(fields[0]) {
	case "Z", "X":
		threads, err := strconv.Atoi(string(fields[17]))
		return err == nil && threads > 1
	}
	return true
}
