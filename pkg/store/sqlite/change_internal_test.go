package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// fill adds n jobs that completed a day ago.
func fill(t *testing.T, db *DB, n, size int) {
	t.Helper()
	err := db.writer.do(t.Context(), func(tx *tx) error {
		_, err := tx.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
			INSERT INTO sync_jobs (job_type, payload, status, attempts, lease_token, completed_at)
			SELECT 'A', '"' || hex(zeroblob(?2)) || '"', 'completed', 1, 1, unixepoch() - 86400 FROM n`, n, size/2)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestChangeLetsOthersWrite proves that what is done to very many jobs, or to very
// large ones, leaves another process's producer going: it waits for a bite, not
// for all of them.
func TestChangeLetsOthersWrite(t *testing.T) {
	many := 200_000
	if race { // tenfold as slow
		many = 5_000
	}
	for _, c := range []struct {
		what    string
		n, size int
		change  jobs.Verb
	}{
		{"delete many", many, 20, jobs.Delete},
		{"retry large", 100, jobs.MaxPayload - 2, jobs.Retry},
		{"delete large", 100, jobs.MaxPayload - 2, jobs.Delete},
	} {
		t.Run(c.what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "jobs.db")
			db, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			fill(t, db, c.n, c.size)
			other, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			ctx, cancel := context.WithCancel(t.Context())
			waits := make(chan []time.Duration)
			go func() {
				var all []time.Duration
				for ctx.Err() == nil {
					start := time.Now()
					if _, err := other.Enqueue(context.Background(), jobs.New{Type: "B", Payload: []byte(`1`)}); err != nil {
						t.Error(err)
					}
					all = append(all, time.Since(start))
				}
				waits <- all
			}()
			start := time.Now()
			changed, err := db.Change(t.Context(), jobs.Filter{EndedBefore: time.Now()}, jobs.Change{Verb: c.change})
			took := time.Since(start)
			cancel()
			all := <-waits
			if err != nil || changed.Count != int64(c.n) {
				t.Errorf("changed %+v, %v", changed, err)
			}
			slices.Sort(all)
			t.Logf("%d jobs in %v; meanwhile %d enqueues, which took %v at the median, %v at most",
				c.n, took.Round(time.Millisecond), len(all), all[len(all)/2].Round(10*time.Microsecond), all[len(all)-1].Round(time.Millisecond))
			if worst := all[len(all)-1]; worst > 5*time.Second { // a slow machine; all of it takes longer on any
				t.Errorf("an enqueue took %v", worst)
			}
		})
	}
}

// TestChangeInDoubt proves that a bite whose commit failed in a way that leaves
// open whether it happened is counted once, whether it did or not, and that it is
// not done again to a job that has gone on since.
func TestChangeInDoubt(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	boom := errors.New("boom")
	for verb, after := range map[jobs.Verb]string{jobs.Retry: "completed", jobs.Cancel: "cancelled", jobs.Delete: "", jobs.Prioritize: "pending"} {
		for _, happened := range []bool{true, false} {
			job := jobs.New{Type: "A", Payload: []byte(`1`), Delay: time.Hour}
			added, err := db.Enqueue(t.Context(), job, job)
			if err != nil {
				t.Fatal(err)
			}
			ids := []int64{added[0].ID, added[1].ID, 1 << 40}
			b := &bite{changing: &changing{db: db, change: jobs.Change{Verb: verb}, time: time.Hour}, ids: ids}
			err = db.writer.do(t.Context(), func(t *tx) error {
				err := b.run(t)
				if err == nil && !happened {
					err = boom // it is rolled back
				}
				return err
			})
			if happened == (err != nil) {
				t.Fatal(err)
			}
			want := after
			if verb == jobs.Retry && !happened {
				want = "pending"
			} else if verb == jobs.Retry { // a worker takes it meanwhile
				err = db.Write(t.Context(), func(tx *sql.Tx) error {
					_, err := tx.Exec(`UPDATE sync_jobs SET status = 'completed', completed_at = unixepoch() WHERE id = ?`, ids[0])
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			err = db.writer.do(t.Context(), func(t *tx) error {
				t.again = true
				defer func() { t.again = false }()
				return b.run(t)
			})
			if err != nil || !slices.Equal(b.changed, ids[:2]) || b.looked != 3 {
				t.Errorf("%s, happened: %v: changed %v of %v, %v", verb, happened, b.changed, ids, err)
			}
			if row, _, _ := db.Job(t.Context(), ids[0]); string(row.Status) != want {
				t.Errorf("%s, happened: %v: job is %q, want %q", verb, happened, row.Status, want)
			}
		}
	}
}
