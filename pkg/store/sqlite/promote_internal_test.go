package sqlite

import (
	"path/filepath"
	"testing"
	"time"
)

// TestPromoteBacklog proves that of a backlog that has come due a turn promotes no more
// than a bite where that is as many as it may claim, so that its transaction is short.
func TestPromoteBacklog(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.writer.do(t.Context(), func(tx *tx) error {
		_, err := tx.exec(`INSERT INTO sync_jobs (job_type, payload, run_at) WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) SELECT 'T', '{}', n FROM n`)
		if err != nil {
			return err
		}
		for turn := range int64(3) {
			tx.promoted = time.Now().Add(time.Minute) // a moment ago, however slow this is
			if next, err := tx.promote([]claim{{free: 30}, {free: 20}}); err != nil || next != time.Millisecond {
				t.Errorf("promote: %v, %v", next, err)
			}
			due, err := tx.number(`SELECT count(*) FROM sync_jobs WHERE due = 1`)
			if err != nil {
				return err
			}
			if want := (turn + 1) * promoteBite; due != want {
				t.Errorf("after turn %d %d are due, want %d", turn+1, due, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
