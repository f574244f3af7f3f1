package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

var errBoom = errors.New("boom")

// TestBackoff proves that the delay after a failed attempt is RetryDelay, then
// doubles, up to an hour, give or take a tenth; that each failed attempt is in
// the history; and that the last one fails the job. Nobody waits for the
// delays: another program makes the job due.
func TestBackoff(t *testing.T) {
	q := newQueue(t, store.Options{})
	const base = 20 * time.Minute
	w := q.worker(q, jobs.WorkerOptions{RetryDelay: base, Poll: time.Hour})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[invoice]) error {
		return fmt.Errorf("attempt %d: %w", j.Attempt, errBoom)
	})
	q.start(w)
	delays := []time.Duration{base, 2 * base, time.Hour, time.Hour, 0}
	id := enqueue(q, "Send", invoice{}, jobs.MaxAttempts(len(delays)))
	for i, want := range delays[:len(delays)-1] {
		says := fmt.Sprintf("attempt %d: boom", i+1)
		q.eventually(fmt.Sprintf("pending|%d|%s", i+1, says), `SELECT status, attempts, error FROM sync_jobs WHERE id = ?`, id)
		row, history := q.ends(id, jobs.Pending)
		if len(history) != i+1 {
			t.Fatalf("%d rows of history after %d attempts", len(history), i+1)
		}
		h := history[i]
		if h.Attempt != i+1 || h.Token != int64(i+1) || h.Worker != row.LeaseOwner || h.Error != says || h.PID == 0 || h.Host == "" {
			t.Errorf("history: %+v", h)
		}
		// Both were written in one transaction, with one time.
		delay := row.RunAt.Time().Sub(h.EndedAt.Time())
		if low, high := want*9/10-time.Second, want*11/10+time.Second; delay < low || delay > high {
			t.Errorf("attempt %d is followed by %v, want %v, give or take a tenth", i+1, delay, want)
		}
		q.exec(`UPDATE sync_jobs SET run_at = unixepoch() WHERE id = ?`, id)
	}
	row, history := q.ends(id, jobs.Failed)
	if row.Attempts != len(delays) || row.MaxAttempts != len(delays) || row.Error != "attempt 5: boom" || len(history) != len(delays) {
		t.Errorf("at last: %+v, %v", row, history)
	}
}

// TestJitter proves that jobs which fail together don't come back together.
func TestJitter(t *testing.T) {
	q := newQueue(t, store.Options{})
	const n = 50
	if _, err := jobs.EnqueueMany(t.Context(), q, "Send", make([]invoice, n)); err != nil {
		t.Fatal(err)
	}
	w := q.worker(q, jobs.WorkerOptions{RetryDelay: 1000 * time.Second})
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[invoice]) error { return errBoom })
	q.start(w)
	q.eventually(fmt.Sprint(n), `SELECT count(*) FROM sync_job_errors`)
	const delays = `FROM (SELECT run_at - ended_at AS d FROM sync_jobs JOIN sync_job_errors ON job_id = id)`
	if got := q.value(`SELECT min(d) >= 899.9, max(d) <= 1100.1, max(d) - min(d) > 50 ` + delays); got != "1|1|1" {
		t.Errorf("delays: %s", q.value(`SELECT min(d), max(d) `+delays))
	}
}

// TestRetries proves that a job that is retried runs again by itself, and that
// what its last attempt said is gone when it completes.
func TestRetries(t *testing.T) {
	q := newQueue(t, store.Options{})
	id := enqueue(q, "Send", invoice{})
	o := untilEmpty()
	o.RetryDelay = 20 * time.Millisecond
	w := jobs.NewWorker(q, o)
	var last atomic.Int64
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[invoice]) error {
		if j.Token <= last.Swap(j.Token) {
			t.Errorf("attempt %d has token %d, not above the last", j.Attempt, j.Token)
		}
		if j.Attempt < j.MaxAttempts {
			return errBoom
		}
		return nil
	})
	q.runUntilEmpty(w)
	row, history := q.ends(id, jobs.Completed)
	if row.Attempts != 3 || len(history) != 2 || row.Error != "" {
		t.Errorf("completed as %+v, %v", row, history)
	}
	for i, h := range history[1:] {
		if h.StartedAt-history[i].EndedAt < 0.018 {
			t.Errorf("attempt %d began %v s after the one before, want 20 ms at least", h.Attempt, h.StartedAt-history[i].EndedAt)
		}
	}
}

// TestVerdicts proves what each kind of error makes of a job.
func TestVerdicts(t *testing.T) {
	q := newQueue(t, store.Options{})
	verdicts := map[string]error{
		"permanent":           jobs.Permanent(errBoom),
		"wrapped permanent":   fmt.Errorf("send: %w", jobs.Permanent(errBoom)),
		"retry after":         jobs.RetryAfter(errBoom, time.Hour),
		"wrapped retry after": fmt.Errorf("send: %w", jobs.RetryAfter(errBoom, time.Hour)),
		"snooze":              jobs.Snooze(time.Hour),
		"wrapped snooze":      fmt.Errorf("not yet: %w", jobs.Snooze(time.Hour)),
		"nil permanent":       jobs.Permanent(nil),
		"nil retry after":     jobs.RetryAfter(nil, time.Hour),
	}
	ids := map[string]int64{}
	for name := range verdicts {
		ids[name] = enqueue(q, "Send", name)
	}
	// The last attempt: only a snooze spares it.
	ids["used up"] = enqueue(q, "Send", "retry after", jobs.MaxAttempts(1))
	ids["snoozed at the last"] = enqueue(q, "Send", "snooze", jobs.MaxAttempts(1))
	w := q.worker(q, jobs.WorkerOptions{Poll: time.Hour})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error { return verdicts[j.Payload] })
	q.start(w)
	q.eventually("0|0", `SELECT count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE lease_token = 0) FROM sync_jobs`)

	for name, want := range map[string]struct {
		status   jobs.Status
		attempts int
		history  int
		error    string
		delayed  bool
	}{
		"permanent":           {jobs.Failed, 1, 1, "boom", false},
		"wrapped permanent":   {jobs.Failed, 1, 1, "send: boom", false},
		"retry after":         {jobs.Pending, 1, 1, "boom", true},
		"wrapped retry after": {jobs.Pending, 1, 1, "send: boom", true},
		"snooze":              {jobs.Pending, 0, 0, "", true},
		"wrapped snooze":      {jobs.Pending, 0, 0, "", true},
		"nil permanent":       {jobs.Completed, 1, 0, "", false},
		"nil retry after":     {jobs.Completed, 1, 0, "", false},
		"used up":             {jobs.Failed, 1, 1, "boom", false},
		"snoozed at the last": {jobs.Pending, 0, 0, "", true},
	} {
		row, history := q.ends(ids[name], want.status)
		if row.Attempts != want.attempts || len(history) != want.history || row.Error != want.error || row.LeaseToken != 1 {
			t.Errorf("%s: %+v, %v", name, row, history)
		}
		if wait := time.Until(row.RunAt.Time()); want.delayed && (wait < time.Hour-time.Minute || wait > time.Hour) {
			t.Errorf("%s: runs again in %v", name, wait)
		}
	}
	if !errors.Is(verdicts["permanent"], errBoom) || !errors.Is(verdicts["retry after"], errBoom) {
		t.Error("the marked errors hide what they mark")
	}
}

// TestSnoozes proves that a job may snooze more often than it has attempts.
func TestSnoozes(t *testing.T) {
	q := newQueue(t, store.Options{})
	id := enqueue(q, "Wait", 0, jobs.MaxAttempts(2))
	w := jobs.NewWorker(q, untilEmpty())
	runs := 0 // one at a time
	jobs.Handle(w, "Wait", func(_ context.Context, j *jobs.Job[int]) error {
		if runs++; runs <= 5 {
			return jobs.Snooze(time.Millisecond)
		}
		if j.Attempt != 1 || j.Token != 6 {
			t.Errorf("attempt %d, token %d, want 1 and 6", j.Attempt, j.Token)
		}
		return nil
	})
	q.runUntilEmpty(w)
	if row, history := q.ends(id, jobs.Completed); row.Attempts != 1 || len(history) != 0 || runs != 6 {
		t.Errorf("completed as %+v, %v after %d runs", row, history, runs)
	}
}

// TestErrorTexts proves that whatever an error says can be stored: text of any
// length, cut in the middle, and of any bytes.
func TestErrorTexts(t *testing.T) {
	q := newQueue(t, store.Options{})
	long := "begin " + strings.Repeat("€", jobs.MaxError) + " end"
	texts := map[string]string{"long": long, "bytes": "bad \xff\xfe bytes", "quotes": `it's "so"`}
	ids := map[string]int64{}
	for name := range texts {
		ids[name] = enqueue(q, "Send", name, jobs.MaxAttempts(1))
	}
	w := jobs.NewWorker(q, untilEmpty())
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error { return errors.New(texts[j.Payload]) })
	q.runUntilEmpty(w)
	row, history := q.ends(ids["long"], jobs.Failed)
	if len(row.Error) > jobs.MaxError || !strings.HasPrefix(row.Error, "begin €") || !strings.HasSuffix(row.Error, "€ end") || history[0].Error != row.Error {
		t.Errorf("%d bytes: %.20s…", len(row.Error), row.Error)
	}
	if row, _ := q.ends(ids["bytes"], jobs.Failed); row.Error != "bad \uFFFD bytes" {
		t.Errorf("bytes: %q", row.Error)
	}
	if row, _ := q.ends(ids["quotes"], jobs.Failed); row.Error != texts["quotes"] {
		t.Errorf("quotes: %q", row.Error)
	}
}

// TestTimeoutAtOnce proves that a job whose timeout is over before its handler
// could begin uses its attempts up like any other.
func TestTimeoutAtOnce(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{})
	jobs.Handle(w, "Send", func(ctx context.Context, _ *jobs.Job[invoice]) error {
		<-ctx.Done()
		return ctx.Err()
	})
	q.start(w)
	id := enqueue(q, "Send", invoice{}, jobs.Timeout(1), jobs.MaxAttempts(1))
	if row, _ := q.ends(id, jobs.Failed); !strings.Contains(row.Error, "timed out") {
		t.Errorf("it failed with %q", row.Error)
	}
}
