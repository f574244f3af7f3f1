package sqlite

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// patience is a busy handler's wait: short and random, as SQLite's lock knows
// no queue. It gives up after most; 0: never.
func patience(most time.Duration, goOn func() bool) func(context.Context, int) bool {
	var since time.Time
	return func(ctx context.Context, count int) bool {
		if count == 0 {
			since = time.Now()
		}
		if (most > 0 && time.Since(since) >= most) || (goOn != nil && !goOn()) {
			return false
		}
		pause := time.Duration(rand.Int64N(int64(time.Millisecond)))
		if count == 0 {
			pause /= 4
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
			return true
		}
	}
}

// stallWarning is how long the write lock is waited for before its holder is looked
// for and named, and the least time between two looks; stallReminder is the least time
// before the same one is named again.
const (
	stallWarning  = time.Second
	stallReminder = 10 * time.Second
)

// waits is what is known of the process's last wait for SQLite's write lock. It
// has one at a time: its writers have a mutex before the lock.
type waits struct {
	sync.Mutex
	since, last time.Time // when the lock was first and last found taken
	looked      time.Time // when its holder was last looked for
	named       time.Time // when one was last named
	pid         int       // of that one
}

func (w *waits) turnedAway(first bool) (waited time.Duration) {
	w.Lock()
	defer w.Unlock()
	w.last = time.Now()
	if first {
		w.since = w.last
	}
	return w.last.Sub(w.since)
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

// patience waits for the write lock for as long as goOn says and the store is
// open, and names the process that sits on it.
func (db *DB) patience(goOn func() bool) func(context.Context, int) bool {
	wait := patience(0, func() bool { return db.alive.Err() == nil && goOn() })
	return func(ctx context.Context, count int) bool {
		if db.waits.turnedAway(count == 0) > stallWarning {
			db.nameHolder()
		}
		return wait(ctx, count)
	}
}

// nameHolder logs who sits on the write lock, if it is another process. Several
// find out about it, again and again: once is enough.
func (db *DB) nameHolder() {
	w, now := &db.waits, time.Now()
	w.Lock()
	defer w.Unlock()
	if now.Sub(w.looked) < stallWarning {
		return
	}
	w.looked = now
	h, ok := holderOf(db.shm, walWriteLock)
	if !ok || h.PID == os.Getpid() || h.PID == w.pid && now.Sub(w.named) < stallReminder {
		return
	}
	w.pid, w.named = h.PID, now
	db.log.Warn("waiting for SQLite's write lock", zap.Stringer("holder", h), zap.Int("pid", h.PID))
}
