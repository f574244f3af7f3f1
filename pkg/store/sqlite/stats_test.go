package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
)

// TestStats proves that the counts are those of another program, of whatever queues
// and types there are, and that a look which is given up leaves no transaction behind.
func TestStats(t *testing.T) {
	ctx := t.Context()
	db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	shell(t, db.Path(), `
		WITH queues(queue) AS (VALUES (''), ('a'), ('mail'), ('é')), types(job_type) AS (VALUES (''), ('A'), ('B'), ('b')),
			kinds(status, due) AS (VALUES ('pending', 0), ('pending', 1), ('running', 0), ('completed', 0), ('failed', 0), ('cancelled', 0)),
			n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9)
		INSERT INTO sync_jobs (job_type, queue, status, due, payload, lease_owner, run_at)
		SELECT job_type, queue, status, due, '1', 1, i FROM queues, types, kinds, n
		WHERE i <= 1 + (unicode(queue || 'x') + 3 * unicode(job_type || 'y') + 7 * unicode(status) + due) % 9
			AND NOT (queue = 'mail' AND due = 1)`)
	check := func() {
		t.Helper()
		s, err := db.Stats(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%d|%d|%d|%d|%d\n", s.Pending, s.Running, s.Completed, s.Failed, s.Cancelled)
		for _, of := range s.Types {
			got += fmt.Sprintf("%s|%s|%d|%d\n", of.Type, of.Queue, of.Pending, of.Running)
		}
		want := shell(t, db.Path(), `
			SELECT sum(status = 'pending'), sum(status = 'running'), sum(status = 'completed'), sum(status = 'failed'), sum(status = 'cancelled') FROM sync_jobs;
			SELECT job_type, queue, sum(status = 'pending'), sum(status = 'running') FROM sync_jobs
			WHERE status IN ('pending', 'running') GROUP BY job_type, queue ORDER BY job_type, queue`)
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("counted\n%s, another program\n%s", got, want)
		}
	}
	check()
	if n := shell(t, db.Path(), `SELECT count(DISTINCT job_type || '/' || queue) FROM sync_jobs`); n != "16" {
		t.Errorf("%s pairs: the test has lost its way", n)
	}
	if _, err := db.Enqueue(ctx, jobs.New{Type: "A", Payload: []byte(`1`)}); err != nil {
		t.Fatal(err)
	}
	shell(t, db.Path(), `WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 30000) INSERT INTO sync_jobs (job_type, payload, status) SELECT 'A', '1', 'failed' FROM n`)
	givenUp := 0
	for most := 500 * time.Microsecond; most < 10*time.Millisecond; most += 500 * time.Microsecond {
		short, cancel := context.WithTimeout(ctx, most)
		if _, err := db.Stats(short); errors.Is(err, sqlite3.INTERRUPT) {
			givenUp++
		} else if err != nil && short.Err() == nil {
			t.Error(err)
		}
		cancel()
	}
	if givenUp == 0 {
		t.Error("no look was given up")
	}
	check()
	if out := shell(t, db.Path(), `PRAGMA wal_checkpoint(TRUNCATE)`); out != "0|0|0" {
		t.Errorf("a reader is in the way of a checkpoint: %s", out)
	}
}

// TestStatsOfOneMoment proves that jobs which change from one status to another while
// they are counted are counted once.
func TestStatsOfOneMoment(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "jobs.db")
	db, err := sqlite.Open(ctx, path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const many = 1000
	shell(t, path, fmt.Sprintf(`WITH n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO sync_jobs (job_type, payload, lease_owner) SELECT 'A', '1', 1 FROM n`, many))
	moving, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		var err error
		for err == nil && moving.Err() == nil {
			err = db.Write(ctx, func(tx *sql.Tx) error {
				_, err := tx.Exec(`UPDATE sync_jobs SET status = iif(status = 'pending', 'running', 'pending')`)
				return err
			})
		}
		done <- err
	}()
	found := make(map[bool]int)
	for i := 0; i < 100 || i < 1000 && (found[true] < 10 || found[false] < 10); i++ {
		s, err := db.Stats(ctx)
		if err != nil || s.Pending+s.Running != many || s.Pending*s.Running != 0 {
			t.Fatalf("%v: %d pending and %d running, want %d of one of them", err, s.Pending, s.Running, many)
		}
		found[s.Pending > 0]++
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if len(found) < 2 {
		t.Error("nothing changed: the test has lost its way")
	}
}
