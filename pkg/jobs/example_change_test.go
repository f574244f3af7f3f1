package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Once the cause is mended, an operator's program has the failed jobs of a type
// tried again: each gets one attempt more.
func ExampleOperator() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()
	if _, err := jobs.EnqueueMany(ctx, q, "SendInvoice", []Invoice{{42}, {43}}, jobs.MaxAttempts(1)); err != nil {
		log.Fatal(err)
	}
	mailServer := errors.New("connection refused")
	work := func() {
		w := jobs.NewWorker(q, jobs.WorkerOptions{Concurrency: 1, UntilEmpty: true})
		jobs.Handle(w, "SendInvoice", func(_ context.Context, j *jobs.Job[Invoice]) error {
			fmt.Printf("attempt %d of %d, order %d: %v\n", j.Attempt, j.MaxAttempts, j.Payload.Order, mailServer)
			return mailServer
		})
		if err := w.Run(ctx); err != nil {
			log.Fatal(err)
		}
	}
	work()

	mailServer = nil
	changed, err := q.Change(ctx, jobs.Filter{Type: "SendInvoice", Status: jobs.Failed}, jobs.Change{Verb: jobs.Retry})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("retried jobs:", changed.Count)
	work()
	// Output:
	// attempt 1 of 1, order 42: connection refused
	// attempt 1 of 1, order 43: connection refused
	// retried jobs: 2
	// attempt 2 of 2, order 42: <nil>
	// attempt 2 of 2, order 43: <nil>
}

// A running job is cancelled: its handler's context ends, wherever it runs, and
// what it says then is refused. What has ended is deleted when it is old enough.
func ExampleChange() {
	ctx, stop := context.WithCancel(context.Background())
	q, done := openQueue(ctx)
	defer done()

	started, ended := make(chan int64), make(chan error)
	w := jobs.NewWorker(q, jobs.WorkerOptions{})
	jobs.Handle(w, "Render", func(ctx context.Context, j *jobs.Job[string]) error {
		started <- j.ID
		<-ctx.Done()
		return nil // too late: it is cancelled
	})
	go func() { ended <- w.Run(ctx) }()
	if _, err := jobs.Enqueue(ctx, q, "Render", "film.mp4"); err != nil {
		log.Fatal(err)
	}
	id := <-started
	if _, err := q.Change(ctx, jobs.Filter{IDs: []int64{id}}, jobs.Change{Verb: jobs.Cancel}); err != nil {
		log.Fatal(err)
	}
	row, _, err := q.Job(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("job", id, "is", row.Status)

	old := jobs.Filter{Status: jobs.Cancelled, EndedBefore: time.Now().Add(time.Second)} // more likely: a week ago
	deleted, err := q.Change(ctx, old, jobs.Change{Verb: jobs.Delete})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("deleted:", deleted.Count)
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output:
	// job 1 is cancelled
	// deleted: 1
}
