// Package jobs is a durable job queue for a fleet of worker processes.
//
// A producer enqueues jobs into a store; workers claim them under leases and
// hand them to handlers:
//
//	q, err := store.Open(ctx, "jobs.db")
//	id, err := jobs.Enqueue(ctx, q, "SendInvoice", Invoice{42}, jobs.Delay(time.Minute))
//
//	w := jobs.NewWorker(q, jobs.WorkerOptions{Concurrency: 16})
//	jobs.Handle(w, "SendInvoice", func(ctx context.Context, j *jobs.Job[Invoice]) error { … })
//	err = w.Run(ctx)
//
// # What it guarantees
//
// A job that Enqueue returned an id for is stored, as durably as the engine says. It
// is claimed again, however many workers die on the way, until it has completed, has
// failed for good (its attempts are used up, or no retry can help), or was cancelled
// or deleted. Each attempt has a token; its outcome is accepted at most once, and only
// while the job is still leased to that attempt. What a handler writes through
// [Job.Commit] is one transaction with the job's completion: all or nothing, once.
//
// # What it does not
//
// A handler may run twice: when its worker is killed or stopped past its lease,
// another takes over, and what the first one did outside Job.Commit stays done.
// Make effects idempotent, or fence them with the attempt's token. An Enqueue that
// returned [ErrUnknown] may have stored its jobs: a [UniqueForever] key makes it safe
// to repeat. The order of claims (priority, due time, id) is no order of completion.
//
// # The life of a job
//
//	enqueue ─► pending ──claim──► running ──► completed
//	             ▲  (run_at)         ├────► failed
//	             │                   └────► cancelled
//	             └── retry, snooze, release (drain), reap (holder dead or lease ended)
//
// Attempts are counted at the claim, so that a job that kills its worker uses
// them up too, and its neighbours on that worker lose one with it.
//
// The package holds no SQL: an engine implements [Store] and [Seat]. Package
// jobstest helps to test handlers, and what an application enqueues.
package jobs
