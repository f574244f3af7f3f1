package jobs

import (
	"context"
	"database/sql"
)

// Tables is how a package that keeps rows of its own beside the queue (the
// peers' address book, a bucket's log) reaches them. Its DDL is part of the
// engine's migrations.
type Tables interface {
	// Read returns a pool of read-only connections.
	Read() *sql.DB
	// Write runs fn and enqueues jobs in one transaction, under the process's
	// write mutex, and commits it when fn returns nil. fn must be quick (5 s at
	// most) and must not call the store. The jobs are not bound by the file's
	// limit of pending ones.
	Write(ctx context.Context, fn func(*sql.Tx) error, follow ...New) error
}
