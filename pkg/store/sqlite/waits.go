package sqlite

import (
	"sync"
	"time"
)

// waits is what is known of the process's last wait for SQLite's write lock. It
// has one at a time: its writers have a mutex before the lock.
type waits struct {
	sync.Mutex
	since, last time.Time // turned away for the first and for the last time
}

func (w *waits) turnedAway(since time.Time) {
	w.Lock()
	defer w.Unlock()
	w.since, w.last = since, time.Now()
}

// Waits is how long this process has been waiting for the write lock, which
// another holds; 0 where it does not wait. What it writes itself, however slow
// the disk, is no wait.
func (db *DB) Waits() time.Duration {
	db.waits.Lock()
	defer db.waits.Unlock()
	// While it waits it is turned away a thousand times a second.
	if time.Since(db.waits.last) > time.Second {
		return 0
	}
	return db.waits.last.Sub(db.waits.since)
}
