package sqlite

import (
	"fmt"
	"os"
)

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
