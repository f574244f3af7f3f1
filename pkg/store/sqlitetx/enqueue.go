package sqlitetx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/internal/insert"
)

// Tx is an *sql.Tx, or an *sql.Conn with an open transaction.
type Tx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Enqueue adds jobs to the transaction and returns their ids, in their order:
// that of the job which has the key already, if one is Unique. The jobs are
// there, durably and for others to see, once the transaction has committed. An
// *sql.Conn that is in no transaction commits them by itself.
//
// It adds all or none: after an error the transaction is what it was, unless
// SQLite has rolled back the whole of it (on a full disk, or when ctx ended).
// Errors: those of [jobs.New.Check], those of the driver, and two that say in
// one line that the file holds no queue, or one of another version.
func Enqueue(ctx context.Context, tx Tx, batch ...jobs.New) ([]int64, error) {
	for _, n := range batch {
		if err := n.Check(); err != nil {
			return nil, fmt.Errorf("enqueue: %w", err)
		}
	}
	if _, pool := tx.(interface{ SetMaxOpenConns(int) }); pool {
		return nil, errors.New("enqueue: an *sql.DB is many connections and no transaction: give an *sql.Tx, or an *sql.Conn")
	}
	if len(batch) == 0 {
		return nil, ctx.Err()
	}
	ids, err := addAll(ctx, tx, batch)
	if err != nil {
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	return ids, nil
}

// undoTime bounds what is said to a connection after an error. It waits for no lock.
const undoTime = 5 * time.Second

func addAll(ctx context.Context, tx Tx, batch []jobs.New) (ids []int64, err error) {
	if _, err := tx.ExecContext(ctx, `SAVEPOINT sync_enqueue`); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
			defer cancel()
			// They fail only where the whole transaction is gone.
			_, _ = tx.ExecContext(undo, `ROLLBACK TO sync_enqueue`)
			_, _ = tx.ExecContext(undo, `RELEASE sync_enqueue`)
		}
	}()
	now, prepared := float64(jobs.SecondsOf(time.Now())), statements{}
	defer prepared.close()
	for _, n := range batch {
		text, args := insert.Statement(n, now)
		id, err := prepared.add(ctx, tx, text, args, n.Unique.Key != "")
		if err != nil {
			return nil, explain(ctx, tx, text, err)
		}
		ids = append(ids, id)
	}
	// Not before: a transaction that reads first fails with SQLITE_BUSY when
	// somebody else commits before it writes.
	if err := checkVersion(ctx, tx); err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `RELEASE sync_enqueue`)
	return ids, err
}

// statements are those that one call has prepared, by their text.
type statements map[string]*sql.Stmt

func (s statements) add(ctx context.Context, tx Tx, text string, args []any, returnsID bool) (id int64, err error) {
	stmt, ok := s[text]
	if !ok {
		if stmt, err = tx.PrepareContext(ctx, text); err != nil {
			return 0, err
		}
		s[text] = stmt
	}
	if returnsID {
		err := stmt.QueryRowContext(ctx, args...).Scan(&id)
		return id, err
	}
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.LastInsertId()
}

func (s statements) close() {
	for _, stmt := range s {
		_ = stmt.Close() // it has told its errors
	}
}
