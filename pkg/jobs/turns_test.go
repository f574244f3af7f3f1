package jobs_test

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// late is a store whose seat, once a turn hands in outcomes, has all other handlers
// end before it lets the store ask again.
type late struct {
	store.Store
	handlers int
	end      chan struct{}
}

type lateSeat struct {
	jobs.Seat
	*late
}

func (s *late) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := s.Store.Join(ctx, who)
	return &lateSeat{seat, s}, err
}

func (s *lateSeat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	asked := false
	return s.Seat.Turn(ctx, func() ([]jobs.Outcome, jobs.Want) {
		outcomes, want := ask()
		if again := asked; !again || len(outcomes) == 0 {
			asked = len(outcomes) > 0
			return outcomes, want
		}
		close(s.end)
		for len(outcomes) < s.handlers && ctx.Err() == nil {
			runtime.Gosched()
			outcomes, want = ask()
		}
		return outcomes, want
	})
}

// TestEndsWhileTheTurnWaits proves that what ends while a turn waits for the store
// is in that turn's transaction: all have one time of completion.
func TestEndsWhileTheTurnWaits(t *testing.T) {
	q := newQueue(t, store.Options{})
	const n = 8
	if _, err := jobs.EnqueueMany(t.Context(), q, "Send", make([]int, n)); err != nil {
		t.Fatal(err)
	}
	s := &late{q.Store, n, make(chan struct{})}
	o := untilEmpty()
	o.Poll, o.Concurrency = time.Hour, n
	w := jobs.NewWorker(s, o)
	first := make(chan struct{}, 1)
	first <- struct{}{}
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[int]) error {
		select {
		case <-first:
		case <-s.end:
		}
		return nil
	})
	q.runUntilEmpty(w)
	if got := q.value(`SELECT count(*), count(DISTINCT completed_at) FROM sync_jobs WHERE status = 'completed'`); got != "8|1" {
		t.Errorf("completed, at so many times: %s", got)
	}
}

// TestNobodyWaitsForANeighbour proves that of many jobs that are claimed at once all
// but one are completed while that one's handler still runs, wherever it stands among
// them, and also where handlers end their goroutines.
func TestNobodyWaitsForANeighbour(t *testing.T) {
	const n = 20
	for _, at := range []int{0, 1, n / 2, n - 1} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			q := newQueue(t, store.Options{})
			batch := make([]int, n)
			for i := range batch {
				batch[i] = i
			}
			if _, err := jobs.EnqueueMany(t.Context(), q, "Send", batch); err != nil {
				t.Fatal(err)
			}
			o := untilEmpty()
			o.Poll, o.Concurrency = time.Hour, n
			w := jobs.NewWorker(q, o)
			jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[int]) error {
				if j.Payload != at {
					if at == 0 && j.Payload%5 == 3 {
						if err := j.Commit(ctx, func(*sql.Tx) error { return nil }); err != nil {
							return err
						}
						runtime.Goexit()
					}
					return nil
				}
				for q.value(`SELECT count(*) FROM sync_jobs WHERE status = 'completed'`) != fmt.Sprint(n-1) {
					select {
					case <-time.After(time.Millisecond):
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				return nil
			})
			q.runUntilEmpty(w)
		})
	}
}
