package main

import (
	"context"
	"slices"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// watched is a store that tells of each turn of its seats that did something.
type watched struct {
	jobs.Store
	turned func(seenTurn)
}

// seenTurn is such a turn. Its times are by monotonic.
type seenTurn struct {
	jobs.Turn
	outcomes []jobs.Outcome // handed in
	began    int64
	asked    int64 // what it wants, for the last time: in the transaction
	ended    int64
}

// completed is how many jobs the turn has completed. What was given back is no outcome
// of a handler.
func (t seenTurn) completed() (n int) {
	for _, o := range t.outcomes {
		if o.Status == jobs.Completed && !slices.Contains(t.Rejected, o.Ref) {
			n++
		}
	}
	return n
}

func (w watched) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := w.Store.Join(ctx, who)
	return watchedSeat{seat, w.turned}, err
}

type watchedSeat struct {
	jobs.Seat
	turned func(seenTurn)
}

// Turn is called by one goroutine.
func (s watchedSeat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	seen := seenTurn{began: monotonic()}
	turn, err := s.Seat.Turn(ctx, func() (_ []jobs.Outcome, want jobs.Want) {
		seen.asked = monotonic()
		seen.outcomes, want = ask()
		return seen.outcomes, want
	})
	if err == nil && len(seen.outcomes)+len(turn.Claimed) > 0 {
		seen.Turn, seen.ended = turn, monotonic()
		s.turned(seen)
	}
	return turn, err
}
