package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// A handler brings what holds for its type in the whole fleet, until an operator
// says otherwise: at most two at once, at most 100 a minute, five attempts.
func ExampleHandle_policy() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true})
	jobs.Handle(w, "Resize", func(context.Context, *jobs.Job[string]) error { return nil }, jobs.Policy{
		MaxAttempts: 5,
		MaxRunning:  2,
		MaxStarts:   jobs.Rate{N: 100, Per: time.Minute},
		Retry:       jobs.RetryPolicy{Delay: time.Second, Cap: time.Minute},
	})
	if _, err := jobs.Enqueue(ctx, q, "Resize", "cat.png"); err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	policies, err := q.Policies(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range policies {
		fmt.Printf("%s %s: %d at once, %d of %d started\n", p.Kind, p.Name, p.MaxRunning, p.Started, p.MaxStarts.N)
	}
	// Output:
	// type Resize: 2 at once, 1 of 100 started
}

// A handler's own function says how long to wait after which error.
func ExamplePolicy_backoff() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	errBusy := errors.New("server is busy")
	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true})
	jobs.Handle(w, "Fetch", func(_ context.Context, j *jobs.Job[string]) error {
		fmt.Println("attempt", j.Attempt)
		if j.Attempt < 3 {
			return errBusy
		}
		return nil
	}, jobs.Policy{Backoff: func(attempt int, err error) time.Duration {
		if errors.Is(err, errBusy) {
			return time.Duration(attempt) * 10 * time.Millisecond
		}
		return time.Hour
	}})
	if _, err := jobs.Enqueue(ctx, q, "Fetch", "https://example.org"); err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
}

// An operator pauses a queue, and asks why a job in it does not run.
func ExampleExplain() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	id, err := jobs.Enqueue(ctx, q, "Send", "hello", jobs.OnQueue("mail"))
	if err != nil {
		log.Fatal(err)
	}
	if err := q.ChangePolicy(ctx, jobs.OfQueue, "mail", func(p *jobs.Policy) { p.Paused = true }); err != nil {
		log.Fatal(err)
	}
	row, _, err := q.Job(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	x, err := jobs.Explain(ctx, q, row, time.Now())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(x.Why)
	fmt.Println(x.Todo)
	// Output:
	// queue mail is paused.
	// enqueuer queue resume mail
}

// An attempt's context ends after the job's timeout.
func ExampleTimeout() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	id, err := jobs.Enqueue(ctx, q, "Sleep", time.Hour, jobs.Timeout(20*time.Millisecond), jobs.MaxAttempts(1))
	if err != nil {
		log.Fatal(err)
	}
	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true})
	jobs.Handle(w, "Sleep", func(ctx context.Context, j *jobs.Job[time.Duration]) error {
		select {
		case <-time.After(j.Payload):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	row, _, err := q.Job(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(row.Status, "-", row.Error)
	// Output:
	// failed - timed out after 20ms: timed out
}

// Only one job of its type has the key while it is pending or running; whoever
// comes second gets its id.
func ExampleUniqueKey() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	for _, total := range []int{10, 20} {
		id, err := jobs.Enqueue(ctx, q, "Report", total, jobs.UniqueKey(jobs.Unique{Key: "2026-11", OnConflict: jobs.Replace}))
		if err != nil {
			log.Fatal(err)
		}
		row, _, err := q.Job(ctx, id)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("job", id, "with payload", row.Payload)
	}
	// Output:
	// job 1 with payload 10
	// job 1 with payload 20
}

// A queue with slots of its own: what waits in another never holds it up. The
// handler says how far it is, and leaves a result.
func ExampleQueue() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true, Queues: []jobs.Queue{{Name: "mail", Slots: 4}, {Name: jobs.DefaultQueue, Slots: 12}}})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[[]string]) error {
		for i := range j.Payload {
			j.Progress(int64(i+1), int64(len(j.Payload)), "sent") // written with the next renewal
		}
		return j.SetResult(map[string]int{"sent": len(j.Payload)})
	})
	id, err := jobs.Enqueue(ctx, q, "Send", []string{"ada", "grace"}, jobs.OnQueue("mail"))
	if err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	row, _, err := q.Job(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(row.Status, string(row.Result))
	// Output:
	// completed {"sent":2}
}
