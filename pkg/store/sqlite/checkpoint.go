package sqlite

import (
	"errors"
	"os"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"
)

// Pages in the -wal file: from the first on they are copied back while others
// write; from the second on the file is made to begin anew, as a busy fleet
// would have it grow for ever otherwise.
const (
	walCopy  = 1000
	walReset = 16000
)

// checkpointPause is the wait after a checkpoint that could not copy all: a
// reader is in the way, and each try costs, the more the longer the file is.
const checkpointPause = 250 * time.Millisecond

// checkpoint runs at the end of a spell, with the baton: where only Shoal writes it
// copies all, and -wal begins anew.
func (w *writer) checkpoint() {
	if w.conn == nil {
		return
	}
	// The first spares most spells the read of the second.
	if w.walPages >= walCopy && w.walPages-w.db.copiedBack() >= walCopy && !time.Now().Before(w.nextCheckpoint) {
		mode := sqlite3.CHECKPOINT_PASSIVE
		if w.walPages >= walReset {
			mode = sqlite3.CHECKPOINT_RESTART
		}
		w.copyBack(mode)
	}
	w.bound()
}

// copyBack copies the -wal file's pages back, and then, where mode asks for it and
// all could be copied, has the file begin anew. That part holds the write lock:
// with nothing left to copy it is short. It never waits, as a reader may stay for
// long.
func (w *writer) copyBack(mode sqlite3.CheckpointMode) {
	w.checkpointing = true
	defer func() { w.checkpointing = false }()
	start := time.Now()
	pages, copied, err := w.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_PASSIVE)
	if err == nil && copied == pages && mode != sqlite3.CHECKPOINT_PASSIVE {
		pages, copied, err = w.conn.WALCheckpoint("main", mode)
	}
	if err != nil || copied < pages {
		w.nextCheckpoint = time.Now().Add(checkpointPause + 4*time.Since(start))
		w.db.log.Debug("checkpoint was not complete", zap.Int("pages", pages), zap.Int("copied", copied), zap.Error(err))
	}
	if err != nil && !errors.Is(err, sqlite3.BUSY) {
		w.db.log.Error("checkpoint failed: it is tried again, and the -wal file grows until then", zap.Error(err))
	}
}

// lastCopy brings all of the -wal file into a database that was moved away from
// it. SQLite's own checkpoint at the end is left out then; but what was
// acknowledged is to be in the file that somebody has taken. Others of the fleet
// are at the same. It is not for a file in whose place another lies: whoever has
// opened that one writes to the same -wal.
func (w *writer) lastCopy() {
	for deadline := time.Now().Add(lastCopyTime); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		if _, _, err := w.conn.WALCheckpoint("main", sqlite3.CHECKPOINT_TRUNCATE); !errors.Is(err, sqlite3.BUSY) {
			return
		}
	}
}

// lastCopyTime is little, as the process is to end within a second.
const lastCopyTime = 500 * time.Millisecond

// walCap is the size of the -wal file to which SQLite cuts it when it begins
// anew (journal_size_limit). Past it for longer than walPatience, somebody is
// told why, and told again each walReminder.
const (
	walCap      = 64 << 20
	walLook     = time.Second
	walPatience = 2 * time.Second
	walReminder = 30 * time.Second
)

// walBound is what the writer knows of a -wal file that is larger than its cap.
type walBound struct {
	looked, over, warned time.Time
}

// bound looks at the -wal file's size, whoever wrote it, also while nobody
// writes: it goes back under its cap once no reader keeps it from that. While one
// does, no checkpoint is tried for it, as that would cost each process of the
// fleet more with every page.
func (w *writer) bound() {
	now := time.Now()
	if now.Sub(w.wal.looked) < walLook {
		return
	}
	w.wal.looked = now
	size := w.db.walBytes()
	if size <= walCap {
		w.wal.over = time.Time{}
		return
	}
	if w.wal.over.IsZero() {
		w.wal.over = now
	}
	at, pinned := oldestReader(w.db.shm)
	if !pinned {
		w.copyBack(sqlite3.CHECKPOINT_TRUNCATE)
		return
	}
	if now.Sub(w.wal.over) < walPatience || now.Sub(w.wal.warned) < walReminder {
		return
	}
	w.wal.warned = now
	fields := []zap.Field{zap.Int64("bytes", size)}
	if h, ok := holderOf(w.db.shm, at); ok {
		fields = append(fields, zap.Stringer("reader", h), zap.Int("pid", h.PID))
	}
	w.db.log.Warn("the -wal file grows, as a reader keeps a transaction open: it shrinks when that ends", fields...)
}

// walBytes is the size of the -wal file; 0: there is none.
func (db *DB) walBytes() int64 {
	info, err := os.Stat(db.path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}
