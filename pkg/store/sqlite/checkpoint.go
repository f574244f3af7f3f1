package sqlite

import (
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
// reader is in the way, and each try costs.
const checkpointPause = 250 * time.Millisecond

// checkpoint runs between groups, after their callers were answered. It never
// waits: to begin anew it holds the write lock, and a reader may stay for long.
func (w *writer) checkpoint() {
	if w.conn == nil || w.walPages < walCopy || time.Now().Before(w.nextCheckpoint) {
		return
	}
	mode := sqlite3.CHECKPOINT_PASSIVE
	if w.walPages >= walReset {
		mode = sqlite3.CHECKPOINT_RESTART
	}
	w.checkpointing = true
	pages, copied, err := w.conn.WALCheckpoint("main", mode)
	w.checkpointing = false
	if err != nil || copied < pages {
		w.nextCheckpoint = time.Now().Add(checkpointPause)
		w.db.log.Debug("checkpoint was not complete", zap.Int("pages", pages), zap.Int("copied", copied), zap.Error(err))
	}
}
