package sqlitetx_test

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
	"github.com/shoal-project/shoal/pkg/store/sqlitetx"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// TestTx runs the suite with the engine's own driver, in a pool that is the
// application's, beside an open store. In test/foreign it runs with others.
func TestTx(t *testing.T) {
	storetest.RunTx(t, func(t *testing.T) *sql.DB { _, db := both(t); return db })
}

// both opens a new queue, and its file as an application does.
func both(t *testing.T) (store.Store, *sql.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	q, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_pragma=busy_timeout(5000)&_pragma=synchronous(full)"}
	db, err := sql.Open("sqlite3", name.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return q, db
}

// TestAsTheEngine: a job is the same whichever way it came in, and a key is
// taken for both.
func TestAsTheEngine(t *testing.T) {
	q, db := both(t)
	n := jobs.New{Type: "A", Payload: []byte(`{"n": 1}`), Queue: "mail", Priority: -3, MaxAttempts: 2, Timeout: 1500,
		Unique: jobs.Unique{Key: "k"}, Meta: map[string]string{"tenant": "acme"}}
	free := n
	free.Unique = jobs.Unique{}
	added, err := q.Enqueue(t.Context(), n, free)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	ids, err := sqlitetx.Enqueue(t.Context(), tx, n, free)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if ids[0] != added[0].ID || ids[1] == added[1].ID {
		t.Errorf("ids %v after %+v", ids, added)
	}
	var rows [2]jobs.Row
	for i, id := range []int64{added[1].ID, ids[1]} {
		if rows[i], _, err = q.Job(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if string(rows[i].Meta) != `{"tenant":"acme"}` {
			t.Errorf("meta: %s", rows[i].Meta)
		}
		if rows[i].RunAt != rows[i].CreatedAt {
			t.Errorf("runs at %v, was made at %v", rows[i].RunAt.Time(), rows[i].CreatedAt.Time())
		}
		rows[i].ID, rows[i].CreatedAt, rows[i].RunAt = 0, 0, 0
	}
	if diff := cmp.Diff(rows[0], rows[1]); diff != "" {
		t.Error(diff)
	}
}
