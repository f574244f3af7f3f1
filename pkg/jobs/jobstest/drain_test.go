package jobstest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/jobs/jobstest"
)

// What is due runs with all that comes of it, through Enqueue, Commit or a retry
// at once; what is not to run now stays as it is.
func TestDrain(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]jobs.WorkerOptions{
		"service":     {Concurrency: 2},
		"until empty": {UntilEmpty: true},
		"two queues":  {Queues: []jobs.Queue{{Name: "default", Slots: 1}, {Name: "mail", Slots: 2}, {Name: "other"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := jobstest.New(t)
			w := worker(q, o, fine, "Last", "Paused")
			jobs.Handle(w, "First", func(context.Context, *jobs.Job[string]) error {
				enqueue(t, q, "Second")
				return nil
			})
			jobs.Handle(w, "Second", func(ctx context.Context, j *jobs.Job[string]) error {
				follow, err := jobs.NewJob("Third", nil)
				if err != nil {
					return err
				}
				return j.Commit(ctx, nil, follow)
			})
			jobs.Handle(w, "Third", func(_ context.Context, j *jobs.Job[any]) error {
				if j.Attempt == 1 {
					return jobs.RetryAfter(errors.New("once more"), 0)
				}
				enqueue(t, q, "Last")
				return errors.New("later")
			})
			pause(t, q, "Paused")
			for _, jobType := range []string{"First", "Paused", "Unhandled"} {
				enqueue(t, q, jobType)
			}
			enqueue(t, q, "Last", jobs.Delay(time.Hour))
			enqueue(t, q, "Last", jobs.OnQueue("nobody's"))

			equal(t, state(q.Drain(w)), []string{"1 First completed", "6 Second completed", "7 Third pending", "8 Last completed"})
			equal(t, state(q.Enqueued("")[1:5]), []string{"2 Paused pending", "3 Unhandled pending", "4 Last pending", "5 Last pending"})
			equal(t, q.Drain(w), nil)
			q.Advance(2 * time.Hour)
			equal(t, state(q.Drain(w)), []string{"7 Third failed", "4 Last completed", "9 Last completed"})
		})
	}
}

// A worker of a queue with limits is not done while a limit keeps it from
// claiming, if what runs will let the next one begin; a rate lets none begin
// before its time.
func TestDrainWithLimits(t *testing.T) {
	t.Parallel()
	q := jobstest.New(t)
	w := jobs.NewWorker(q, jobs.WorkerOptions{})
	for jobType, p := range map[string]jobs.Policy{"OneByOne": {MaxRunning: 1}, "TwoAnHour": {MaxStarts: jobs.Rate{N: 2, Per: time.Hour}}} {
		jobs.Handle(w, jobType, func(context.Context, *jobs.Job[int]) error { return nil }, p)
		if _, err := jobs.EnqueueMany(t.Context(), q, jobType, make([]int, 5)); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, len(q.Drain(w)), 5+2)
	q.Advance(time.Hour)
	equal(t, len(q.Drain(w)), 2)
}

// A panic and the end of a handler's goroutine are that attempt's errors.
func TestDrainSurvivesHandlers(t *testing.T) {
	t.Parallel()
	q := jobstest.New(t)
	w := worker(q, jobs.WorkerOptions{MaxAttempts: 1}, func(j *jobs.Job[any]) error {
		if j.ID == 1 {
			panic("oh")
		}
		runtime.Goexit()
		return nil
	}, "A")
	enqueue(t, q, "A")
	enqueue(t, q, "A")
	equal(t, state(q.Drain(w)), []string{"1 A failed", "2 A failed"})
}

// Schedules depend on when they are asked: a worker that is drained leaves them alone.
func TestSchedulesDoNotTick(t *testing.T) {
	t.Parallel()
	q := jobstest.New(t)
	w := worker(q, jobs.WorkerOptions{Schedules: []jobs.Schedule{{Name: "often", Spec: "@every 1h", Jobs: func(context.Context) ([]jobs.New, error) {
		t.Error("a schedule ticks")
		return nil, nil
	}}}}, fine, "A")
	enqueue(t, q, "A")
	equal(t, len(q.Drain(w)), 1)
}

// wrapper is an application's own store, as one that encrypts payloads.
type wrapper struct{ jobs.Store }

func TestDrainThroughWrapper(t *testing.T) {
	t.Parallel()
	q := jobstest.New(t)
	w := worker(wrapper{q}, jobs.WorkerOptions{}, fine, "A")
	enqueue(t, wrapper{q}, "A")
	equal(t, len(q.Drain(w)), 1)
}

// One job gets one attempt, though others are due before it and it is due again
// at once; neither its priority nor the others show anything of that.
func TestWorkTakesNoOther(t *testing.T) {
	t.Parallel()
	q := jobstest.New(t)
	var ran []string
	w := worker(q, jobs.WorkerOptions{MaxAttempts: 9, Queues: []jobs.Queue{{Name: "default"}, {Name: "mail", Slots: 3}}}, func(j *jobs.Job[any]) error {
		ran = append(ran, fmt.Sprintf("%d: attempt %d, priority %d", j.ID, j.Attempt, j.Priority))
		enqueue(t, q, "B", jobs.Priority(1000))
		enqueue(t, q, "C", jobs.Delay(time.Hour))
		return jobs.RetryAfter(fmt.Errorf("attempt %d", j.Attempt), 0)
	}, "A", "B")
	for _, jobType := range []string{"A", "B", "A"} {
		enqueue(t, q, jobType, jobs.Priority(100))
		enqueue(t, q, jobType, jobs.Priority(100), jobs.OnQueue("mail"))
	}
	job := q.Run(w, "A", nil, jobs.Priority(-3), jobs.OnQueue("mail"))
	equal(t, job.Status, jobs.Pending)
	equal(t, job.Priority, -3)
	equal(t, job.Attempts, 1)
	equal(t, job.Error, "attempt 1")
	equal(t, state(job.Enqueued), []string{"8 B pending", "9 C pending"})
	job = q.Work(w, job.ID)
	equal(t, job.Attempts, 2)
	equal(t, job.Error, "attempt 2")
	equal(t, state(job.Enqueued), []string{"10 B pending", "11 C pending"})
	equal(t, ran, []string{"7: attempt 1, priority -3", "7: attempt 2, priority -3"})
	for _, row := range q.Enqueued("")[:6] {
		equal(t, row.LeaseToken, 0)
		equal(t, row.Priority, 100)
	}
}

// What a handler says by Commit and Snooze is seen as well.
func TestWorked(t *testing.T) {
	t.Parallel()
	q := jobstest.New(t)
	w := jobs.NewWorker(q, jobs.WorkerOptions{})
	jobs.Handle(w, "Step", func(ctx context.Context, j *jobs.Job[int]) error {
		if j.Payload == 0 {
			return jobs.Snooze(time.Hour)
		}
		if err := j.SetResult(j.Payload); err != nil {
			return err
		}
		return j.Commit(ctx, nil)
	})
	job := q.Run(w, "Step", 0)
	equal(t, job.Status, jobs.Pending)
	equal(t, job.Attempts, 0)
	if wait := job.RunAt.Time().Sub(q.Now()); wait < 59*time.Minute || wait > time.Hour {
		t.Errorf("it waits %v", wait)
	}
	job = q.Run(w, "Step", 1)
	equal(t, job.Status, jobs.Completed)
	equal(t, string(job.Result), "1")
	equal(t, job.Enqueued, nil)
}
