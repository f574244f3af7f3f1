package jobstest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/jobs/jobstest"
)

// spy is a test that may fail. Its cleanups run when end is called.
type spy struct {
	testing.TB
	mu       sync.Mutex
	said     []string
	cleanups []func()
}

func (s *spy) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, text)
}

func (s *spy) Helper()                           {}
func (s *spy) Error(args ...any)                 { s.say(fmt.Sprint(args...)) }
func (s *spy) Errorf(format string, args ...any) { s.say(fmt.Sprintf(format, args...)) }
func (s *spy) Fatal(args ...any)                 { s.Error(args...); runtime.Goexit() }
func (s *spy) Fatalf(format string, args ...any) { s.Errorf(format, args...); runtime.Goexit() }
func (s *spy) Cleanup(fn func())                 { s.cleanups = append(s.cleanups, fn) }

// failure is what test says when it fails, its cleanups included.
func failure(t *testing.T, test func(*jobstest.Queue)) string {
	t.Helper()
	s := &spy{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(jobstest.New(s))
	}()
	<-done
	for _, fn := range s.cleanups {
		fn()
	}
	return strings.Join(s.said, "\n")
}

func equal[T any](t testing.TB, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func enqueue(t testing.TB, q jobs.Store, jobType string, opts ...jobs.Option) int64 {
	t.Helper()
	id, err := jobs.Enqueue(t.Context(), q, jobType, jobType, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// worker handles types with what comes back from fn.
func worker(q jobs.Store, o jobs.WorkerOptions, fn func(*jobs.Job[any]) error, types ...string) *jobs.Worker {
	w := jobs.NewWorker(q, o)
	for _, jobType := range types {
		jobs.Handle(w, jobType, func(_ context.Context, j *jobs.Job[any]) error { return fn(j) })
	}
	return w
}

func fine(*jobs.Job[any]) error { return nil }

func state(rows []jobs.Row) (list []string) {
	for _, r := range rows {
		list = append(list, fmt.Sprint(r.ID, " ", r.Type, " ", r.Status))
	}
	return list
}

func TestNeedsNothing(t *testing.T) {
	t.Parallel()
	equal(t, failure(t, func(q *jobstest.Queue) {
		equal(t, q.Enqueued(""), nil)
		equal(t, q.Drain(worker(q, jobs.WorkerOptions{}, fine, "A")), nil)
	}), "")
}

// More than a list has without being asked for more.
func TestEnqueuedListsAll(t *testing.T) {
	t.Parallel()
	q := jobstest.New(t)
	const n = 250
	if _, err := jobs.EnqueueMany(t.Context(), q, "A", make([]int, n)); err != nil {
		t.Fatal(err)
	}
	enqueue(t, q, "B")
	equal(t, len(q.Enqueued("A")), n)
	equal(t, len(q.Enqueued("")), n+1)
	equal(t, q.Enqueued("")[0].ID, 1)
	equal(t, len(q.Drain(worker(q, jobs.WorkerOptions{}, fine, "A", "B"))), n+1)
}

func TestNowAdvances(t *testing.T) {
	t.Parallel()
	q := jobstest.New(t)
	q.Advance(time.Hour)
	before := time.Now()
	if now := q.Now(); now.Before(before.Add(time.Hour)) || now.After(time.Now().Add(time.Hour)) {
		t.Errorf("it is %v, an hour after %v", now, before)
	}
	id := enqueue(t, q, "A", jobs.At(before.Add(30*time.Minute)))
	equal(t, q.Work(worker(q, jobs.WorkerOptions{}, fine, "A"), id).Status, jobs.Completed)
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		test func(*jobstest.Queue)
		want string // part of what it says
	}{
		"back in time": {func(q *jobstest.Queue) { q.Advance(-time.Second) }, "advance by -1s: the clock goes forward only"},
		"a payload of another kind": {func(q *jobstest.Queue) {
			enqueue(t, q, "A")
			jobstest.Payloads[int](q, "A")
		}, `payload of job 1 (A) is no int: json: cannot unmarshal string into Go value of type int: "A"`},
		"nonsensical options": {func(q *jobstest.Queue) {
			q.Drain(worker(q, jobs.WorkerOptions{Lease: 1}, fine, "A"))
		}, "worker: lease is 1ns"},
		"no handlers": {func(q *jobstest.Queue) { q.Drain(worker(q, jobs.WorkerOptions{}, fine)) }, "worker: no job type has a handler"},
		"what can't be enqueued": {func(q *jobstest.Queue) {
			q.Run(worker(q, jobs.WorkerOptions{}, fine, "A"), "A", func() {})
		}, "A: payload: json: unsupported type: func()"},
		"no such job": {func(q *jobstest.Queue) {
			q.Work(worker(q, jobs.WorkerOptions{}, fine, "A"), 7)
		}, "job 7: no such job"},
		"a delayed job": {func(q *jobstest.Queue) {
			q.Run(worker(q, jobs.WorkerOptions{}, fine, "A"), "A", nil, jobs.Delay(time.Hour))
		}, "job 1 (A) can't be worked on: it is delayed until"},
		"a job that has ended": {func(q *jobstest.Queue) {
			w := worker(q, jobs.WorkerOptions{}, fine, "A")
			q.Work(w, q.Run(w, "A", nil).ID)
		}, "job 1 (A) can't be worked on: it completed"},
		"no handler": {func(q *jobstest.Queue) {
			q.Run(worker(q, jobs.WorkerOptions{}, fine, "A"), "B", nil)
		}, "job 1 (B) was not claimed: no worker handles type B"},
		"another queue": {func(q *jobstest.Queue) {
			enqueue(t, q, "A")
			q.Run(worker(q, jobs.WorkerOptions{}, fine, "A"), "A", nil, jobs.OnQueue("mail"))
		}, "job 2 (A) was not claimed: no worker works on queue mail"},
		"a paused type": {func(q *jobstest.Queue) {
			pause(t, q, "A")
			q.Run(worker(q, jobs.WorkerOptions{}, fine, "A", "B"), "A", nil)
		}, "job 1 (A) was not claimed: type A is paused"},
		"a worker of another queue": {func(q *jobstest.Queue) {
			q.Patience(500 * time.Millisecond)
			q.Drain(worker(jobstest.New(t), jobs.WorkerOptions{}, fine, "A"))
		}, "the worker is not of this queue: make it by jobs.NewWorker(q, …)"},
		"a job that comes back at once": {func(q *jobstest.Queue) {
			q.Patience(500 * time.Millisecond)
			enqueue(t, q, "A")
			q.Drain(worker(q, jobs.WorkerOptions{}, func(*jobs.Job[any]) error { return jobs.Snooze(0) }, "A"))
		}, "no end in 500ms: job 1 (A) is pending after 0 attempts and "},
		"a handler that hangs": {func(q *jobstest.Queue) {
			q.Patience(500 * time.Millisecond)
			enqueue(t, q, "A")
			q.Drain(worker(q, jobs.WorkerOptions{Drain: -1}, func(*jobs.Job[any]) error { <-t.Context().Done(); return nil }, "A"))
		}, "no end in 500ms: job 1 (A) is "},
		"a handler that enqueues without end": {func(q *jobstest.Queue) {
			q.Patience(500 * time.Millisecond)
			enqueue(t, q, "A")
			q.Drain(worker(q, jobs.WorkerOptions{}, func(*jobs.Job[any]) error { enqueue(t, q, "A"); return nil }, "A"))
		}, "no end in 500ms: "},
		"a worker that is left running": {func(q *jobstest.Queue) {
			began := make(chan struct{})
			w := worker(q, jobs.WorkerOptions{}, func(*jobs.Job[any]) error {
				close(began)
				<-t.Context().Done()
				return errors.New("the test has ended")
			}, "A")
			go func() { _ = w.Run(t.Context()) }()
			enqueue(t, q, "A")
			<-began
		}, "job 1 (A) still runs at the test's end: stop its worker"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if said := failure(t, tc.test); !strings.HasPrefix(said, tc.want) {
				t.Errorf("it says %q\nwant %q", said, tc.want)
			}
		})
	}
}

func pause(t testing.TB, q *jobstest.Queue, jobType string) {
	t.Helper()
	if err := q.ChangePolicy(t.Context(), jobs.OfType, jobType, func(p *jobs.Policy) { p.Paused = true }); err != nil {
		t.Fatal(err)
	}
}
