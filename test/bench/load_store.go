package main

import (
	"context"
	"slices"
	"sync"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// loadStore is a store whose seats measure what their turns take, and when a job
// that a handler has begun is known to be completed.
type loadStore struct {
	jobs.Store
	meter *loadMeter

	mu   sync.Mutex
	held map[jobs.Ref]int64 // when it was to be enqueued
}

func (s *loadStore) hold(ref jobs.Ref, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[ref] = at
}

func (s *loadStore) release(ref jobs.Ref) (at int64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok = s.held[ref]
	delete(s.held, ref)
	return at, ok
}

func (s *loadStore) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := s.Store.Join(ctx, who)
	return loadSeat{seat, s}, err
}

type loadSeat struct {
	jobs.Seat
	*loadStore
}

func (s loadSeat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	began := monotonic()
	var outcomes []jobs.Outcome
	turn, err := s.Seat.Turn(ctx, func() (_ []jobs.Outcome, want jobs.Want) {
		outcomes, want = ask()
		return outcomes, want
	})
	if err != nil {
		return turn, err
	}
	now := monotonic()
	if len(outcomes)+len(turn.Claimed) > 0 {
		s.meter.time(timeTurn, began, now)
	}
	for _, o := range outcomes {
		at, held := s.release(o.Ref)
		if held && o.Status == jobs.Completed && !slices.Contains(turn.Rejected, o.Ref) {
			s.meter.time(timeCompleted, at, now)
			s.meter.count(now)
		}
	}
	return turn, nil
}
