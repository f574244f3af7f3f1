package storetest

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlitetx"
)

// RunTx runs what sqlitetx promises, with whatever driver fresh opens a new
// queue's file with; a busy timeout is set.
func RunTx(t *testing.T, fresh func(t *testing.T) *sql.DB) {
	for name, test := range map[string]func(*testing.T, *sql.DB){
		"Row":         testTxRow,
		"Commit":      testTxCommit,
		"Unique":      testTxUnique,
		"AllOrNone":   testTxAllOrNone,
		"Conn":        testTxConn,
		"Pool":        testTxPool,
		"ReadBefore":  testTxReadBefore,
		"Busy":        testTxBusy,
		"Cancelled":   testTxCancelled,
		"Schema":      testTxSchema,
		"QueueIsFull": testTxQueueIsFull,
	} {
		t.Run(name, func(t *testing.T) {
			db := fresh(t)
			execAll(t, db, `CREATE TABLE orders (id INTEGER PRIMARY KEY)`)
			test(t, db)
			if got := texts(t, db, `PRAGMA integrity_check`); !slices.Equal(got, []string{"ok"}) {
				t.Errorf("integrity: %s", got)
			}
		})
	}
}

// in runs fn in a transaction and commits it.
func in(t *testing.T, db *sql.DB, fn func(*sql.Tx)) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // of what was committed
	fn(tx)
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
}

func put(t *testing.T, tx sqlitetx.Tx, batch ...jobs.New) []int64 {
	t.Helper()
	ids, err := sqlitetx.Enqueue(t.Context(), tx, batch...)
	if err != nil || len(ids) != len(batch) {
		t.Fatalf("ids %v, %v", ids, err)
	}
	return ids
}

// execer is a pool, a connection or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func execAll(t *testing.T, on execer, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := on.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// texts is a query's first column, also after the test, when its context has ended.
func texts(t *testing.T, on execer, query string) (list []string) {
	t.Helper()
	rows, err := on.QueryContext(context.WithoutCancel(t.Context()), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

func is(t *testing.T, on execer, query string, want ...string) {
	t.Helper()
	if got := texts(t, on, query); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", query, got, want)
	}
}

func simple(payload string) jobs.New { return jobs.New{Type: "A", Payload: []byte(payload)} }

// testTxRow proves that each thing of a job reaches its column, with the type
// that the column has.
func testTxRow(t *testing.T, db *sql.DB) {
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	var ids []int64
	in(t, db, func(tx *sql.Tx) {
		ids = put(t, tx, simple(`{"n": "ü"}`), jobs.New{Type: "B", Payload: []byte(`2`), Queue: "mail", Priority: 7, RunAt: at, MaxAttempts: 9,
			Timeout: 90 * time.Second, Unique: jobs.Unique{Key: "k", For: jobs.UniqueForever}})
	})
	const row = `SELECT json_array(job_type, payload, typeof(payload), status, attempts, priority, queue, due, max_attempts, timeout, unique_key, unique_for)
		FROM sync_jobs WHERE id = `
	is(t, db, row+idText(ids[0]), `["A","{\"n\": \"ü\"}","text","pending",0,0,"default",1,null,null,null,null]`)
	is(t, db, row+idText(ids[1]), `["B","2","text","pending",0,7,"mail",0,9,90.0,"k","forever"]`)
	is(t, db, fmt.Sprintf(`SELECT id FROM sync_jobs WHERE run_at = iif(id = %d, created_at, %d) AND abs(created_at - unixepoch()) < 60 ORDER BY id`, ids[0], at.Unix()),
		idText(ids[0]), idText(ids[1]))
}

// testTxCommit: the job and the row beside it are seen by others after the
// commit, not before, and after a rollback neither is there.
func testTxCommit(t *testing.T, db *sql.DB) {
	for _, commit := range []bool{false, true} {
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		execAll(t, tx, `INSERT INTO orders VALUES (1)`)
		put(t, tx, simple(`1`), simple(`2`))
		is(t, db, `SELECT payload FROM sync_jobs`)
		if !commit {
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			is(t, db, `SELECT id FROM orders UNION ALL SELECT payload FROM sync_jobs`)
			continue
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		is(t, db, `SELECT payload FROM sync_jobs, orders ORDER BY 1`, "1", "2")
	}
}

func testTxUnique(t *testing.T, db *sql.DB) {
	keyed := func(payload string, verb jobs.OnConflict, delay time.Duration) jobs.New {
		return jobs.New{Type: "A", Payload: []byte(payload), Delay: delay, Unique: jobs.Unique{Key: "k", OnConflict: verb}}
	}
	in(t, db, func(tx *sql.Tx) {
		first := put(t, tx, keyed(`1`, "", 0))[0]
		put(t, tx, simple(`9`)) // the last row inserted is another's
		for _, c := range []struct {
			n    jobs.New
			want string
		}{{keyed(`2`, jobs.Keep, time.Hour), "1|0"}, {keyed(`3`, jobs.Replace, time.Hour), "3|0"}, {keyed(`4`, jobs.Move, time.Hour), "3|1"}} {
			if ids := put(t, tx, c.n, c.n); ids[0] != first || ids[1] != first {
				t.Errorf("%s: ids %v, want the existing %d", c.n.Unique.OnConflict, ids, first)
			}
			is(t, tx, `SELECT payload || '|' || (run_at > created_at + 3000) FROM sync_jobs WHERE id = `+idText(first), c.want)
		}
	})
	is(t, db, `SELECT count(*) FROM sync_jobs`, "2")
}

// testTxAllOrNone: a job that is refused, by Check or by the file, takes the
// others of its call with it and nothing else of the transaction.
func testTxAllOrNone(t *testing.T, db *sql.DB) {
	execAll(t, db, `CREATE TRIGGER house_rule BEFORE INSERT ON sync_jobs WHEN NEW.job_type = 'Forbidden' BEGIN SELECT RAISE(ABORT, 'no such work here'); END`)
	in(t, db, func(tx *sql.Tx) {
		execAll(t, tx, `INSERT INTO orders VALUES (1)`)
		put(t, tx, simple(`1`))
		for want, bad := range map[string]jobs.New{
			"not JSON":          {Type: "A", Payload: []byte(`{`)},
			"no such work here": {Type: "Forbidden", Payload: []byte(`1`)},
		} {
			if ids, err := sqlitetx.Enqueue(t.Context(), tx, simple(`2`), bad, simple(`3`)); err == nil || !strings.Contains(err.Error(), want) || ids != nil {
				t.Errorf("ids %v, error %v, want %q", ids, err, want)
			}
		}
		put(t, tx, simple(`4`))
		if ids, err := sqlitetx.Enqueue(t.Context(), tx); err != nil || ids != nil {
			t.Errorf("nothing to enqueue: %v, %v", ids, err)
		}
	})
	is(t, db, `SELECT payload FROM sync_jobs, orders ORDER BY 1`, "1", "4")
}
