package sqlite

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// closureTime bounds a transaction with foreign code in it: all writers of the
// file wait for it.
const closureTime = 5 * time.Second

var (
	errTooLong = fmt.Errorf("it took longer than %v, as nobody else can write meanwhile: it was rolled back", closureTime)
	errOver    = errors.New("the function ended the transaction that it was given")
)

// Write implements jobs.Tables.
func (db *DB) Write(ctx context.Context, fn func(*sql.Tx) error, follow ...jobs.New) error {
	for _, n := range follow {
		if err := n.Check(); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return wrapError("write", db.inTx(ctx, nil, fn, follow))
}

// inTx runs in one transaction, on the connection that is kept for that: first (the
// engine's), then fn (foreign code), then the enqueueing of follow; any of them may be
// absent. A commit that failed but may have happened is ErrUnknown.
//
// When the transaction's context ends, database/sql rolls back from another goroutine.
// So the engine's statements run under database/sql's lock of the connection (native),
// and only while the transaction is open.
func (db *DB) inTx(ctx context.Context, first func(*tx) error, fn func(*sql.Tx) error, follow []jobs.New) error {
	db.closures.Add(1) // a spell ends for it
	defer db.closures.Add(-1)
	select {
	case db.writing <- struct{}{}:
		defer func() { <-db.writing }()
	case <-db.alive.Done():
		return db.closed()
	case <-ctx.Done():
		return ctx.Err()
	}
	db.baton.take(func() bool { return db.alive.Err() == nil && ctx.Err() == nil })
	defer db.baton.pass()
	if db.alive.Err() != nil {
		return db.closed()
	}
	pooled, err := db.alone.Conn(ctx)
	if err != nil {
		return err
	}
	defer pooled.Close()
	bounded, end := context.WithCancelCause(ctx)
	defer end(nil)
	user, err := pooled.BeginTx(bounded, nil)
	if err != nil {
		return err
	}
	defer user.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	defer time.AfterFunc(closureTime, func() { end(errTooLong) }).Stop()

	own := func(step func(*tx) error) error {
		if bounded.Err() != nil {
			return context.Cause(bounded)
		}
		return native(pooled, func(c *conn) error {
			if c.GetAutocommit() {
				return errOver
			}
			return step(&tx{conn: c, now: db.now(), mono: db.clock.Now()})
		})
	}
	if err := own(func(t *tx) error { _, err := db.checkSchema(t.conn); return err }); err != nil {
		return err
	}
	if first != nil {
		if err := own(first); err != nil {
			return err
		}
	}
	if fn != nil {
		if err := fn(user); err != nil {
			return err
		}
	}
	if err := own(func(t *tx) error { _, err := t.enqueue(follow); return err }); err != nil {
		return err
	}
	err = user.Commit()
	switch {
	case err == nil:
		return db.stillThere()
	case bounded.Err() != nil || errors.Is(err, sql.ErrTxDone):
		return errors.Join(context.Cause(bounded), err) // it was rolled back before
	case !broken(err):
		return err // a deferred constraint, say: it did not happen
	}
	// The pool is to open a new connection: this one's view may be broken.
	_ = pooled.Raw(func(any) error { return sqldriver.ErrBadConn })
	if db.noSpace(err) {
		return db.explain(err)
	}
	return fmt.Errorf("%w: commit: %w", jobs.ErrUnknown, err)
}
