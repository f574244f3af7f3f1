package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log"

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
