package jobstest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// patience is how long work may take, real time: a handler that hangs, or has
// its job run again at once each time, ends the test with its name.
const patience = 30 * time.Second

// Worked is what came of one attempt.
type Worked struct {
	// Row is the job as it is stored now. Of a job that is to be tried again it has
	// the attempt's Error, and when, in RunAt; of one that completed its Result.
	jobs.Row
	// Enqueued is what was enqueued meanwhile, oldest first. Nothing of it has run.
	Enqueued []jobs.Row
}

// Drain runs w until nothing is left that it could claim now, and returns the
// jobs that it worked on, as they are now, in the order of their first claims.
// Jobs that w's handlers enqueue are run as well if they are due. What is delayed,
// to be tried again later for one, stays, and so does what is paused, or of a type
// or queue that is not w's.
//
// w is made by [jobs.NewWorker] with the queue, or what wraps it. It can be
// drained again, and need not be told to stop.
func (q *Queue) Drain(w *jobs.Worker) []jobs.Row {
	q.t.Helper()
	d := q.run(w, 0)
	var worked []jobs.Row
	for _, id := range d.claimed {
		worked = append(worked, q.row(id))
	}
	return worked
}

// Run enqueues one job, and works on it as Work does.
func (q *Queue) Run(w *jobs.Worker, jobType string, payload any, opts ...jobs.Option) Worked {
	q.t.Helper()
	id, err := jobs.Enqueue(q.context(), q, jobType, payload, opts...)
	if err != nil {
		q.t.Fatal(err)
	}
	return q.Work(w, id)
}

// Work has w make one attempt at the job with that id, and at no other job,
// whatever else is due. The job must be pending and due.
func (q *Queue) Work(w *jobs.Worker, id int64) Worked {
	q.t.Helper()
	row, all := q.row(id), q.Enqueued("")
	if row.Status != jobs.Pending || row.RunAt.Time().After(q.Now()) {
		q.t.Fatalf("job %d (%s) can't be worked on: %s", id, row.Type, q.why(id))
	}
	d := q.run(w, id)
	if len(d.claimed) == 0 {
		q.t.Fatalf("job %d (%s) was not claimed: %s", id, row.Type, d.why)
	}
	return Worked{Row: q.row(id), Enqueued: q.since(all[len(all)-1].ID)}
}

// since lists the jobs with higher ids.
func (q *Queue) since(id int64) []jobs.Row {
	q.t.Helper()
	all := q.Enqueued("")
	for i, row := range all {
		if row.ID > id {
			return all[i:]
		}
	}
	return nil
}

// run runs w until it is drained, or until the only job has had its attempt.
func (q *Queue) run(w *jobs.Worker, only int64) *drain {
	q.t.Helper()
	limit, cancel := context.WithTimeout(q.context(), q.patience)
	defer cancel()
	ctx, stop := context.WithCancel(limit)
	defer stop()
	d := &drain{q: q, only: only, stop: stop}
	if err := w.Run(context.WithValue(ctx, drainKey{}, d)); err != nil {
		q.t.Fatalf("worker: %v", err)
	}
	switch {
	case limit.Err() != nil && !d.joined:
		q.t.Fatal("the worker is not of this queue: make it by jobs.NewWorker(q, …)")
	case limit.Err() != nil:
		q.t.Fatalf("no end in %v: %s", q.patience, q.unfinished(d.claimed))
	}
	return d
}

// unfinished names the last few jobs that were begun and have not ended.
func (q *Queue) unfinished(claimed []int64) string {
	q.t.Helper()
	const most = 5
	var names []string
	for _, id := range claimed {
		if row := q.row(id); row.Status == jobs.Pending || row.Status == jobs.Running {
			names = append(names, fmt.Sprintf("job %d (%s) is %s after %d attempts and %d claims", id, row.Type, row.Status, row.Attempts, row.LeaseToken))
		}
	}
	if len(names) > most {
		names = append([]string{"…"}, names[len(names)-most:]...)
	}
	if len(names) == 0 {
		return fmt.Sprintf("%d jobs have ended, and there was always another one", len(claimed))
	}
	return strings.Join(names, "; ")
}

// why says why a job is not claimed.
func (q *Queue) why(id int64) string {
	x, err := jobs.Explain(q.context(), q, q.row(id), q.Now())
	if err != nil {
		return err.Error()
	}
	return x.Why
}
