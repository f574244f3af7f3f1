// Package jobstest helps to test what an application enqueues and how its
// handlers work, on a real queue in a file of the test's own.
//
// Give the application the queue in place of the one that store.Open returns,
// and make the worker as the application does:
//
//	func TestOrder(t *testing.T) {
//		q := jobstest.New(t)
//		shop := NewShop(q)
//		w := shop.Worker() // jobs.NewWorker(q, …), with its handlers
//
//		shop.Order(42)
//		if got := jobstest.Payloads[Invoice](q, "SendInvoice"); len(got) != 1 || got[0].Order != 42 { … }
//
//		q.Drain(w)                    // runs all that is due now, follow-ups included
//		q.Advance(14 * 24 * time.Hour)
//		q.Drain(w)                    // and what was delayed until then
//
//		job := q.Run(w, "SendInvoice", Invoice{43}) // one attempt of one job
//		if job.Status != jobs.Failed || job.Error != "no order 43" { … }
//	}
//
// # What it guarantees
//
// Nothing is simulated: jobs go through the file, as JSON, and are claimed, run
// and ended as they are in production, with the worker's own options and the
// policies that the file has. No job runs but in [Queue.Drain], [Queue.Run] and
// [Queue.Work], and all are settled when those return. There is nothing to sleep
// for: the wall clock is moved by [Queue.Advance].
//
// # What it does not
//
// Advance moves the queue's wall clock, by which jobs are delayed, and nothing
// else: timeouts and leases take the time they take, and the application's own
// time.Now stays where it is; hand it [Queue.Now] where that matters. A retry's
// delay has some jitter: advance by more than the delay. Schedules don't tick;
// RunSchedule enqueues the job of one that is kept in the file. What a handler
// leaves to a goroutine that outlives it is not waited for.
//
// A handler runs in a goroutine of its own: it may call t.Error, but not t.Fatal.
package jobstest
