package jobs_test

import (
	"context"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// deaf is a handler that ignores its context: its name is to be in the log.
func deaf(started chan<- int64, goOn <-chan struct{}, id int64) {
	started <- id
	<-goOn
}

// logged are the lines so far that say so.
func logged(logs *observer.ObservedLogs, says string) []observer.LoggedEntry {
	return logs.FilterMessageSnippet(says).All()
}

// TestStuck proves that a handler which does not return though its job was taken
// away, or though its time is over, is logged once, with its own stack, and
// counted where people look; that its slot is taken until it does return, and
// free after that.
func TestStuck(t *testing.T) {
	q := newQueue(t, store.Options{})
	core, logs := observer.New(zapcore.InfoLevel)
	w := q.worker(q, jobs.WorkerOptions{Concurrency: 3, Logger: zap.New(core)})
	started, goOn := make(chan int64, 10), make(chan struct{})
	jobs.Handle(w, "Deaf", func(_ context.Context, j *jobs.Job[int]) error {
		deaf(started, goOn, j.ID)
		return nil
	})
	jobs.Handle(w, "Patient", func(ctx context.Context, j *jobs.Job[int]) error {
		started <- j.ID
		<-goOn
		return ctx.Err()
	})
	q.start(w)
	lost, late := enqueue(q, "Deaf", 0), enqueue(q, "Deaf", 0, jobs.Timeout(50*time.Millisecond))
	patient := enqueue(q, "Patient", 0)
	for range 3 {
		expect(t, "the handlers' start", started)
	}
	q.exec(`UPDATE sync_jobs SET status = 'cancelled', completed_at = unixepoch(), lease_expires_at = NULL WHERE id = ?`, lost)
	next := enqueue(q, "Patient", 0)

	q.eventually("2", `SELECT stuck FROM sync_workers`)
	if s, err := q.Stats(t.Context()); err != nil || s.Stuck != 2 || s.Running != 2 {
		t.Errorf("stats: %+v, %v", s, err)
	}
	if row, _ := q.ends(next, jobs.Pending); row.LeaseToken != 0 {
		t.Error("a stuck handler's slot was given to another")
	}
	told := logged(logs, "handler does not return")
	if len(told) != 2 {
		t.Errorf("logged %d times, want once for each of two: %v", len(told), told)
	}
	causes := map[int64]string{lost: "lease lost", late: "timed out"}
	for _, line := range told {
		fields := line.ContextMap()
		id, _ := fields["job"].(int64)
		contains(t, fields["cause"], causes[id])
		contains(t, fields["stack"], "jobs_test.deaf", "stuck_test.go", `"job_type":"Deaf"`)
		if strings.Contains(fields["stack"].(string), "Patient") || line.Level != zapcore.ErrorLevel {
			t.Errorf("job %d at level %v has the stacks of others: %v", id, line.Level, fields["stack"])
		}
		delete(causes, id)
	}
	if len(causes) > 0 {
		t.Errorf("not named: %v", causes)
	}

	close(goOn)
	q.ends(next, jobs.Completed)
	q.ends(patient, jobs.Completed)
	q.ends(late, jobs.Completed)
	q.ends(lost, jobs.Cancelled)
	q.eventually("0", `SELECT stuck FROM sync_workers`)
	if again := logged(logs, "handler does not return"); len(again) != 2 {
		t.Errorf("logged again: %v", again)
	}
}

// TestDrainNamesStuck proves that a worker says which jobs' handlers it leaves
// behind.
func TestDrainNamesStuck(t *testing.T) {
	q := newQueue(t, store.Options{})
	core, logs := observer.New(zapcore.InfoLevel)
	w := q.worker(q, jobs.WorkerOptions{Drain: -1, Logger: zap.New(core)})
	started, goOn := make(chan int64, 1), make(chan struct{})
	jobs.Handle(w, "Deaf", func(_ context.Context, j *jobs.Job[int]) error {
		deaf(started, goOn, j.ID)
		return nil
	})
	jobs.Handle(w, "Hears", func(ctx context.Context, j *jobs.Job[int]) error {
		started <- j.ID
		<-ctx.Done()
		return ctx.Err()
	})
	stop := q.start(w)
	id, other := enqueue(q, "Deaf", 0), enqueue(q, "Hears", 0)
	for range 2 {
		expect(t, "the handler's start", started)
	}
	stop()
	close(goOn)
	lines := logged(logs, "are left behind")
	if len(lines) != 1 {
		t.Fatalf("%d lines: %v", len(lines), logs.All())
	}
	if ids, _ := lines[0].ContextMap()["ids"].([]any); len(ids) != 1 || ids[0] != id {
		t.Errorf("left behind: %v, want %d alone", ids, id)
	}
	q.ends(id, jobs.Pending)
	q.ends(other, jobs.Pending)
}

// TestLabels proves that in an application's own profile a handler's goroutine,
// and those that it starts, can be told by the job's type, and that pprof.Do in a
// handler adds to that.
func TestLabels(t *testing.T) {
	q := newQueue(t, store.Options{})
	for range 20 {
		enqueue(q, "Send", 0)
	}
	w := jobs.NewWorker(q, untilEmpty())
	jobs.Handle(w, "Send", func(ctx context.Context, _ *jobs.Job[int]) error {
		pprof.Do(ctx, pprof.Labels("step", "one"), func(ctx context.Context) {
			if v, _ := pprof.Label(ctx, "job_type"); v != "Send" {
				t.Errorf("the job's type is %q", v)
			}
		})
		return nil
	})
	q.runUntilEmpty(w)
}
