package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestDefaults proves that what a handler brings holds for its type, in the
// file for all to see, and that the operator's word goes before it.
func TestDefaults(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{RetryDelay: time.Hour, MaxAttempts: 7})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error { return errBoom },
		jobs.Policy{MaxAttempts: 5, Retry: jobs.RetryPolicy{Delay: time.Minute, Cap: 90 * time.Second, Jitter: -1}})
	q.start(w)
	const look = `SELECT status, attempts, max_attempts, round((run_at - completed) * 1000) FROM
		(SELECT *, (SELECT max(ended_at) FROM sync_job_errors WHERE job_id = sync_jobs.id) AS completed FROM sync_jobs) WHERE id = ?`
	id := enqueue(q, "Send", "x")
	q.eventually("pending|1|5|60000", look, id)
	q.exec(`UPDATE sync_jobs SET run_at = 0 WHERE id = ?`, id)
	q.eventually("pending|2|5|90000", look, id)

	change := func(p *jobs.Policy) { p.Retry.Delay, p.MaxAttempts = 3*time.Second, 2 }
	if err := q.ChangePolicy(t.Context(), jobs.OfType, "Send", change); err != nil {
		t.Fatal(err)
	}
	q.exec(`UPDATE sync_jobs SET run_at = 0 WHERE id = ?`, id)
	q.eventually("pending|3|5|12000", look, id) // its attempts were said at the first claim
	if got := q.value(`SELECT source, max_attempts, retry_delay, retry_cap, retry_jitter FROM sync_policies WHERE source = 'handler'`); got != "handler|5|60|90|0" {
		t.Errorf("the handler's row: %s", got)
	}
}

// TestHandlerBackoff proves that a handler's own function says how long a job
// waits, with the error in its hands; that a panic in it costs nothing; and that
// it is not asked where the handler or an operator has said how long.
func TestHandlerBackoff(t *testing.T) {
	q := newQueue(t, store.Options{})
	errBusy := errors.New("busy")
	w := q.worker(q, jobs.WorkerOptions{RetryDelay: time.Hour})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error {
		switch j.Payload {
		case "busy":
			return fmt.Errorf("server: %w", errBusy)
		case "after":
			return jobs.RetryAfter(errBusy, 5*time.Second)
		case "snooze":
			return jobs.Snooze(6 * time.Second)
		case "panic":
			panic("no")
		}
		return errBoom
	}, jobs.Policy{Backoff: func(attempt int, err error) time.Duration {
		switch {
		case errors.Is(err, errBusy):
			return time.Duration(attempt) * 7 * time.Second
		case errors.Is(err, errBoom):
			panic("backoff")
		}
		return 8 * time.Second
	}})
	q.start(w)
	for payload, want := range map[string]string{"busy": "7", "after": "5", "snooze": "6", "panic": "8"} {
		id := enqueue(q, "Send", payload)
		q.eventually("pending|"+want, `SELECT status, round(run_at - started_at) FROM sync_jobs WHERE id = ? AND lease_token = 1`, id)
	}
	id := enqueue(q, "Send", "boom")
	q.eventually("pending|1", `SELECT status, run_at - started_at BETWEEN 3000 AND 4000 FROM sync_jobs WHERE id = ? AND lease_token = 1`, id)
	if err := q.ChangePolicy(t.Context(), jobs.OfQueue, jobs.DefaultQueue, func(p *jobs.Policy) { p.Retry.Delay = time.Minute }); err != nil {
		t.Fatal(err)
	}
	id = enqueue(q, "Send", "busy")
	q.eventually("pending|1", `SELECT status, run_at - started_at BETWEEN 53 AND 67 FROM sync_jobs WHERE id = ? AND lease_token = 1`, id)
}

// TestDefaultsRefused: nonsense that a handler brings is said by Run.
func TestDefaultsRefused(t *testing.T) {
	q := newQueue(t, store.Options{})
	for says, p := range map[string][]jobs.Policy{
		"at least 1":       {{MaxAttempts: -1}},
		"can't pause":      {{Paused: true}},
		"want one of them": {{Retry: jobs.RetryPolicy{Delay: 1}, Backoff: func(int, error) time.Duration { return 0 }}},
		"has two policies": {{MaxAttempts: 1}, {MaxAttempts: 2}},
		"1ms or more":      {{MaxStarts: jobs.Rate{N: 1, Per: 1}}},
	} {
		w := jobs.NewWorker(q, untilEmpty())
		jobs.Handle(w, "Send", func(context.Context, *jobs.Job[string]) error { return nil }, p...)
		contains(t, w.Run(t.Context()), "Send", says)
	}
}
