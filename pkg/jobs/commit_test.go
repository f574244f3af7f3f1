package jobs_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
	"github.com/shoal-project/shoal/pkg/store"
)

// paid books an order as paid, in an application's own table.
func paid(order int64) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO paid (order_id) VALUES (?)`, order)
		return err
	}
}

// newShop is a queue beside an application's table.
func newShop(t *testing.T) *queue {
	q := newQueue(t, store.Options{})
	q.exec(`CREATE TABLE customers (id INTEGER PRIMARY KEY)`)
	q.exec(`CREATE TABLE paid (order_id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customers)`)
	return q
}

func newJob(t *testing.T, jobType string, payload any, opts ...jobs.Option) jobs.New {
	t.Helper()
	n, err := jobs.NewJob(jobType, payload, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCommit proves that the rows, the follow-ups and the completion are there
// when Commit has returned, that they are the last word whatever the handler
// does then, and that there is no second Commit.
func TestCommit(t *testing.T) {
	q := newShop(t)
	after := map[string]func() error{
		"returns": func() error { return nil },
		"fails":   func() error { return errBoom },
		"gives up": func() error {
			return jobs.Permanent(errBoom)
		},
		"snoozes": func() error { return jobs.Snooze(0) },
		"panics":  func() error { panic("after the fact") },
	}
	ids := map[string]int64{}
	for name := range after {
		ids[name] = enqueue(q, "Pay", name)
	}
	w := jobs.NewWorker(q, untilEmpty())
	jobs.Handle(w, "Pay", func(ctx context.Context, j *jobs.Job[string]) error {
		if err := j.Commit(ctx, paid(j.ID), newJob(t, "Thank", j.ID, jobs.Priority(3), jobs.OnQueue("mail")), newJob(t, "Pack", j.ID)); err != nil {
			return err
		}
		const seen = `SELECT status, attempts, completed_at IS NOT NULL,
				(SELECT count(*) FROM paid WHERE order_id = j.id),
				(SELECT group_concat(job_type || ' ' || queue || ' ' || priority, ', ') FROM sync_jobs WHERE payload = CAST(j.id AS TEXT) ORDER BY id)
			FROM sync_jobs j WHERE id = ?`
		if got, err := q.read(seen, j.ID); got != "completed|1|1|1|Thank mail 3, Pack default 0" || err != nil {
			t.Errorf("%s: after its commit another program sees %s, %v", j.Payload, got, err)
		}
		if err := j.Commit(ctx, paid(-j.ID)); !errors.Is(err, lease.ErrLost) {
			t.Errorf("%s: second commit: %v, want ErrLost", j.Payload, err)
		}
		if err := j.CommitSnooze(ctx, 0, paid(-j.ID)); !errors.Is(err, lease.ErrLost) {
			t.Errorf("%s: snooze after the commit: %v, want ErrLost", j.Payload, err)
		}
		return after[j.Payload]()
	})
	q.runUntilEmpty(w)
	for name, id := range ids {
		if row, history := q.ends(id, jobs.Completed); row.Attempts != 1 || row.LeaseToken != 1 || len(history) != 0 {
			t.Errorf("%s: %+v, %v", name, row, history)
		}
	}
	if got := q.value(`SELECT count(*), min(order_id) FROM paid`); got != "5|1" {
		t.Errorf("paid: %s", got)
	}
	if got := q.value(`SELECT count(*) FROM sync_jobs WHERE status = 'pending'`); got != "10" { // nobody handles them here
		t.Errorf("%s follow-ups", got)
	}
	if got := q.value(`SELECT count(*) FROM sync_job_errors`); got != "0" {
		t.Errorf("%s rows of history", got)
	}
}

// TestCommitFails proves that a commit which fails leaves nothing behind and
// the job running, so that the handler can go on and commit again.
func TestCommitFails(t *testing.T) {
	q := newShop(t)
	id := enqueue(q, "Pay", invoice{42})
	w := jobs.NewWorker(q, untilEmpty())
	jobs.Handle(w, "Pay", func(ctx context.Context, j *jobs.Job[invoice]) error {
		thank := newJob(t, "Thank", j.ID)
		for what, try := range map[string]func() error{
			"boom": func() error {
				return j.Commit(ctx, func(tx *sql.Tx) error { return errors.Join(paid(1)(tx), errBoom) }, thank)
			},
			"FOREIGN KEY": func() error { // they are on
				return j.Commit(ctx, func(tx *sql.Tx) error {
					_, err := tx.Exec(`INSERT INTO paid (order_id, customer) VALUES (1, 7)`)
					return err
				}, thank)
			},
			"ended the transaction": func() error {
				return j.Commit(ctx, func(tx *sql.Tx) error {
					_, err := tx.Exec(`ROLLBACK`)
					return err
				}, thank)
			},
			"follow-up: job type is empty":          func() error { return j.Commit(ctx, paid(1), thank, jobs.New{Payload: []byte(`1`)}) },
			"follow-up: Thank: payload is not JSON": func() error { return j.Commit(ctx, paid(1), jobs.New{Type: "Thank"}) },
			"follow-up: Thank: delay -1s is negative": func() error {
				return j.CommitSnooze(ctx, 0, paid(1), jobs.New{Type: "Thank", Payload: []byte(`1`), Delay: -time.Second})
			},
			"context canceled": func() error {
				gone, cancel := context.WithCancel(ctx)
				cancel()
				return j.Commit(gone, paid(1), thank)
			},
		} {
			err := try()
			contains(t, err, what)
			if errors.Is(err, lease.ErrLost) {
				t.Errorf("%s: the job is still held, yet: %v", what, err)
			}
			if got, err := q.read(`SELECT status, (SELECT count(*) FROM paid), (SELECT count(*) FROM sync_jobs) FROM sync_jobs`); got != "running|0|1" || err != nil {
				t.Errorf("after %s: %s, %v", what, got, err)
			}
			if ctx.Err() != nil {
				t.Errorf("after %s: %v", what, context.Cause(ctx))
			}
		}
		return j.Commit(ctx, paid(j.Payload.Order), thank)
	})
	q.runUntilEmpty(w)
	if row, history := q.ends(id, jobs.Completed); row.Attempts != 1 || len(history) != 0 {
		t.Errorf("%+v, %v", row, history)
	}
	if got := q.value(`SELECT (SELECT group_concat(order_id) FROM paid), (SELECT group_concat(status) FROM sync_jobs WHERE job_type = 'Thank')`); got != "42|pending" {
		t.Errorf("in the end: %s", got)
	}
}

// TestCommitLost proves that an attempt that no longer holds its job writes
// nothing, and learns it from Commit.
func TestCommitLost(t *testing.T) {
	q := newShop(t)
	id := enqueue(q, "Pay", invoice{42})
	w := q.worker(q, jobs.WorkerOptions{})
	tried := make(chan struct{})
	jobs.Handle(w, "Pay", func(ctx context.Context, j *jobs.Job[invoice]) error {
		defer close(tried)
		q.exec(`UPDATE sync_jobs SET status = 'cancelled', completed_at = unixepoch(), lease_expires_at = NULL WHERE id = ?`, j.ID)
		// It is the fence that refuses, not the context.
		err := j.Commit(context.WithoutCancel(ctx), paid(1), newJob(t, "Thank", j.ID))
		if !errors.Is(err, lease.ErrLost) {
			t.Errorf("commit: %v, want ErrLost", err)
		}
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, lease.ErrLost) {
			t.Errorf("cause: %v, want ErrLost", cause)
		}
		return nil
	})
	stop := q.start(w)
	expect(t, "the handler's end", tried)
	stop()
	if row, history := q.ends(id, jobs.Cancelled); row.Attempts != 1 || len(history) != 0 {
		t.Errorf("%+v, %v", row, history)
	}
	if got := q.value(`SELECT (SELECT count(*) FROM paid), (SELECT count(*) FROM sync_jobs)`); got != "0|1" {
		t.Errorf("written: %s", got)
	}
}

// TestCommitAfterTheEnd proves that a goroutine that a handler left behind
// can't speak for its attempt any more.
func TestCommitAfterTheEnd(t *testing.T) {
	q := newShop(t)
	enqueue(q, "Pay", invoice{42})
	w := jobs.NewWorker(q, untilEmpty())
	var left *jobs.Job[invoice]
	jobs.Handle(w, "Pay", func(_ context.Context, j *jobs.Job[invoice]) error {
		left = j
		return errors.New("left something behind")
	})
	q.runUntilEmpty(w)
	if err := left.Commit(t.Context(), paid(1)); !errors.Is(err, lease.ErrLost) {
		t.Errorf("commit: %v, want ErrLost", err)
	}
	if got := q.value(`SELECT (SELECT count(*) FROM paid), status FROM sync_jobs`); got != "0|failed" {
		t.Errorf("in the end: %s", got)
	}
}

// TestCommitDuringTheEnd proves the same of one whose commit is under way when the
// handler ends, and fails: it is not even asked for a second one.
func TestCommitDuringTheEnd(t *testing.T) {
	q := newShop(t)
	id := enqueue(q, "Pay", invoice{42})
	inside, ended, committed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	core, _ := observer.New(zapcore.WarnLevel)
	o := untilEmpty()
	o.Logger = zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "attempt did not complete" {
			close(ended)
		}
		return nil
	}))
	w := jobs.NewWorker(q, o)
	var left *jobs.Job[invoice]
	jobs.Handle(w, "Pay", func(ctx context.Context, j *jobs.Job[invoice]) error {
		left = j
		go func() {
			committed <- j.Commit(context.WithoutCancel(ctx), func(*sql.Tx) error {
				close(inside)
				<-ended
				return errBoom
			})
		}()
		<-inside
		return jobs.Permanent(errors.New("left something behind"))
	})
	q.runUntilEmpty(w)
	if err := expect(t, "the commit's end", committed); !errors.Is(err, errBoom) {
		t.Errorf("commit: %v, want boom", err)
	}
	if err := left.Commit(t.Context(), paid(1)); !errors.Is(err, lease.ErrLost) {
		t.Errorf("second commit: %v, want ErrLost", err)
	}
	row, history := q.ends(id, jobs.Failed)
	if len(history) != 1 || history[0].Rejected != "" || row.Error != "left something behind" {
		t.Errorf("in the end: %+v, %+v", row, history)
	}
}

// TestCommitSnooze proves that a long job can go by steps, each of them a
// transaction, with no attempt counted.
func TestCommitSnooze(t *testing.T) {
	q := newShop(t)
	id := enqueue(q, "Pay", invoice{42}, jobs.MaxAttempts(1))
	w := jobs.NewWorker(q, untilEmpty())
	var steps []int64
	jobs.Handle(w, "Pay", func(ctx context.Context, j *jobs.Job[invoice]) error {
		if j.Attempt != 1 {
			t.Errorf("attempt %d", j.Attempt)
		}
		steps = append(steps, j.Token)
		if j.Token == 4 {
			return j.Commit(ctx, paid(j.Token))
		}
		// What the handler returns after it counts for nothing.
		return errors.Join(j.CommitSnooze(ctx, 10*time.Millisecond, paid(j.Token), newJob(t, "Step", j.Token)), errBoom)
	})
	q.runUntilEmpty(w)
	if diff := cmp.Diff([]int64{1, 2, 3, 4}, steps); diff != "" {
		t.Error(diff)
	}
	if row, history := q.ends(id, jobs.Completed); row.Attempts != 1 || len(history) != 0 {
		t.Errorf("%+v, %v", row, history)
	}
	got := q.value(`SELECT (SELECT group_concat(order_id) FROM paid), (SELECT group_concat(payload) FROM sync_jobs WHERE job_type = 'Step')`)
	if got != "1,2,3,4|1,2,3" {
		t.Errorf("in the end: %s", strings.ReplaceAll(got, "\n", " "))
	}
}
