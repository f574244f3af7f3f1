package jobs_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestDrainEnds proves that a handler that is still at it when Drain has passed
// is told so, and that its job goes back with no attempt counted and no history.
func TestDrainEnds(t *testing.T) {
	q := newQueue(t, store.Options{})
	for name, drain := range map[string]time.Duration{"short": 50 * time.Millisecond, "none": -1} {
		id := enqueue(q, "Send", name, jobs.MaxAttempts(1))
		w := q.worker(q, jobs.WorkerOptions{Drain: drain})
		started, cause := make(chan struct{}), make(chan error, 1)
		jobs.Handle(w, "Send", func(ctx context.Context, _ *jobs.Job[string]) error {
			close(started)
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return ctx.Err()
		})
		stop := q.start(w)
		expect(t, "the handler's start", started)
		stop()
		if cause := expect(t, "the cause", cause); !errors.Is(cause, jobs.ErrDraining) {
			t.Errorf("cause: %v, want ErrDraining", cause)
		}
		row, history := q.ends(id, jobs.Pending)
		if row.Attempts != 0 || row.Error != "" || len(history) != 0 || row.RunAt.Time().After(time.Now()) {
			t.Errorf("%s: given back as %+v, %v", name, row, history)
		}
		// The next worker takes it at once, as its first attempt.
		next := jobs.NewWorker(q, untilEmpty())
		jobs.Handle(next, "Send", func(_ context.Context, j *jobs.Job[string]) error {
			if j.Attempt != 1 || j.Token != 2 {
				t.Errorf("attempt %d, token %d", j.Attempt, j.Token)
			}
			return nil
		})
		q.runUntilEmpty(next)
		q.ends(id, jobs.Completed)
	}
}

// TestDrainWaits proves that a handler may go on while its worker drains, with
// its context alive, and that nothing is claimed meanwhile.
func TestDrainWaits(t *testing.T) {
	q := newQueue(t, store.Options{})
	completes := enqueue(q, "Send", "completes")
	fails := enqueue(q, "Send", "fails")
	gives := enqueue(q, "Send", "gives up")
	w := jobs.NewWorker(q, jobs.WorkerOptions{Lease: time.Second})
	started, goOn := make(chan struct{}), make(chan struct{})
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		started <- struct{}{}
		<-goOn
		if ctx.Err() != nil {
			t.Errorf("the context ended: %v", context.Cause(ctx))
		}
		switch j.Payload {
		case "fails":
			return errBoom
		case "gives up":
			return jobs.Permanent(errBoom)
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	for range 3 {
		expect(t, "the handlers' start", started)
	}
	cancel()
	// A turn under way might still claim it; once the loop has come round, none.
	if err := w.Answer(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := enqueue(q, "Send", "late")
	// Its slots are free and it sees the change; longer than a lease, to see
	// that they are renewed.
	q.eventually("1", `SELECT unixepoch() - started_at > 1.5 FROM sync_jobs WHERE id = ?`, completes)
	close(goOn)
	if err := expect(t, "Run's return", done); err != nil {
		t.Errorf("Run: %v", err)
	}
	q.ends(completes, jobs.Completed)
	if row, history := q.ends(fails, jobs.Pending); row.Attempts != 1 || len(history) != 1 || row.Error != "boom" {
		t.Errorf("an honest failure: %+v, %v", row, history)
	}
	q.ends(gives, jobs.Failed)
	if row, _ := q.ends(late, jobs.Pending); row.LeaseToken != 0 {
		t.Error("a draining worker claimed a job")
	}
}

// TestDrainLeavesBehind proves that a handler that ignores its context does not
// hold up its worker for more than a second, and that its job goes back.
func TestDrainLeavesBehind(t *testing.T) {
	q := newQueue(t, store.Options{})
	id := enqueue(q, "Send", invoice{})
	w := q.worker(q, jobs.WorkerOptions{Drain: -1})
	started, deaf, late := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[invoice]) error {
		close(started)
		<-deaf
		late <- j.Commit(context.WithoutCancel(ctx), nil)
		return nil
	})
	stop := q.start(w)
	expect(t, "the handler's start", started)
	start := time.Now()
	stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	q.ends(id, jobs.Pending)
	close(deaf)
	if err := expect(t, "the late commit", late); !errors.Is(err, lease.ErrLost) {
		t.Errorf("late commit: %v, want ErrLost", err)
	}
	q.ends(id, jobs.Pending)
}

// TestRunEnds proves that an idle worker returns at once, nil, and leaves no seat.
func TestRunEnds(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{Poll: time.Hour})
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[invoice]) error { return nil })
	stop := q.start(w)
	if got := q.value(`SELECT types, queues, concurrency FROM sync_workers`); got != `["Send"]|["default"]|16` {
		t.Errorf("the seat: %s", got)
	}
	start := time.Now()
	stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
}

// endsAfterALook is a context that ends just after somebody was told that it
// has not, once armed.
type endsAfterALook struct {
	context.Context
	end   func()
	armed atomic.Bool
}

func (c *endsAfterALook) Err() error {
	err := c.Context.Err()
	if c.armed.CompareAndSwap(true, false) {
		c.end()
	}
	return err
}

// TestRunEndsAfterALook proves that an idle worker returns at once also when it
// is told to just before it goes to wait.
func TestRunEndsAfterALook(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{Poll: time.Hour, Drain: time.Hour})
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[invoice]) error { return nil })
	inner, cancel := context.WithCancel(t.Context())
	ctx := &endsAfterALook{Context: inner, end: cancel}
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	expect(t, "the worker's seat", q.joined[w])
	for i := range 4 { // the first turns are for what may be there
		ctx.armed.Store(i == 3)
		if err := w.Answer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := expect(t, "Run's return", done); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestRunEndless proves that a context that can't end, as context.Background is,
// does not have the worker drain: after WorkerOptions.Drain it would have ended.
func TestRunEndless(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{Drain: -1, UntilEmpty: true})
	jobs.Handle(w, "Send", func(ctx context.Context, _ *jobs.Job[invoice]) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
			return nil
		}
	})
	enqueue(q, "Send", invoice{})
	if err := w.Run(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	if got := q.value(`SELECT status, lease_token FROM sync_jobs`); got != "completed|1" {
		t.Errorf("the job: %s, want completed at its first claim", got)
	}
}

// TestRunStoreCloses proves that a worker whose store is closed says so.
func TestRunStoreCloses(t *testing.T) {
	q := newQueue(t, store.Options{})
	other := q.open(store.Options{})
	joined := make(chan struct{})
	w := jobs.NewWorker(other, jobs.WorkerOptions{Poll: time.Millisecond, Joined: func() { close(joined) }})
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[invoice]) error { return nil })
	done := make(chan error, 1)
	go func() { done <- w.Run(t.Context()) }()
	expect(t, "the seat", joined)
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := expect(t, "Run's return", done); !errors.Is(err, jobs.ErrClosed) {
		t.Errorf("Run: %v, want ErrClosed", err)
	}
	// It could not say good-bye, and may have led; the next worker would see to both.
	q.exec(`DELETE FROM sync_workers`)
	q.exec(`UPDATE sync_leases SET owner = NULL`)
}

// TestTakenAway proves that a handler is interrupted within a moment when its
// job is cancelled or deleted by plain SQL, long before the next renewal, that
// what it says then is refused, and that its slot is free for the next.
func TestTakenAway(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{Concurrency: 1, Lease: time.Hour, Poll: time.Hour})
	started, cause := make(chan struct{}), make(chan error)
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		started <- struct{}{}
		<-ctx.Done()
		cause <- context.Cause(ctx)
		if j.Payload == "completes" {
			return nil
		}
		return ctx.Err()
	})
	q.start(w)
	for query, payload := range map[string]string{
		`UPDATE sync_jobs SET status = 'cancelled', completed_at = unixepoch(), lease_expires_at = NULL WHERE id = ?`:                  "fails",
		`UPDATE sync_jobs SET status = 'cancelled', completed_at = unixepoch(), lease_expires_at = NULL, error = 'wrong' WHERE id = ?`: "completes",
		`DELETE FROM sync_jobs WHERE id = ?`: "fails",
	} {
		id := enqueue(q, "Send", payload)
		expect(t, "the handler's start", started)
		start := time.Now()
		q.exec(query, id)
		if cause := expect(t, "the interruption", cause); !errors.Is(cause, lease.ErrLost) {
			t.Errorf("cause: %v, want ErrLost", cause)
		}
		t.Logf("interrupted after %v", time.Since(start))
	}
	if got := q.value(`SELECT status, count(*), sum(attempts), count(result) FROM sync_jobs GROUP BY status`); got != "cancelled|2|2|0" {
		t.Errorf("in the end: %s", got)
	}
	if got := q.value(`SELECT count(*) FROM sync_job_errors`); got != "0" {
		t.Errorf("%s rows of history", got)
	}
}
