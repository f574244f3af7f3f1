package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// slowDisk is a store whose turns take so long at least.
type slowDisk struct {
	store.Store
	turn time.Duration
	most atomic.Int64  // jobs that a turn claimed
	lost chan struct{} // one was found lost
	back chan struct{} // closed when the disk is fast
	gone atomic.Bool   // it does nothing until then

	waits   chan struct{} // closed when a turn waits for it
	renewed chan struct{} // leases were
}

type slowDiskSeat struct {
	jobs.Seat
	*slowDisk
}

func (s *slowDisk) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := s.Store.Join(ctx, who)
	return slowDiskSeat{seat, s}, err
}

func (s slowDiskSeat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	over := time.After(s.turn)
	if s.gone.Load() {
		close(s.waits)
		<-s.back
	}
	turn, err := s.Seat.Turn(ctx, ask)
	select {
	case <-over:
	case <-s.back:
	case <-ctx.Done():
	}
	s.most.Store(max(s.most.Load(), int64(len(turn.Claimed))))
	return turn, err
}

// Lost implements jobs.Seat.
func (s slowDiskSeat) Lost(ctx context.Context, holding []jobs.Holding) ([]jobs.Ref, error) {
	lost, err := s.Seat.Lost(ctx, holding)
	if len(lost) > 0 {
		select {
		case s.lost <- struct{}{}:
		default:
		}
	}
	return lost, err
}

// Renew implements jobs.Seat.
func (s slowDiskSeat) Renew(ctx context.Context, ttl time.Duration, holding []jobs.Holding) ([]jobs.Ref, error) {
	if s.gone.Load() {
		return nil, errors.New("the disk is gone")
	}
	lost, err := s.Seat.Renew(ctx, ttl, holding)
	select {
	case s.renewed <- struct{}{}:
	default:
	}
	return lost, err
}

// fast is a worker with four slots at its full speed, which then meets jobs that take
// their time: each slot has one, and others wait for theirs.
type fast struct {
	*queue
	disk  *slowDisk
	first chan struct{} // has one of those jobs end
	end   func()        // has them all end
	stop  func()        // ends the worker
	cause chan error    // why the context of one of them ended
	ended time.Time

	mu    sync.Mutex
	began []jobs.Ref // attempts at the jobs that take their time
	late  []string
}

// newFast has short jobs, then long ones; opts are those of the long ones.
func newFast(t *testing.T, turn, lease time.Duration, short, long int, opts ...jobs.Option) *fast {
	t.Helper()
	q := newQueue(t, store.Options{})
	f := &fast{queue: q, disk: &slowDisk{Store: q.Store, turn: turn, lost: make(chan struct{}, 1), back: make(chan struct{}), renewed: make(chan struct{}), waits: make(chan struct{})}}
	_, err := jobs.EnqueueMany(t.Context(), q, "Send", slices.Repeat([]string{"short"}, short), jobs.Priority(1))
	if err == nil {
		_, err = jobs.EnqueueMany(t.Context(), q, "Send", slices.Repeat([]string{"long"}, long), opts...)
	}
	if err != nil {
		t.Fatal(err)
	}
	q.exec(`UPDATE sync_jobs SET run_at = created_at - 1`)
	const slots = 4
	var running atomic.Int64
	began, end := make(chan struct{}, long), make(chan struct{})
	f.first, f.cause = make(chan struct{}), make(chan error, long)
	f.end = sync.OnceFunc(func() {
		f.ended = time.Now()
		close(end)
		close(f.disk.back)
	})
	w := q.worker(f.disk, jobs.WorkerOptions{Concurrency: slots, Poll: time.Hour, Lease: lease, Drain: time.Hour})
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		if n := running.Add(1); n > slots {
			t.Errorf("%d handlers run at once, want %d at most", n, slots)
		}
		defer running.Add(-1)
		if j.Payload == "short" {
			return nil
		}
		f.mu.Lock()
		f.began = append(f.began, jobs.Ref{ID: j.ID, Token: j.Token})
		if deadline, timed := ctx.Deadline(); timed && len(f.began) > slots && deadline.Before(f.ended.Add(time.Hour)) {
			f.late = append(f.late, fmt.Sprintf("job %d: %v too early", j.ID, f.ended.Add(time.Hour).Sub(deadline)))
		}
		f.mu.Unlock()
		began <- struct{}{}
		select {
		case <-ctx.Done():
			f.cause <- context.Cause(ctx)
			<-end
		case <-f.first:
		case <-end:
		}
		return nil
	})
	f.stop = q.start(w)
	t.Cleanup(f.end) // before that
	for range slots {
		expect(t, "a job that takes its time", began)
	}
	if most := f.disk.most.Load(); most <= slots {
		t.Fatalf("a turn claimed %d jobs at most for %d slots", most, slots)
	}
	return f
}

// waiting are the jobs that were claimed once and wait for a slot; there must be some.
func (f *fast) waiting() (ids []int64) {
	f.Helper()
	held, err := f.Jobs(f.Context(), jobs.Filter{Status: jobs.Running})
	if err != nil {
		f.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, row := range held {
		if string(row.Payload) == `"long"` && row.LeaseToken == 1 && !slices.Contains(f.began, jobs.Ref{ID: row.ID, Token: 1}) {
			ids = append(ids, row.ID)
		}
	}
	if len(ids) == 0 {
		f.Fatal("no job waits for a slot")
	}
	return ids
}

// neverBegan checks that the jobs never began by their first claim.
func (f *fast) neverBegan(ids []int64) {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if slices.Contains(f.began, jobs.Ref{ID: id, Token: 1}) {
			f.Errorf("job %d began", id)
		}
	}
}
