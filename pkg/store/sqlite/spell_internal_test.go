package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// TestSpellEndsForClosures proves that a transaction with foreign code waits for
// the group that is under way and not for the end of a spell that has always
// something to write.
func TestSpellEndsForClosures(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx, stop := context.WithCancel(t.Context())
	var producers sync.WaitGroup
	for range 8 {
		producers.Go(func() {
			for ctx.Err() == nil {
				_, _ = db.Enqueue(ctx, jobs.New{Type: "A", Payload: []byte(`1`)})
			}
		})
	}
	var most int64
	count := func(tx *sql.Tx) (n int64) {
		if err := tx.QueryRow(`SELECT coalesce(max(id), 0) FROM sync_jobs`).Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
	before := int64(-1)
	for range 50 {
		err := db.Write(t.Context(), func(tx *sql.Tx) error {
			n := count(tx)
			if before >= 0 {
				most = max(most, n-before)
			}
			before = n
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	stop()
	producers.Wait()
	// Each group holds at most one job of each producer, and another may be under
	// way when the closure asks; a spell would hold hundreds.
	if most > 40 {
		t.Errorf("%d jobs were written while a closure waited", most)
	}
}
