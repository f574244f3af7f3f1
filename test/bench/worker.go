package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// worker is a worker as any program has it: a typed handler, and the options'
// defaults.
func worker(r role, started io.Writer, begin func() error) (report, error) {
	ctx := context.Background()
	q, err := store.Open(ctx, r.DB)
	if err != nil {
		return report{}, err
	}
	defer q.Close()
	t := &counted{Store: q}
	w := jobs.NewWorker(t, jobs.WorkerOptions{Concurrency: r.Slots, UntilEmpty: true})
	jobs.Handle(w, noop, func(ctx context.Context, j *jobs.Job[int]) error {
		if r.Work > 0 {
			time.Sleep(r.Work)
		}
		return nil
	})
	fmt.Fprintln(started, "ready")
	if err := begin(); err != nil {
		return report{}, err
	}
	t.Begin = time.Now()
	err = w.Run(ctx)
	return t.report, err
}

// counted is a store whose seats count what their turns do.
type counted struct {
	jobs.Store
	report
}

type countedSeat struct {
	jobs.Seat
	*counted
}

func (t *counted) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := t.Store.Join(ctx, who)
	return countedSeat{seat, t}, err
}

func (s countedSeat) Turn(ctx context.Context, outcomes []jobs.Outcome, want jobs.Want) (jobs.Turn, error) {
	turn, err := s.Seat.Turn(ctx, outcomes, want)
	if err == nil && len(outcomes)+len(turn.Claimed) > 0 {
		s.Jobs += len(outcomes) - len(turn.Rejected)
		s.Turns++
		s.End = time.Now()
	}
	return turn, err
}
