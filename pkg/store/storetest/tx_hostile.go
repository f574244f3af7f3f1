package storetest

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlitetx"
)

// testTxConn: a connection's own transaction, begun with SQL, and none at all.
func testTxConn(t *testing.T, db *sql.DB) {
	c := conn(t, db)
	execAll(t, c, `BEGIN IMMEDIATE`)
	put(t, c, simple(`1`))
	is(t, db, `SELECT payload FROM sync_jobs`)
	execAll(t, c, `ROLLBACK`)
	put(t, c, simple(`2`), simple(`3`))
	is(t, db, `SELECT payload FROM sync_jobs ORDER BY id`, "2", "3")
	refused(t, c, "not JSON", jobs.New{Type: "A", Payload: []byte(`{`)})
	execAll(t, c, `BEGIN`, `COMMIT`) // no transaction was left open
}

// testTxPool: each statement on a pool may go to another connection.
func testTxPool(t *testing.T, db *sql.DB) {
	refused(t, db, "give an *sql.Tx", simple(`1`))
}

// testTxReadBefore proves that Enqueue's first act is its write: in a deferred
// transaction that did nothing yet, a commit of somebody else does no harm.
func testTxReadBefore(t *testing.T, db *sql.DB) {
	c := conn(t, db)
	execAll(t, c, `BEGIN`)
	execAll(t, db, `INSERT INTO orders VALUES (1)`)
	put(t, c, simple(`1`))
	execAll(t, c, `COMMIT`)
	is(t, db, `SELECT payload FROM sync_jobs`, "1")
}

// testTxBusy: after the write lock could not be had the same transaction may
// try again, although others have committed meanwhile.
func testTxBusy(t *testing.T, db *sql.DB) {
	c, other := conn(t, db), conn(t, db)
	execAll(t, c, `PRAGMA busy_timeout = 20`, `BEGIN`)
	execAll(t, other, `BEGIN IMMEDIATE`, `INSERT INTO orders VALUES (1)`)
	refused(t, c, "locked", simple(`1`))
	execAll(t, other, `COMMIT`)
	put(t, c, simple(`2`))
	execAll(t, c, `COMMIT`)
	is(t, db, `SELECT payload FROM sync_jobs`, "2")
}

func testTxCancelled(t *testing.T, db *sql.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in(t, db, func(tx *sql.Tx) {
		for _, batch := range [][]jobs.New{nil, {simple(`1`)}} {
			if _, err := sqlitetx.Enqueue(ctx, tx, batch...); !errors.Is(err, context.Canceled) {
				t.Errorf("%d jobs: %v", len(batch), err)
			}
		}
	})
	is(t, db, `SELECT payload FROM sync_jobs`)
}

// testTxSchema: a file without a queue, or with one of another version, is
// refused in one line that names the way out, and nothing is left behind.
func testTxSchema(t *testing.T, db *sql.DB) {
	c := conn(t, db)
	refusedIn := func(want string) {
		t.Helper()
		execAll(t, c, `BEGIN`)
		refused(t, c, want, simple(`1`))
		execAll(t, c, `COMMIT`)
	}
	execAll(t, db, `UPDATE sync_meta SET value = '77' WHERE key = 'schema_version'`)
	refusedIn("schema version 77")
	is(t, db, `SELECT payload FROM sync_jobs`)
	execAll(t, db, `UPDATE sync_meta SET value = '0' WHERE key = 'schema_version'`, `ALTER TABLE sync_jobs RENAME COLUMN timeout TO most`)
	refusedIn("schema version 0")
	execAll(t, db, `DROP TABLE sync_jobs`)
	refusedIn("holds no queue")
}

// testTxQueueIsFull: the limit binds Store.Enqueue alone.
func testTxQueueIsFull(t *testing.T, db *sql.DB) {
	execAll(t, db, `INSERT INTO sync_meta VALUES ('max_pending', '1')`)
	in(t, db, func(tx *sql.Tx) { put(t, tx, simple(`1`), simple(`2`)) })
}

func conn(t *testing.T, db *sql.DB) *sql.Conn {
	t.Helper()
	c, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// refused wants one line with the text in it.
func refused(t *testing.T, tx sqlitetx.Tx, want string, batch ...jobs.New) {
	t.Helper()
	ids, err := sqlitetx.Enqueue(t.Context(), tx, batch...)
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || ids != nil {
		t.Errorf("ids %v, error %v; want one line with %q", ids, err, want)
	}
}
