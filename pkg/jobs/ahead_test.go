package jobs_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestAhead proves that what a worker has claimed ahead of its slots, and has no slot
// for in time, is soon with another worker: no attempt is counted, and it keeps its place
// in the order.
func TestAhead(t *testing.T) {
	f := newFast(t, 300*time.Millisecond, time.Hour)
	f.eventually("4", `SELECT count(*) FROM sync_jobs WHERE status = 'running'`)
	if n := f.value(`SELECT count(*) FROM sync_jobs WHERE status = 'pending' AND lease_token > 0`); n == "0" {
		t.Error("nothing was claimed ahead and given back")
	}
	if wrong := f.value(`SELECT id FROM sync_jobs
			WHERE status = 'pending' AND (attempts <> 0 OR run_at <> created_at - 1 OR due <> 1 OR error IS NOT NULL)
		UNION ALL SELECT job_id FROM sync_job_errors`); wrong != "" {
		t.Errorf("jobs that are not as they were: %s", wrong)
	}
	other := f.worker(f.open(store.Options{}), jobs.WorkerOptions{Concurrency: 4, Poll: time.Hour})
	jobs.Handle(other, "Send", func(context.Context, *jobs.Job[string]) error { return nil })
	f.start(other)
	f.eventually("48", `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`)
	f.end()
	f.eventually("52", `SELECT count(*) FROM sync_jobs WHERE status = 'completed' AND attempts = 1`)
}

// TestAheadStops proves that a worker that is told to stop begins nothing that it has
// claimed ahead, but gives it back while others still run.
func TestAheadStops(t *testing.T) {
	f := newFast(t, 100*time.Millisecond, time.Hour)
	go f.stop()
	f.eventually("4|36", `SELECT sum(status = 'running'), sum(status = 'pending' AND attempts = 0)
		FROM sync_jobs WHERE status <> 'completed'`)
	f.end()
	f.stop()
	if left := f.value(`SELECT count(*), max(attempts) FROM sync_jobs WHERE status = 'pending'`); left != "36|0" {
		t.Errorf("pending, and their attempts: %s, want 36|0", left)
	}
}

// TestAheadStopsInTurn proves the same of a worker that waits for the store as it is told.
func TestAheadStopsInTurn(t *testing.T) {
	f := newFast(t, time.Second, time.Hour)
	f.disk.gone.Store(true)
	f.first <- struct{}{} // its outcome has a turn begin; another has its slot
	expect(t, "a turn that waits", f.disk.waits)
	waiting := f.waiting()
	go f.stop()
	<-time.After(500 * time.Millisecond) // the word arrives, of which nothing tells
	f.disk.gone.Store(false)
	f.end()
	f.stop()
	f.neverBegan(waiting)
}

// TestAheadLost proves that a job which was claimed ahead, and is cancelled before there
// is a slot for it, never begins.
func TestAheadLost(t *testing.T) {
	f := newFast(t, time.Second, time.Hour)
	waiting := f.waiting()
	// With those that run, as their handlers hear of it: in one commit, or the worker may
	// know of these before it knows of the others.
	f.exec(`UPDATE sync_jobs SET status = 'cancelled', completed_at = 1, lease_expires_at = NULL WHERE status = 'running'`)
	if cause := expect(t, "the end of one that ran", f.cause); !errors.Is(cause, lease.ErrLost) {
		t.Errorf("cause: %v, want ErrLost", cause)
	}
	f.end()
	f.eventually("0", `SELECT count(*) FROM sync_jobs WHERE status IN ('pending', 'running')`)
	f.neverBegan(waiting)
}

// TestAheadTimeout proves that a job's time runs from its beginning, not from its claim.
func TestAheadTimeout(t *testing.T) {
	f := newFast(t, 500*time.Millisecond, time.Hour, jobs.Timeout(time.Hour))
	f.waiting()
	ended := time.Now()
	f.end()
	f.eventually("52", `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`)
	f.mu.Lock()
	defer f.mu.Unlock()
	early := 0
	for _, deadline := range f.began {
		if deadline.Before(ended.Add(time.Hour)) {
			early++
		}
	}
	if early != 4 {
		t.Errorf("the time of %d jobs began before a slot was free, want 4: those that had slots", early)
	}
}

// TestAheadTrust proves that what was claimed ahead never begins once the worker can't
// trust its leases any more, though the turn that would give it back does not get on.
func TestAheadTrust(t *testing.T) {
	f := newFast(t, time.Second, 2*time.Second)
	expect(t, "a renewal", f.disk.renewed) // from now on no claim's own time counts
	f.disk.gone.Store(true)
	f.first <- struct{}{} // its outcome has a turn begin; another has its slot
	if cause := expect(t, "the end of the leases", f.cause); !errors.Is(cause, lease.ErrLost) {
		t.Errorf("cause: %v, want ErrLost", cause)
	}
	waiting := f.waiting()
	f.disk.gone.Store(false)
	expect(t, "the next renewal", f.disk.renewed) // what begins now is trusted, but for those
	f.end()
	f.eventually("52", `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`)
	f.neverBegan(waiting)
}

// TestAheadGoexit proves that handlers which end their goroutines leave their slots to
// what waits for one: nothing has to be given back.
func TestAheadGoexit(t *testing.T) {
	q := newQueue(t, store.Options{})
	disk := &slowDisk{Store: q.Store, turn: 200 * time.Millisecond}
	if _, err := jobs.EnqueueMany(t.Context(), q, "Send", make([]int, 40)); err != nil {
		t.Fatal(err)
	}
	o := untilEmpty()
	o.Concurrency, o.MaxAttempts = 4, 1
	w := jobs.NewWorker(disk, o)
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[int]) error {
		<-time.After(5 * time.Millisecond) // so that all slots are taken
		runtime.Goexit()
		return nil
	})
	q.runUntilEmpty(w)
	if most := disk.most.Load(); most <= 4 {
		t.Errorf("a turn claimed %d jobs at most for 4 slots", most)
	}
	if got := q.value(`SELECT count(*), max(lease_token) FROM sync_jobs WHERE status = 'failed'`); got != "40|1" {
		t.Errorf("failed, after so many claims: %s, want 40|1", got)
	}
}

// TestAheadNotLong proves that nothing is claimed ahead for handlers that take longer than
// a turn, also where they all end together.
func TestAheadNotLong(t *testing.T) {
	q := newQueue(t, store.Options{})
	disk := &slowDisk{Store: q.Store, turn: 50 * time.Millisecond}
	if _, err := jobs.EnqueueMany(t.Context(), q, "Send", make([]int, 24)); err != nil {
		t.Fatal(err)
	}
	o := untilEmpty()
	o.Concurrency = 4
	w := jobs.NewWorker(disk, o)
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[int]) error {
		<-time.After(150 * time.Millisecond)
		return nil
	})
	q.runUntilEmpty(w)
	if most := disk.most.Load(); most > 4 {
		t.Errorf("a turn claimed %d jobs for 4 slots", most)
	}
}
