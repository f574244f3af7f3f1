package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// TestMiddleware proves that middleware is around each attempt, the first
// outermost, sees what the handler returns, may replace the payload and the
// error, and that a panic passes through it.
func TestMiddleware(t *testing.T) {
	q := newQueue(t, store.Options{})
	var mu sync.Mutex
	var seen []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf(format, args...))
	}
	outer := func(next jobs.Handler) jobs.Handler {
		return func(ctx context.Context, j *jobs.Job[json.RawMessage]) (err error) {
			returned := false
			note("%s %d of %s by %s", j.Type, j.Attempt, j.Payload, j.Meta["by"])
			defer func() { note("%s: %v, returned: %v", j.Type, err, returned) }()
			err = next(ctx, j)
			if returned = true; errors.Is(err, errBoom) {
				return jobs.Permanent(err)
			}
			return err
		}
	}
	upper := func(next jobs.Handler) jobs.Handler {
		return func(ctx context.Context, j *jobs.Job[json.RawMessage]) error {
			j.Payload = []byte(strings.ToUpper(string(j.Payload)))
			return next(ctx, j)
		}
	}
	w := q.worker(q, jobs.WorkerOptions{Middleware: []func(jobs.Handler) jobs.Handler{outer, upper}})
	jobs.Handle(w, "Say", func(_ context.Context, j *jobs.Job[string]) error { return j.SetResult(j.Payload) })
	jobs.Handle(w, "Fail", func(context.Context, *jobs.Job[string]) error { return errBoom })
	jobs.Handle(w, "Panic", func(context.Context, *jobs.Job[string]) error { panic("no") })
	jobs.Handle(w, "Exit", func(context.Context, *jobs.Job[string]) error { runtime.Goexit(); return nil })
	jobs.Handle(w, "Parse", func(context.Context, *jobs.Job[int]) error { return nil })
	jobs.Handle(w, "Commit", func(ctx context.Context, j *jobs.Job[string]) error { return j.Commit(ctx, nil) })
	q.start(w)

	row, _ := q.ends(enqueue(q, "Say", "hello", jobs.Meta("by", "ada")), jobs.Completed)
	if string(row.Result) != `"HELLO"` {
		t.Errorf("result: %s", row.Result)
	}
	failed, _ := q.ends(enqueue(q, "Fail", "x"), jobs.Failed)
	panicked, _ := q.ends(enqueue(q, "Panic", "x", jobs.MaxAttempts(1)), jobs.Failed)
	exited, _ := q.ends(enqueue(q, "Exit", "x", jobs.MaxAttempts(1)), jobs.Failed)
	parsed, _ := q.ends(enqueue(q, "Parse", "x"), jobs.Failed)
	q.ends(enqueue(q, "Commit", "x"), jobs.Completed)
	for got, want := range map[string]string{failed.Error: "boom", panicked.Error: "panic: no\n", exited.Error: "Goexit", parsed.Error: "payload: "} {
		if !strings.Contains(got, want) {
			t.Errorf("error %q, want %q", got, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{`Say 1 of "hello" by ada`, "Say: <nil>, returned: true", "Fail: boom, returned: true",
		"Panic: <nil>, returned: false", "Exit: <nil>, returned: false", "Commit: <nil>, returned: true"} {
		if !slices.Contains(seen, want) {
			t.Errorf("not seen: %s in %q", want, seen)
		}
	}
}

// TestFailedHook proves that the hook is told once of each job that failed for
// good, by an outcome or because its worker died, of no other, and that neither a
// panic in it nor a hook that hangs holds up the worker.
func TestFailedHook(t *testing.T) {
	q := newQueue(t, store.Options{})
	told := make(chan jobs.Failure, 10)
	w := q.worker(q, jobs.WorkerOptions{RetryDelay: time.Millisecond, Drain: 100 * time.Millisecond, Failed: func(ctx context.Context, f jobs.Failure) {
		told <- f
		switch f.Type {
		case "Panic":
			panic("hook")
		case "Hang":
			<-ctx.Done()
		}
	}})
	for _, jobType := range []string{"Fail", "Panic", "Hang"} {
		jobs.Handle(w, jobType, func(context.Context, *jobs.Job[string]) error { return errBoom })
	}
	taken := make(chan struct{})
	jobs.Handle(w, "Late", func(ctx context.Context, _ *jobs.Job[string]) error {
		close(taken)
		<-ctx.Done()
		return jobs.Permanent(errBoom)
	})
	stop := q.start(w)
	// One that is taken away: its failure is refused, and is nobody's news.
	late := enqueue(q, "Late", "x")
	expect(t, "the handler's start", taken)
	q.exec(`UPDATE sync_jobs SET status = 'cancelled', completed_at = unixepoch(), lease_expires_at = NULL WHERE id = ?`, late)

	id := enqueue(q, "Fail", "x", jobs.MaxAttempts(2))
	if got, want := expect(t, "the failure", told), (jobs.Failure{ID: id, Type: "Fail", Queue: "default", Attempt: 2, MaxAttempts: 2, Error: "boom"}); got != want {
		t.Errorf("told %+v, want %+v", got, want)
	}
	enqueue(q, "Panic", "x", jobs.MaxAttempts(1))
	expect(t, "the failure of Panic", told)

	// A worker that dies with its job: its process would close the file as this does.
	dying := q.open(store.Options{})
	seat, err := dying.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	dead := enqueue(q, "Poison", "x", jobs.MaxAttempts(1))
	turn, err := seat.Turn(t.Context(), storetest.Ask(nil, jobs.Want{Types: []string{"Poison"}, TTL: time.Minute,
		Pools: []jobs.Pool{{Queues: []string{jobs.DefaultQueue}, Free: 1}}}))
	if err != nil || len(turn.Claimed) != 1 {
		t.Fatalf("claimed %+v, %v", turn.Claimed, err)
	}
	if err := dying.Close(); err != nil {
		t.Fatal(err)
	}
	got := expect(t, "the failure of a dead worker's job", told)
	if got.ID != dead || got.Type != "Poison" || got.Attempt != 1 || got.MaxAttempts != 1 || !strings.Contains(got.Error, "died (attempt 1 of 1)") {
		t.Errorf("told %+v", got)
	}
	enqueue(q, "Hang", "x", jobs.MaxAttempts(1))
	expect(t, "the failure of Hang", told)
	q.ends(enqueue(q, "Fail", "x", jobs.MaxAttempts(1)), jobs.Failed) // the worker goes on
	stop()
	if n := len(told); n > 0 {
		t.Errorf("%d were told though the hook hung", n)
	}
}

// TestFailedHookIsWaitedFor proves that a worker that ends by itself has told a
// slow hook of all failures.
func TestFailedHookIsWaitedFor(t *testing.T) {
	q := newQueue(t, store.Options{})
	goOn, told := make(chan struct{}), 0
	o := untilEmpty()
	o.Failed = func(ctx context.Context, _ jobs.Failure) {
		<-goOn
		if ctx.Err() == nil {
			told++
		}
	}
	w := jobs.NewWorker(q, o)
	jobs.Handle(w, "Fail", func(_ context.Context, j *jobs.Job[int]) error {
		if j.Payload == 19 {
			time.AfterFunc(300*time.Millisecond, func() { close(goOn) }) // when Run has little left to do
		}
		return jobs.Permanent(errBoom)
	})
	for i := range 20 {
		enqueue(q, "Fail", i)
	}
	q.runUntilEmpty(w)
	if told != 20 {
		t.Errorf("told of %d of 20", told)
	}
}

// TestFailedHookStops proves that a hook which has not kept up when Run ends is
// not called any more after that, and that the log says so, whether or not it
// heeds its context.
func TestFailedHookStops(t *testing.T) {
	t.Run("deaf", func(t *testing.T) { testFailedHookStops(t, false) })
	t.Run("heeding", func(t *testing.T) { testFailedHookStops(t, true) })
}

func testFailedHookStops(t *testing.T, heeds bool) {
	const untold = 500
	q := newQueue(t, store.Options{})
	core, logs := observer.New(zapcore.WarnLevel)
	told, goOn, ended := make(chan int64, 9), make(chan struct{}), make(chan error, 9)
	w := q.worker(q, jobs.WorkerOptions{MaxAttempts: 1, Drain: 100 * time.Millisecond, Logger: zap.New(core), Failed: func(ctx context.Context, f jobs.Failure) {
		told <- f.ID
		if heeds {
			<-ctx.Done()
		} else {
			<-goOn
		}
		ended <- ctx.Err()
	}})
	jobs.Handle(w, "Fail", func(context.Context, *jobs.Job[string]) error { return errBoom })
	stop := q.start(w)
	first := enqueue(q, "Fail", "x")
	if id := expect(t, "the first failure", told); id != first {
		t.Errorf("told of job %d first, want %d", id, first)
	}
	if _, err := jobs.EnqueueMany(t.Context(), q, "Fail", make([]string, untold)); err != nil {
		t.Fatal(err)
	}
	q.eventually(fmt.Sprint(1+untold), `SELECT count(*) FROM sync_jobs WHERE status = 'failed'`)
	stop()
	close(goOn)
	if err := expect(t, "the end of the only call", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("its context: %v", err)
	}
	if left := logged(logs, "before its hook"); len(left) != 1 || left[0].ContextMap()["untold"] != int64(untold) {
		t.Errorf("logged %+v", left)
	}
}
