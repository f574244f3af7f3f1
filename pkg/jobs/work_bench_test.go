package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// endless is a store without a file, with left jobs that do nothing: what is
// measured is what a worker itself costs.
type endless struct {
	jobs.Store
	jobs.Seat
	left int64
}

func (s *endless) Join(context.Context, jobs.Info) (jobs.Seat, error) { return s, nil }
func (s *endless) ID() int64                                          { return 1 }
func (s *endless) Close() error                                       { return nil }
func (s *endless) Changes() <-chan struct{}                           { return nil }
func (s *endless) Leave(context.Context) error                        { return nil }
func (s *endless) Reap(context.Context) ([]jobs.Reaped, bool, error)  { return nil, false, nil }
func (s *endless) AnyLeft(context.Context, jobs.Want) (bool, error)   { return s.left > 0, nil }

func (s *endless) Lost(context.Context, []jobs.Holding) ([]jobs.Ref, error) { return nil, nil }

func (s *endless) Renew(context.Context, time.Duration, []jobs.Holding) ([]jobs.Ref, error) {
	return nil, nil
}

func (s *endless) Turn(_ context.Context, ask jobs.Ask) (turn jobs.Turn, err error) {
	_, want := ask()
	for i := 0; len(want.Pools) > 0 && i < want.Pools[0].Free && s.left > 0; i++ {
		turn.Claimed = append(turn.Claimed, jobs.Claimed{
			Ref: jobs.Ref{ID: s.left, Token: 1}, Type: "Noop", Queue: jobs.DefaultQueue, Payload: []byte("0"), Attempt: 1, MaxAttempts: 1,
		})
		s.left--
	}
	return turn, nil
}

func BenchmarkWorker(b *testing.B) {
	b.ReportAllocs()
	w := jobs.NewWorker(&endless{left: int64(b.N)}, jobs.WorkerOptions{UntilEmpty: true, Concurrency: 50})
	jobs.Handle(w, "Noop", func(context.Context, *jobs.Job[int]) error { return nil })
	if err := w.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
}
