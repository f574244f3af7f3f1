package jobstest

import (
	"context"
	"encoding/json"
	"math"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// Queue is a queue of a test. It is a store like any other; its methods beside
// fail the test where they can't do what they are asked for.
type Queue struct {
	store.Store
	t        testing.TB
	advance  atomic.Int64 // nanoseconds that its clock is ahead
	patience time.Duration
}

// New opens an empty queue in a temporary file. It is closed when the test and
// its other cleanups have ended; a job that still runs then fails the test.
func New(t testing.TB) *Queue {
	t.Helper()
	q := &Queue{t: t, patience: patience}
	s, err := store.Open(q.context(), filepath.Join(t.TempDir(), "jobs.db"), store.Options{Now: q.Now})
	if err != nil {
		t.Fatalf("open a queue: %v", err)
	}
	q.Store = s
	t.Cleanup(q.end)
	return q
}

func (q *Queue) end() {
	running, err := q.Jobs(q.context(), jobs.Filter{Status: jobs.Running})
	if err != nil {
		q.t.Errorf("at the test's end: %v", err)
	}
	for _, job := range running {
		q.t.Errorf("job %d (%s) still runs at the test's end: stop its worker, and wait for it", job.ID, job.Type)
	}
	if err := q.Close(); err != nil {
		q.t.Errorf("close the queue: %v", err)
	}
}

// context outlives the test's own, which ends before its cleanups begin.
func (q *Queue) context() context.Context { return context.WithoutCancel(q.t.Context()) }

// Now is the time on the queue's wall clock, which is ahead of time.Now by what
// Advance was called with.
func (q *Queue) Now() time.Time { return time.Now().Add(time.Duration(q.advance.Load())) }

// Advance moves the queue's wall clock on: what was delayed by at most d is due
// then. It runs nothing.
func (q *Queue) Advance(d time.Duration) {
	q.t.Helper()
	if d < 0 {
		q.t.Fatalf("advance by %v: the clock goes forward only", d)
	}
	q.advance.Add(int64(d))
}

// Enqueued lists all jobs of a type that are in the queue, whatever became of
// them, oldest first. An empty type lists all.
func (q *Queue) Enqueued(jobType string) []jobs.Row {
	q.t.Helper()
	rows, err := q.Jobs(q.context(), jobs.Filter{Type: jobType, Limit: math.MaxInt})
	if err != nil {
		q.t.Fatalf("list the jobs of type %q: %v", jobType, err)
	}
	slices.Reverse(rows)
	return rows
}

// Payloads are those of Enqueued, decoded into T by encoding/json.
func Payloads[T any](q *Queue, jobType string) []T {
	q.t.Helper()
	var payloads []T
	for _, row := range q.Enqueued(jobType) {
		var payload T
		if err := json.Unmarshal([]byte(row.Payload), &payload); err != nil {
			q.t.Fatalf("payload of job %d (%s) is no %T: %v: %.200s", row.ID, row.Type, payload, err, row.Payload)
		}
		payloads = append(payloads, payload)
	}
	return payloads
}

// row is a job as it is stored.
func (q *Queue) row(id int64) jobs.Row {
	q.t.Helper()
	row, _, err := q.Job(q.context(), id)
	if err != nil {
		q.t.Fatal(err)
	}
	return row
}
