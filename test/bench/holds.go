package main

import (
	"encoding/binary"
	"errors"
	"os"
	"time"
)

// holdLook is the time between two looks at the write lock: so much shorter a hold can
// seem.
const holdLook = 500 * time.Microsecond

// Of the -shm file (https://sqlite.org/walformat.html, 2.1 and 2.3): where the count of
// commits is, and the byte that a writer locks.
const (
	shmCommits   = 8
	shmWriteLock = 120
)

// holding is the longest that a single transaction holds a file's write lock while do
// does, seen from outside.
func holding(db string, do func() error) (longest time.Duration, err error) {
	conn, err := openRaw(db) // has -shm stay
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := numbers(conn, `SELECT count(*) FROM sqlite_schema`); err != nil {
		return 0, err
	}
	shm, err := os.Open(db + "-shm")
	if err != nil {
		return 0, err
	}
	defer shm.Close()

	done, looked := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		longest, err = longestHold(shm, done)
		looked <- err
	}()
	err = do()
	close(done)
	err = errors.Join(err, <-looked)
	return longest, err
}

// longestHold looks until done is closed. A lock that is held is another transaction's
// when there was a commit since the last look.
func longestHold(shm *os.File, done <-chan struct{}) (longest time.Duration, err error) {
	tick := time.NewTicker(holdLook)
	defer tick.Stop()
	var since time.Time // zero: it was free
	var commits uint32
	for {
		select {
		case <-done:
			return longest, nil
		case <-tick.C:
		}
		held, err := locked(shm, shmWriteLock)
		if err != nil {
			return 0, err
		}
		var count [4]byte
		if _, err := shm.ReadAt(count[:], shmCommits); err != nil {
			return 0, err
		}
		now, before := time.Now(), commits
		commits = binary.NativeEndian.Uint32(count[:])
		switch {
		case !held:
			since = time.Time{}
		case since.IsZero() || commits != before:
			since = now
		default:
			longest = max(longest, now.Sub(since))
		}
	}
}
