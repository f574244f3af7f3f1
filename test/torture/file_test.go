package torture_test

import (
	"database/sql"
	"testing"

	"github.com/shoal-project/shoal/pkg/store"
)

// makeFile makes the database and the application's own table in it.
func makeFile(t testing.TB, path string) {
	t.Helper()
	q, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if err := q.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(effects); return err }); err != nil {
		t.Fatal(err)
	}
}
