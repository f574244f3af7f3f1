package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

func TestHandle(t *testing.T) {
	q := newQueue(t, store.Options{})
	before := time.Now()
	id := enqueue(q, "Send", invoice{math.MaxInt64}, jobs.Priority(7), jobs.OnQueue("mail"), jobs.MaxAttempts(5))

	w := q.worker(q, jobs.WorkerOptions{Queues: []jobs.Queue{{Name: "mail"}}})
	got := make(chan *jobs.Job[invoice], 1)
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[invoice]) error {
		got <- j
		return nil
	})
	q.start(w)
	j := expect(t, "the job", got)
	if j.ID != id || j.Type != "Send" || j.Queue != "mail" || j.Priority != 7 || j.Payload.Order != math.MaxInt64 ||
		j.Attempt != 1 || j.MaxAttempts != 5 || j.Token != 1 || j.CreatedAt.Sub(before).Abs() > patience {
		t.Errorf("the handler got %+v", j)
	}
	row, history := q.ends(id, jobs.Completed)
	if row.Attempts != 1 || row.Error != "" || row.Result != nil || len(history) != 0 || row.CompletedAt < row.StartedAt {
		t.Errorf("completed as %+v, %v", row, history)
	}
}

// TestPayloads proves that a payload which can't be decoded fails its job for
// good at the first attempt, with the place in the message, without the
// handler, and disturbs no other job: also one that plain SQL brought in.
func TestPayloads(t *testing.T) {
	q := newQueue(t, store.Options{})
	good := enqueue(q, "Send", invoice{1})
	wrong := enqueue(q, "Send", map[string]any{"order": "forty-two"}, jobs.MaxAttempts(9))
	q.exec(`INSERT INTO sync_jobs (job_type, payload) VALUES ('Send', 'order=3'), ('Send', ''), ('Send', x'00ff' || '{}'),
		('Send', '{"order": 4} {"order": 5}'), ('Send', '{"order": 6}')`)

	w := jobs.NewWorker(q, untilEmpty())
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[invoice]) error {
		return j.SetResult(j.Payload.Order)
	})
	q.runUntilEmpty(w)

	row, history := q.ends(wrong, jobs.Failed)
	contains(t, row.Error, "payload", "order", "string")
	if row.Attempts != 1 || len(history) != 1 || history[0].Error != row.Error {
		t.Errorf("the wrong payload: %+v, %v", row, history)
	}
	for id := wrong + 1; id <= wrong+4; id++ {
		row, history := q.ends(id, jobs.Failed)
		contains(t, row.Error, "payload")
		if row.Attempts != 1 || len(history) != 1 {
			t.Errorf("no JSON: %+v, %v", row, history)
		}
	}
	for id, result := range map[int64]string{good: `1`, wrong + 5: `6`} {
		if row, _ := q.ends(id, jobs.Completed); string(row.Result) != result || row.Attempts != 1 {
			t.Errorf("the neighbour: %+v", row)
		}
	}
}

// TestHandlerBreaks proves that a handler that panics, or ends its goroutine,
// has failed that attempt, that the history says where, and that its worker
// (with one slot) goes on.
func TestHandlerBreaks(t *testing.T) {
	q := newQueue(t, store.Options{})
	breaks := map[string][]string{
		"panic":     {"panic: order 42 again", "goroutine", "explode", "handle_test.go"},
		"panic nil": {"panic: panic called with nil"},
		"index":     {"panic: runtime error: index out of range"},
		"goexit":    {"Goexit"},
	}
	ids := map[string]int64{}
	for how := range breaks {
		ids[how] = enqueue(q, "Send", how, jobs.MaxAttempts(2))
	}
	o := untilEmpty()
	o.Concurrency = 1
	w := jobs.NewWorker(q, o)
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error {
		if j.Attempt == 1 {
			explode(j.Payload)
		}
		return nil
	})
	q.runUntilEmpty(w)
	for how, says := range breaks {
		row, history := q.ends(ids[how], jobs.Completed)
		if row.Attempts != 2 || len(history) != 1 {
			t.Fatalf("%s: %+v, %v", how, row, history)
		}
		contains(t, history[0].Error, says...)
	}
}

func explode(how string) {
	few := make([]int, 1)
	switch how {
	case "panic":
		panic(fmt.Errorf("order %d again", 42))
	case "panic nil":
		panic(nil) //nolint:govet // what a handler may do, too
	case "index":
		few[len(how)]++
	case "goexit":
		runtime.Goexit()
	}
}

// TestTimeout proves that the job's own timeout comes before the worker's, that
// it ends the context with its cause, and that a handler which makes it
// nevertheless has completed.
func TestTimeout(t *testing.T) {
	q := newQueue(t, store.Options{})
	own := enqueue(q, "Send", "own", jobs.Timeout(50*time.Millisecond), jobs.MaxAttempts(1))
	given := enqueue(q, "Send", "given", jobs.MaxAttempts(1))
	done := enqueue(q, "Send", "done", jobs.MaxAttempts(1))
	o := untilEmpty()
	o.Timeout = 100 * time.Millisecond
	w := jobs.NewWorker(q, o)
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, jobs.ErrTimeout) {
			t.Errorf("cause: %v, want ErrTimeout", cause)
		}
		if j.Payload == "done" {
			return nil
		}
		return fmt.Errorf("send to %s: %w", j.Payload, ctx.Err())
	})
	q.runUntilEmpty(w)
	row, _ := q.ends(own, jobs.Failed)
	contains(t, row.Error, "timed out after 50ms: send to own: context deadline exceeded")
	row, history := q.ends(given, jobs.Failed)
	contains(t, row.Error, "timed out after 100ms")
	if row.Timeout != 0.1 || len(history) != 1 {
		t.Errorf("the worker's timeout: %+v, %v", row, history)
	}
	q.ends(done, jobs.Completed)
}

func TestResult(t *testing.T) {
	q := newQueue(t, store.Options{})
	kept := enqueue(q, "Send", "kept")
	committed := enqueue(q, "Send", "committed")
	failed := enqueue(q, "Send", "failed")
	most := enqueue(q, "Send", "most")
	w := jobs.NewWorker(q, untilEmpty())
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		if j.Payload == "most" {
			return j.SetResult(strings.Repeat("x", jobs.MaxResult-2)) // and its quotes
		}
		if err := errors.Join(j.SetResult("not the last word"), j.SetResult(invoice{42})); err != nil {
			return err
		}
		// What is refused leaves what was set.
		err := j.SetResult(strings.Repeat("x", jobs.MaxResult-1))
		if err == nil {
			t.Error("a result that is too large was taken")
		}
		contains(t, err, "65537 bytes", "at most 65536")
		err = j.SetResult(make(chan int))
		if err == nil {
			t.Error("a result that is no JSON was taken")
		}
		contains(t, err, "result", "chan int")
		switch j.Payload {
		case "committed":
			return j.Commit(ctx, nil)
		case "failed":
			return jobs.Permanent(errors.New("no"))
		}
		return nil
	})
	q.runUntilEmpty(w)
	got := map[int64]string{}
	for id, status := range map[int64]jobs.Status{kept: jobs.Completed, committed: jobs.Completed, failed: jobs.Failed} {
		row, _ := q.ends(id, status)
		got[id] = string(row.Result)
	}
	if diff := cmp.Diff(map[int64]string{kept: `{"order":42}`, committed: `{"order":42}`, failed: ``}, got); diff != "" {
		t.Error(diff)
	}
	if row, _ := q.ends(most, jobs.Completed); len(row.Result) != jobs.MaxResult {
		t.Errorf("%d bytes of result", len(row.Result))
	}
}

// TestProgress proves that the renewals of a short lease write the progress of
// a running job, and keep the job: it runs for longer than its lease.
func TestProgress(t *testing.T) {
	q := newQueue(t, store.Options{})
	id := enqueue(q, "Copy", 0)
	w := q.worker(q, jobs.WorkerOptions{Lease: time.Second, Poll: time.Hour})
	step := make(chan struct{})
	jobs.Handle(w, "Copy", func(ctx context.Context, j *jobs.Job[int]) error {
		j.Progress(1, 0, "")
		<-step
		j.Progress(1, 10, "not seen")
		j.Progress(2, 10, "b.txt")
		<-step
		return ctx.Err()
	})
	q.start(w)
	const progress = `SELECT progress FROM sync_jobs WHERE id = ?`
	q.eventually(`{"done":1,"total":0}`, progress, id)
	step <- struct{}{}
	q.eventually(`{"done":2,"total":10,"note":"b.txt"}`, progress, id)
	row, _ := q.ends(id, jobs.Running)
	if row.Progress == nil || *row.Progress != (jobs.Progress{Done: 2, Total: 10, Note: "b.txt"}) {
		t.Errorf("progress: %+v", row.Progress)
	}
	// Its lease of 1 s would have ended by then, had it not been renewed.
	q.eventually("1", `SELECT unixepoch() - started_at > 1.5 FROM sync_jobs WHERE id = ?`, id)
	step <- struct{}{}
	if row, _ := q.ends(id, jobs.Completed); row.Attempts != 1 || row.Progress != nil {
		t.Errorf("completed as %+v", row)
	}
}
