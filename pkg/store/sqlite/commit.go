package sqlite

import (
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// commit ends the transaction. When COMMIT fails in the file's depths the
// operations may have happened nevertheless (the frames were written, their
// sync failed): they are run again on a fresh connection, knowing so, until that
// is proven or done.
func (w *writer) commit(ops []*op) error {
	err := w.conn.commit()
	switch {
	case err == nil:
		return w.db.stillThere()
	case !w.conn.GetAutocommit() || w.db.noSpace(err):
		w.conn.rollback() // it did not happen
		return w.db.explain(err)
	}
	for _, o := range ops {
		close(o.doubt)
	}
	for pause := 10 * time.Millisecond; err != nil; pause = min(2*pause, time.Second) {
		w.db.log.Error("commit failed: whether it happened is found out on a new connection", zap.Error(err))
		select {
		case <-w.db.alive.Done():
			return fmt.Errorf("%w: commit: %w", jobs.ErrUnknown, err)
		case <-time.After(pause):
		}
		err = w.prove(ops)
	}
	return w.db.stillThere()
}

func (w *writer) prove(ops []*op) error {
	if err := w.connect(); err != nil {
		return err
	}
	w.tx.again = true
	defer func() { w.tx.again = false }()
	if err := w.begin(); err != nil {
		return err
	}
	if _, err := w.runAll(ops); err != nil {
		w.conn.rollback()
		return err
	}
	return w.conn.commit()
}

// fail answers operations whose transaction could not be carried out; nothing
// of it has happened. The connection is replaced: its view may be broken.
func (w *writer) fail(ops []*op, err error) {
	w.conn.rollback()
	if e := w.db.stillThere(); e != nil {
		err = e
	}
	answer(ops, w.db.explain(err))
	if e := w.connect(); e != nil {
		w.db.failed(fmt.Errorf("open the write connection again: %w", e))
	}
}

// broken tells errors of the file or the disk, which hit a whole group, from
// those of one operation.
func broken(err error) bool {
	for _, code := range []sqlite3.ErrorCode{sqlite3.IOERR, sqlite3.FULL, sqlite3.CORRUPT, sqlite3.NOTADB, sqlite3.CANTOPEN, sqlite3.READONLY, sqlite3.BUSY, sqlite3.INTERRUPT} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// noSpace says that a write found the disk full. Then the commit's last frame
// is not in the file: the frames are written in their order. The driver tells a
// full disk only as a write that failed, so the disk is asked.
func (db *DB) noSpace(err error) bool {
	if errors.Is(err, sqlite3.FULL) {
		return true
	}
	var disk unix.Statfs_t
	if !errors.Is(err, sqlite3.IOERR_WRITE) || unix.Statfs(db.path, &disk) != nil {
		return false
	}
	return disk.Bavail*uint64(disk.Bsize) < 1<<20
}

// explain says what a person can do about an error.
func (db *DB) explain(err error) error {
	if db.noSpace(err) {
		return fmt.Errorf("%s: the disk is full, nothing was written: make room and try again: %w", db.path, err)
	}
	return err
}
