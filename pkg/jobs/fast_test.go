package jobs_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// slowDisk is a store whose turns take so long at least, until it is back.
type slowDisk struct {
	store.Store
	turn    time.Duration
	gone    atomic.Bool   // it does nothing
	back    chan struct{} // closed then
	waits   chan struct{} // a turn waits for that
	renewed chan struct{} // leases were
	most    atomic.Int64  // jobs that a turn claimed
	handed  sync.Map      // the claims that turns have returned, by jobs.Ref
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
		select {
		case s.waits <- struct{}{}:
		default: // the test has failed
		}
		<-s.back
	}
	turn, err := s.Seat.Turn(ctx, ask)
	select {
	case <-over:
	case <-s.back:
	}
	for _, c := range turn.Claimed {
		s.handed.Store(c.Ref, true)
	}
	s.most.Store(max(s.most.Load(), int64(len(turn.Claimed))))
	return turn, err
}

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
	end   func()        // has them all end, and the disk be fast
	cause chan error    // why the context of one of them ended
	stop  func()        // ends the worker

	mu    sync.Mutex
	began map[jobs.Ref]time.Time // attempts at them, with their contexts' deadlines
}

// newFast has 12 short jobs, then 40 long ones; opts are those of the long ones.
func newFast(t *testing.T, turn, lease time.Duration, opts ...jobs.Option) *fast {
	t.Helper()
	const slots, short, long = 4, 12, 40
	q := newQueue(t, store.Options{})
	disk := &slowDisk{
		Store: q.Store, turn: turn, back: make(chan struct{}), waits: make(chan struct{}, 1), renewed: make(chan struct{}),
	}
	f := &fast{
		queue: q, disk: disk, first: make(chan struct{}), end: sync.OnceFunc(func() { close(disk.back) }),
		cause: make(chan error, long), began: make(map[jobs.Ref]time.Time),
	}
	_, err := jobs.EnqueueMany(t.Context(), q, "Send", slices.Repeat([]string{"short"}, short), jobs.Priority(1))
	if err == nil {
		_, err = jobs.EnqueueMany(t.Context(), q, "Send", slices.Repeat([]string{"long"}, long), opts...)
	}
	if err != nil {
		t.Fatal(err)
	}
	q.exec(`UPDATE sync_jobs SET run_at = created_at - 1`)
	var running atomic.Int64
	taken := make(chan struct{}) // each slot is
	w := q.worker(disk, jobs.WorkerOptions{Concurrency: slots, Poll: time.Hour, Lease: lease, Drain: time.Hour})
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		if n := running.Add(1); n > slots {
			t.Errorf("%d handlers run at once, want %d at most", n, slots)
		}
		defer running.Add(-1)
		if j.Payload == "short" {
			return nil
		}
		f.mu.Lock()
		f.began[jobs.Ref{ID: j.ID, Token: j.Token}], _ = ctx.Deadline()
		if len(f.began) == slots {
			close(taken)
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			f.cause <- context.Cause(ctx)
			<-disk.back
		case <-f.first:
		case <-disk.back:
		}
		return nil
	})
	f.stop = q.start(w)
	t.Cleanup(f.end) // before that
	expect(t, "jobs that take their time", taken)
	if most := disk.most.Load(); most <= slots {
		t.Fatalf("a turn claimed %d jobs at most for %d slots", most, slots)
	}
	return f
}

// waiting are the claims that wait for a slot, as the worker knows; there must be some.
func (f *fast) waiting() (claims []jobs.Ref) {
	f.Helper()
	held, err := f.Jobs(f.Context(), jobs.Filter{Status: jobs.Running})
	if err != nil {
		f.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, row := range held {
		claim := jobs.Ref{ID: row.ID, Token: row.LeaseToken}
		_, began := f.began[claim]
		if _, handed := f.disk.handed.Load(claim); handed && !began && string(row.Payload) == `"long"` {
			claims = append(claims, claim)
		}
	}
	if len(claims) == 0 {
		f.Fatal("no job waits for a slot")
	}
	return claims
}

// neverBegan checks that no attempt began by one of the claims.
func (f *fast) neverBegan(claims []jobs.Ref) {
	f.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, claim := range claims {
		if _, began := f.began[claim]; began {
			f.Errorf("job %d began", claim.ID)
		}
	}
}
