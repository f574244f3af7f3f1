package jobstest

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

// drain is one run of a worker. It is used by the goroutine that takes the
// worker's turns, and read when that has ended.
type drain struct {
	q       *Queue
	only    int64 // the job to make one attempt at; 0: all that are due
	stop    context.CancelFunc
	joined  bool
	claimed []int64 // each job once
	why     string  // only was not claimed
}

// drainKey is the drain's in the context of Worker.Run, which reaches Join.
type drainKey struct{}

// Join implements jobs.Store.
func (q *Queue) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	d, draining := ctx.Value(drainKey{}).(*drain)
	s, err := q.Store.Join(ctx, who)
	if err != nil || !draining || d.q != q {
		return s, err
	}
	d.joined = true
	return &seat{Seat: s, drain: d}, nil
}

// seat is that of a worker which is to stop when there is nothing to do now.
type seat struct {
	jobs.Seat
	*drain
}

// Acquire implements lease.Store. Such a worker never leads: what a schedule
// enqueues depends on when it is asked.
func (s *seat) Acquire(context.Context, string, time.Duration) (lease.Held, error) {
	return lease.Held{}, lease.ErrHeld
}

// Turn implements jobs.Seat.
func (s *seat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	held := 0
	noted := func() ([]jobs.Outcome, jobs.Want) {
		outcomes, want := ask()
		held = want.Held
		return outcomes, want
	}
	take := s.Seat.Turn
	if s.only != 0 {
		take = s.turnOf
	}
	turn, err := take(ctx, noted)
	if err != nil {
		return turn, err
	}
	for _, c := range turn.Claimed {
		if !slices.Contains(s.claimed, c.ID) {
			s.claimed = append(s.claimed, c.ID)
		}
	}
	// Nothing runs: with nothing claimed either, it is over, also for a worker that
	// runs UntilEmpty and would wait for what is delayed.
	if held == 0 && len(turn.Claimed) == 0 {
		s.stop()
	}
	return turn, nil
}

// turnOf is a turn that claims no other job than the only one, and that once.
func (s *seat) turnOf(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	var best jobs.Want // what is claimed: nothing, or the best of the only job's type and queue
	narrowed := func() ([]jobs.Outcome, jobs.Want) {
		outcomes, want := ask()
		want.Types, want.Pools = best.Types, best.Pools
		return outcomes, want
	}
	if len(s.claimed) > 0 {
		return s.Seat.Turn(ctx, narrowed)
	}
	row, _, err := s.q.Job(ctx, s.only)
	if err != nil {
		return jobs.Turn{}, err
	}
	_, want := ask()
	if slices.ContainsFunc(want.Pools, func(p jobs.Pool) bool { return slices.Contains(p.Queues, row.Queue) }) && slices.Contains(want.Types, row.Type) {
		best.Types, best.Pools = []string{row.Type}, []jobs.Pool{{Queues: []string{row.Queue}, Free: 1}}
	}
	// Of its type and queue it is the best while this lasts.
	if err := s.prioritize(ctx, math.MaxInt64); err != nil {
		return jobs.Turn{}, err
	}
	turn, err := s.Seat.Turn(ctx, narrowed)
	if e := s.prioritize(context.WithoutCancel(ctx), row.Priority); e != nil {
		s.q.t.Error(e) // what was claimed is to run all the same
	}
	for i := range turn.Claimed {
		turn.Claimed[i].Priority = row.Priority
	}
	if err == nil && len(turn.Claimed) == 0 {
		s.why = s.q.why(s.only)
	}
	return turn, err
}

// prioritize changes the priority of the only job.
func (s *seat) prioritize(ctx context.Context, to int) error {
	_, err := s.q.Change(ctx, jobs.Filter{IDs: []int64{s.only}}, jobs.Change{Verb: jobs.Prioritize, Priority: to})
	return err
}
