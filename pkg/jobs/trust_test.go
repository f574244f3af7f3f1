package jobs_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
	"github.com/shoal-project/shoal/pkg/store"
)

// block takes the file's write lock, as another program that stands still does,
// until free is called.
func (q *queue) block() (free func()) {
	q.Helper()
	ctx := context.WithoutCancel(q.Context())
	conn, err := q.other.Conn(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, `BEGIN IMMEDIATE`)
	}
	if err != nil {
		q.Fatal(err)
	}
	free = sync.OnceFunc(func() {
		if _, err := conn.ExecContext(ctx, `ROLLBACK`); err != nil {
			q.Error(err)
		}
		conn.Close()
	})
	q.Cleanup(free)
	return free
}

// TestStallIsNoFault proves that a worker which can't renew its leases, because
// another program sits on the write lock for longer, interrupts its handlers
// before the leases end, and that this costs no attempt and no delay: jobs with
// one attempt run again. Nobody takes them meanwhile, and only an error that is
// Permanent fails.
func TestStallIsNoFault(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{Lease: time.Second, MaxAttempts: 1, RetryDelay: time.Hour})
	started, cause := make(chan string), make(chan error, 1)
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		if j.Token > 1 {
			if j.Attempt != 1 {
				t.Errorf("%s: attempt %d", j.Payload, j.Attempt)
			}
			return nil
		}
		started <- j.Payload
		<-ctx.Done()
		cause <- context.Cause(ctx)
		if j.Payload == "permanent" {
			return jobs.Permanent(errBoom)
		}
		return errors.New("interrupted")
	})
	q.start(w)
	// Others who would take what nobody renews.
	for range 2 {
		idle := q.worker(q.open(store.Options{}), jobs.WorkerOptions{})
		jobs.Handle(idle, "Nothing", func(context.Context, *jobs.Job[string]) error { return nil })
		q.start(idle)
	}
	again, permanent := enqueue(q, "Send", "again"), enqueue(q, "Send", "permanent")
	for range 2 {
		expect(t, "the handler's start", started)
	}
	free := q.block()
	for range 2 {
		if cause := expect(t, "the interruption", cause); !errors.Is(cause, lease.ErrLost) {
			t.Errorf("cause: %v, want ErrLost", cause)
		}
	}
	<-time.After(time.Second) // the leases are long over
	free()
	row, history := q.ends(again, jobs.Completed)
	if row.Attempts != 1 || row.LeaseToken != 2 || len(history) != 0 {
		t.Errorf("interrupted: %+v, %v", row, history)
	}
	if row, history := q.ends(permanent, jobs.Failed); row.Error != "boom" || len(history) != 1 {
		t.Errorf("permanent: %+v, %v", row, history)
	}
}

// guard notes what it is told.
type guard struct {
	mu    sync.Mutex
	until time.Time
	said  int
	ended chan struct{} // told that it is over
}

func (g *guard) Start(*os.File) error { return nil }

func (g *guard) Trust(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = until
	if g.said++; g.said > 1 && !until.After(time.Now()) {
		select {
		case g.ended <- struct{}{}:
		default:
		}
	}
}

func (g *guard) now() (until time.Time, said int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until, g.said
}

// TestGuardIsTold proves that a worker's guard knows at any time until when the
// leases can be trusted: never longer than any job is leased, as the file says;
// in the future, for an idle worker as well as for a busy one; but not when the
// file is blocked; and again after that.
func TestGuardIsTold(t *testing.T) {
	const ttl, most = time.Second, 900 * time.Millisecond
	q := newQueue(t, store.Options{})
	g := &guard{ended: make(chan struct{}, 1)}
	w := q.worker(q, jobs.WorkerOptions{Lease: ttl, Guard: g, Concurrency: 4})
	goOn := make(chan struct{})
	check := func(where string) {
		until, _ := g.now()
		if left := time.Until(until); left > most {
			t.Errorf("%s: trusted for %v, want %v at most", where, left, most)
		}
	}
	jobs.Handle(w, "Long", func(ctx context.Context, _ *jobs.Job[int]) error {
		if _, said := g.now(); said == 0 {
			t.Error("a job starts, and the guard was told nothing")
		}
		check("as a job starts")
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	jobs.Handle(w, "Short", func(context.Context, *jobs.Job[int]) error {
		check("as a job starts beside another")
		return nil
	})
	q.start(w)
	told := func(n int) { // so many words more, and the last is of the future
		t.Helper()
		_, before := g.now()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); ; <-tick.C {
			check("later")
			if until, said := g.now(); said >= before+n && until.After(time.Now()) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("it is told nothing more")
			}
		}
	}
	told(4) // idle, for longer than a lease

	enqueue(q, "Long", 0)
	q.eventually("1", `SELECT count(*) FROM sync_jobs WHERE status = 'running'`)
	for i := range 50 { // turns at the time of renewals
		enqueue(q, "Short", i)
	}
	told(3)

	free := q.block()
	expect(t, "the word that ends what runs", g.ended)
	free()
	told(4)
	close(goOn)
	q.eventually("51", `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`)
}
