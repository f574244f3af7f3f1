package sqlite

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// fdLock is a lock that was taken through one descriptor of one process: a
// "lock:" line of /proc/PID/fdinfo/FD.
type fdLock struct {
	fd          string // the descriptor's link, /proc/PID/fd/FD
	kind        string // POSIX, OFDLCK, FLOCK, …
	first, last int64  // the bytes, both included
}

// on reports whether the lock is on that file. It asks the descriptor, as the
// device in the line is not stat's where a file system has several (btrfs).
func (l fdLock) on(file os.FileInfo) bool {
	info, err := os.Stat(l.fd)
	return err == nil && os.SameFile(info, file)
}

// locksOf lists the locks of the process whose folder in /proc is named.
func locksOf(proc string) ([]fdLock, error) {
	fds, err := os.ReadDir(filepath.Join(proc, "fdinfo"))
	if err != nil {
		return nil, err
	}
	var locks []fdLock
	for _, fd := range fds {
		text, err := os.ReadFile(filepath.Join(proc, "fdinfo", fd.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(text)) {
			if l, ok := parseLock(line); ok {
				l.fd = filepath.Join(proc, "fd", fd.Name())
				locks = append(locks, l)
			}
		}
	}
	return locks, nil
}

// parseLock reads a line as proc_pid_fdinfo(5) shows it:
//
//	lock: 1: OFDLCK ADVISORY WRITE -1 08:01:4711 120 120
//
// with "EOF" for a lock without end.
func parseLock(line string) (fdLock, bool) {
	f := strings.Fields(line)
	if len(f) != 9 || f[0] != "lock:" {
		return fdLock{}, false
	}
	l := fdLock{kind: f[2], last: math.MaxInt64}
	var err error
	if l.first, err = strconv.ParseInt(f[7], 10, 64); err != nil {
		return fdLock{}, false
	}
	if f[8] != "EOF" {
		if l.last, err = strconv.ParseInt(f[8], 10, 64); err != nil {
			return fdLock{}, false
		}
	}
	return l, true
}

// findHolder looks through all processes for one with a lock on byte at of
// file. Of the write lock there is at most one.
func findHolder(file *os.File, at int64) (pid int, ok bool) {
	info, err := file.Stat()
	if err != nil {
		return 0, false
	}
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, false
	}
	for _, proc := range procs {
		pid, err := strconv.Atoi(proc.Name())
		if err != nil {
			continue
		}
		locks, err := locksOf(filepath.Join("/proc", proc.Name()))
		if err != nil {
			continue // it ended meanwhile, or is not ours to look into
		}
		for _, l := range locks {
			if l.first <= at && at <= l.last && l.on(info) {
				return pid, true
			}
		}
	}
	return 0, false
}

// describe adds what /proc/PID/stat tells: "PID (name) state …". The name may
// hold blanks and parentheses itself.
func describe(pid int) holder {
	h := holder{PID: pid}
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return h
	}
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open || end+2 >= len(text) {
		return h
	}
	state := text[end+2]
	h.Name, h.Stopped = string(text[open+1:end]), state == 'T' || state == 't'
	return h
}
