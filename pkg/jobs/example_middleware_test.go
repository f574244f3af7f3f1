package jobs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Middleware is around each attempt: here it prints how each ended. The hook is
// told of jobs that failed for good.
func ExampleWorkerOptions_middleware() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	logged := func(next jobs.Handler) jobs.Handler {
		return func(ctx context.Context, j *jobs.Job[json.RawMessage]) error {
			err := next(ctx, j)
			fmt.Printf("%s %s, attempt %d: %v\n", j.Type, j.Payload, j.Attempt, err)
			return err
		}
	}
	w := jobs.NewWorker(q, jobs.WorkerOptions{
		UntilEmpty: true, RetryDelay: time.Millisecond,
		Middleware: []func(jobs.Handler) jobs.Handler{logged},
		Failed: func(_ context.Context, f jobs.Failure) {
			fmt.Printf("job %d failed for good: %s\n", f.ID, f.Error)
		},
	})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error {
		return fmt.Errorf("no route to %s", j.Payload)
	})
	if _, err := jobs.Enqueue(ctx, q, "Send", "ada", jobs.MaxAttempts(2)); err != nil {
		log.Fatal(err)
	}
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// Send "ada", attempt 1: no route to ada
	// Send "ada", attempt 2: no route to ada
	// job 1 failed for good: no route to ada
}

// tenant is middleware around Enqueue: a Store that embeds another. Follow-ups of
// Job.Commit and the ticks of schedules don't pass it.
type tenant struct {
	jobs.Store
	name string
}

func (t tenant) Enqueue(ctx context.Context, batch ...jobs.New) ([]jobs.Added, error) {
	marked := make([]jobs.New, len(batch))
	for i, n := range batch {
		n.Meta = maps.Clone(n.Meta)
		jobs.Meta("tenant", t.name)(&n)
		marked[i] = n
	}
	return t.Store.Enqueue(ctx, marked...)
}

// Whoever embeds a Store is around what is enqueued.
func ExampleMeta() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	if _, err := jobs.Enqueue(ctx, tenant{q, "acme"}, "Send", "hello"); err != nil {
		log.Fatal(err)
	}
	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error {
		fmt.Println(j.Payload, "for", j.Meta["tenant"])
		return nil
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// hello for acme
}
