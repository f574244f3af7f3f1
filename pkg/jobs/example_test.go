package jobs_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// Invoice is the payload of the job type SendInvoice.
type Invoice struct {
	Order int64 `json:"order"`
}

// openQueue opens a queue in a folder of its own; done removes it.
func openQueue(ctx context.Context) (q store.Store, done func()) {
	dir, err := os.MkdirTemp("", "shoal-example-")
	if err != nil {
		log.Fatal(err)
	}
	q, err = store.Open(ctx, filepath.Join(dir, "jobs.db"))
	if err != nil {
		log.Fatal(err)
	}
	return q, func() {
		if err := errors.Join(q.Close(), os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}
}

// A program enqueues jobs and works on them until none is left. A service would
// leave UntilEmpty out: Run then goes on until its context ends, and drains.
func Example() {
	ctx := context.Background()
	q, done := openQueue(ctx) // store.Open(ctx, "jobs.db")
	defer done()

	id, err := jobs.Enqueue(ctx, q, "SendInvoice", Invoice{42})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("enqueued job", id)

	w := jobs.NewWorker(q, jobs.WorkerOptions{Concurrency: 16, UntilEmpty: true})
	jobs.Handle(w, "SendInvoice", func(_ context.Context, j *jobs.Job[Invoice]) error {
		fmt.Printf("attempt %d of %d: sending the invoice of order %d\n", j.Attempt, j.MaxAttempts, j.Payload.Order)
		return nil
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	stats, err := q.Stats(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("completed:", stats.Completed)
	// Output:
	// enqueued job 1
	// attempt 1 of 3: sending the invoice of order 42
	// completed: 1
}

// Several jobs are enqueued in one transaction: all or none.
func ExampleEnqueueMany() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	ids, err := jobs.EnqueueMany(ctx, q, "SendInvoice", []Invoice{{43}, {44}, {45}},
		jobs.Delay(time.Minute), jobs.Priority(10), jobs.MaxAttempts(5))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("enqueued jobs", ids)

	_, err = jobs.EnqueueMany(ctx, q, "SendInvoice", []any{Invoice{46}, func() {}})
	fmt.Println(err)
	stats, err := q.Stats(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("pending:", stats.Pending)
	// Output:
	// enqueued jobs [1 2 3]
	// SendInvoice: payload: json: unsupported type: func()
	// pending: 3
}

// The application's own table, a follow-up job and the job's completion are one
// transaction. Should another worker have the job by now, nothing is written,
// and Commit returns lease.ErrLost.
func ExampleJob_Commit() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()
	err := q.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`CREATE TABLE invoices (order_id INTEGER PRIMARY KEY, sent_at REAL NOT NULL)`)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := jobs.Enqueue(ctx, q, "SendInvoice", Invoice{42}); err != nil {
		log.Fatal(err)
	}

	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true})
	jobs.Handle(w, "SendInvoice", func(ctx context.Context, j *jobs.Job[Invoice]) error {
		remind, err := jobs.NewJob("Remind", j.Payload, jobs.Delay(14*24*time.Hour))
		if err != nil {
			return err
		}
		return j.Commit(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO invoices (order_id, sent_at) VALUES (?, unixepoch())`, j.Payload.Order)
			return err
		}, remind)
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}

	var invoices int
	if err := q.Read().QueryRow(`SELECT count(*) FROM invoices WHERE order_id = 42`).Scan(&invoices); err != nil {
		log.Fatal(err)
	}
	fmt.Println("invoices of order 42:", invoices)
	rows, err := q.Jobs(ctx, jobs.Filter{}) // newest first
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range rows {
		fmt.Println(r.Type, r.Payload, r.Status)
	}
	// Output:
	// invoices of order 42: 1
	// Remind {"order":42} pending
	// SendInvoice {"order":42} completed
}

// A job that finds that its time has not come runs again later; that is no
// failed attempt.
func ExampleSnooze() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()
	if _, err := jobs.Enqueue(ctx, q, "SendInvoice", Invoice{42}); err != nil {
		log.Fatal(err)
	}

	packed := false
	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true})
	jobs.Handle(w, "SendInvoice", func(_ context.Context, j *jobs.Job[Invoice]) error {
		if !packed {
			packed = true // by the time it runs again
			fmt.Printf("attempt %d: not packed yet\n", j.Attempt)
			return jobs.Snooze(10 * time.Millisecond)
		}
		fmt.Printf("attempt %d: sent\n", j.Attempt)
		return nil
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// attempt 1: not packed yet
	// attempt 1: sent
}

// An error that no retry can mend fails its job at once; any other has the job
// tried again while it has attempts left.
func ExamplePermanent() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()
	for _, order := range []int64{42, 404} {
		if _, err := jobs.Enqueue(ctx, q, "SendInvoice", Invoice{order}); err != nil {
			log.Fatal(err)
		}
	}

	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true, RetryDelay: 10 * time.Millisecond})
	jobs.Handle(w, "SendInvoice", func(_ context.Context, j *jobs.Job[Invoice]) error {
		switch {
		case j.Payload.Order == 404:
			return jobs.Permanent(fmt.Errorf("no order %d", j.Payload.Order))
		case j.Attempt < 3:
			return errors.New("the mail server is busy")
		}
		return nil
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	rows, err := q.Jobs(ctx, jobs.Filter{}) // newest first
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range rows {
		fmt.Printf("%s %s after %d: %q\n", r.Payload, r.Status, r.Attempts, r.Error)
	}
	// Output:
	// {"order":404} failed after 1: "no order 404"
	// {"order":42} completed after 3: ""
}
