package jobs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestCancel proves that a handler whose job is cancelled, by its own process or
// by another, is interrupted long before its lease's next renewal, that what it
// says then changes nothing, and that its slot is free for the next job.
func TestCancel(t *testing.T) {
	q := newQueue(t, store.Options{})
	for name, by := range map[string]jobs.Operator{"its own process": q.Store, "another": q.open(store.Options{})} {
		w := q.worker(q, jobs.WorkerOptions{Poll: time.Hour, Lease: time.Hour, Concurrency: 1})
		started, cause := make(chan struct{}), make(chan error, 1)
		jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
			if j.Payload == "next" {
				return nil
			}
			close(started)
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return nil // as if all were well
		})
		stop := q.start(w)
		id := enqueue(q, "Send", name)
		expect(t, "the handler's start", started)
		next := enqueue(q, "Send", "next")
		start := time.Now()
		changed, err := by.Change(t.Context(), jobs.Filter{IDs: []int64{id}}, jobs.Change{Verb: jobs.Cancel})
		if err != nil || changed.Count != 1 {
			t.Errorf("cancelled %+v, %v", changed, err)
		}
		if cause := expect(t, "the end of its context", cause); !errors.Is(cause, lease.ErrLost) {
			t.Errorf("cause: %v, want ErrLost", cause)
		}
		t.Logf("cancelled by %s: its context ended within %v", name, time.Since(start))
		q.ends(next, jobs.Completed)
		if row, history := q.ends(id, jobs.Cancelled); row.Attempts != 1 || row.Result != nil || len(history) != 0 {
			t.Errorf("cancelled by %s: %+v, %v", name, row, history)
		}
		stop()
	}
}
