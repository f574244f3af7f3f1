package sqlite

import (
	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"
)

// Pages in the -wal file: from the first on they are copied back while others
// write; from the second on writers are held until the file can begin anew, as
// a busy fleet would make it grow for ever otherwise.
const (
	walCopy  = 1000
	walReset = 16000
)

// checkpoint runs between groups, after their callers were answered.
func (w *writer) checkpoint() {
	if w.walPages < walCopy {
		return
	}
	mode := sqlite3.CHECKPOINT_PASSIVE
	if w.walPages >= walReset {
		mode = sqlite3.CHECKPOINT_RESTART
	}
	if _, _, err := w.conn.WALCheckpoint("main", mode); err != nil {
		w.db.log.Debug("checkpoint", zap.Error(err)) // a reader was in the way: the next one
	}
}
