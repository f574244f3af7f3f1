package jobs_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// queue is a fresh queue in a file, with what the tests do to it. At the test's
// end, when its workers have stopped, the invariants of the file are checked.
type queue struct {
	*testing.T
	store.Store
	path   string
	other  *sql.DB // another program's connection
	joined map[*jobs.Worker]chan struct{}
}

func newQueue(t *testing.T, o store.Options) *queue {
	t.Helper()
	t.Parallel()
	q := &queue{T: t, path: filepath.Join(t.TempDir(), "jobs.db"), joined: map[*jobs.Worker]chan struct{}{}}
	q.Store = q.open(o)
	var err error
	if q.other, err = driver.Open("file:" + q.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.other.Close() })
	t.Cleanup(q.checkInvariants)
	return q
}

// open opens the file once more, as another process would.
func (q *queue) open(o store.Options) store.Store {
	q.Helper()
	s, err := store.Open(q.Context(), q.path, o)
	if err != nil {
		q.Fatal(err)
	}
	q.Cleanup(func() {
		if err := s.Close(); err != nil {
			q.Errorf("close: %v", err)
		}
	})
	return s
}

// exec is what another program does to the file.
func (q *queue) exec(query string, args ...any) {
	q.Helper()
	if _, err := q.other.ExecContext(context.WithoutCancel(q.Context()), query, args...); err != nil {
		q.Fatalf("%s: %v", query, err)
	}
}

// value is what another program reads: columns joined by |, rows by a newline.
func (q *queue) value(query string, args ...any) string {
	q.Helper()
	found, err := q.read(query, args...)
	if err != nil {
		q.Fatalf("%s: %v", query, err)
	}
	return found
}

func (q *queue) read(query string, args ...any) (string, error) {
	rows, err := q.other.QueryContext(context.WithoutCancel(q.Context()), query, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return "", err
	}
	var lines []string
	for rows.Next() {
		fields, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
		for i := range fields {
			into[i] = &fields[i]
		}
		if err := rows.Scan(into...); err != nil {
			return "", err
		}
		line := make([]string, len(fields))
		for i, f := range fields {
			line[i] = f.String
			if !f.Valid {
				line[i] = "NULL"
			}
		}
		lines = append(lines, strings.Join(line, "|"))
	}
	return strings.Join(lines, "\n"), rows.Err()
}

// eventually looks at the file, which tells nobody, until it says so.
func (q *queue) eventually(want, query string, args ...any) {
	q.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		got := q.value(query, args...)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			q.Fatalf("%s %v: it remains %q, want %q", query, args, got, want)
		}
	}
}

// ends waits until the job has the status, and returns it with its history.
func (q *queue) ends(id int64, status jobs.Status) (jobs.Row, []jobs.Attempt) {
	q.Helper()
	q.eventually(string(status), `SELECT status FROM sync_jobs WHERE id = ?`, id)
	row, history, err := q.Job(q.Context(), id)
	if err != nil {
		q.Fatal(err)
	}
	return row, history
}

// worker makes a worker whose seat start waits for.
func (q *queue) worker(s jobs.Store, o jobs.WorkerOptions) *jobs.Worker {
	joined := make(chan struct{})
	o.Joined = func() { close(joined) }
	w := jobs.NewWorker(s, o)
	q.joined[w] = joined
	return w
}

// start runs a worker until stop or the test's end; Run must return nil. It
// has its seat when start returns.
func (q *queue) start(w *jobs.Worker) (stop func()) {
	q.Helper()
	ctx, cancel := context.WithCancel(q.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				q.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			all := make([]byte, 1<<20)
			q.Errorf("Run does not return:\n%s", all[:runtime.Stack(all, true)])
		}
	})
	q.Cleanup(stop)
	expect(q, "the worker's seat", q.joined[w])
	return stop
}

// runUntilEmpty runs a worker that stops by itself.
func (q *queue) runUntilEmpty(w *jobs.Worker) {
	q.Helper()
	ctx, cancel := context.WithTimeout(q.Context(), patience)
	defer cancel()
	if err := w.Run(ctx); err != nil {
		q.Errorf("Run: %v", err)
	}
	if ctx.Err() != nil {
		q.Error("Run did not return by itself")
	}
}

// checkInvariants looks, as another program, for what must never be found once
// no worker runs.
func (q *queue) checkInvariants() {
	for what, query := range map[string]string{
		"nothing runs, and nobody is there": `SELECT id FROM sync_jobs WHERE status = 'running' UNION ALL SELECT id FROM sync_workers`,
		"nobody leads":                      `SELECT name FROM sync_leases WHERE owner IS NOT NULL`,
		"no lease is left":                  `SELECT id FROM sync_jobs WHERE lease_expires_at IS NOT NULL`,
		"what has ended says when, what has not does not": `SELECT id FROM sync_jobs
			WHERE (status IN ('completed', 'failed', 'cancelled')) <> (completed_at IS NOT NULL)`,
		"a completed job has no error, a failed one has": `SELECT id FROM sync_jobs
			WHERE status = 'completed' AND error IS NOT NULL OR status = 'failed' AND error IS NULL`,
		"attempts stay within their limit and under the token": `SELECT id FROM sync_jobs
			WHERE attempts > max_attempts OR attempts < 0 OR lease_token < attempts`,
		"history is of a job's own attempts": `SELECT e.job_id FROM sync_job_errors e LEFT JOIN sync_jobs j ON j.id = e.job_id
			WHERE j.id IS NULL OR e.lease_token > j.lease_token OR e.ended_at < e.started_at`,
		"the counts are of what is there": `SELECT queue, job_type, sum(jobs), sum(pending) FROM (SELECT * FROM sync_counts
			UNION ALL SELECT queue, job_type, -1, -(status = 'pending') FROM sync_jobs) GROUP BY 1, 2 HAVING sum(jobs) <> 0 OR sum(pending) <> 0`,
		"the file is sound": `SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'`,
	} {
		if found, err := q.read(query); err != nil || found != "" {
			q.Errorf("not so: %s: %q, %v", what, found, err)
		}
	}
}

// expect is what came through the channel, which must come.
func expect[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("never came: %s", what)
		panic("not reached")
	}
}

func enqueue[T any](q *queue, jobType string, payload T, opts ...jobs.Option) int64 {
	q.Helper()
	id, err := jobs.Enqueue(q.Context(), q, jobType, payload, opts...)
	if err != nil {
		q.Fatal(err)
	}
	return id
}

// untilEmpty are options of a worker that goes as fast as it can and stops.
func untilEmpty() jobs.WorkerOptions {
	return jobs.WorkerOptions{UntilEmpty: true, RetryDelay: time.Millisecond, Poll: time.Hour}
}

// invoice is the payload of most tests.
type invoice struct {
	Order int64 `json:"order"`
}

// contains checks an error's text, as it is stored or as it was returned.
func contains(t testing.TB, text any, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(fmt.Sprint(text), part) {
			t.Errorf("%v\ndoes not say %q", text, part)
		}
	}
}
