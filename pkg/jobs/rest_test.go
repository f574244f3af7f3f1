package jobs_test

import (
	"context"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

// restful is a store without a file that counts the looks for work.
type restful struct {
	endless
	looks, reaps chan struct{}
}

func (s *restful) Join(context.Context, jobs.Info) (jobs.Seat, error) { return s, nil }
func (s *restful) Acquire(context.Context, string, time.Duration) (lease.Held, error) {
	return lease.Held{}, lease.ErrHeld
}
func (s *restful) Turn(context.Context, jobs.Ask) (jobs.Turn, error) {
	s.looks <- struct{}{}
	return jobs.Turn{}, nil
}
func (s *restful) Reap(context.Context) ([]jobs.Reaped, bool, error) {
	s.reaps <- struct{}{}
	return nil, true, nil
}

// TestPollRests proves that a worker looks for work at its poll, and does not
// once the reaper has said that every commit is heard of.
func TestPollRests(t *testing.T) {
	s := &restful{looks: make(chan struct{}), reaps: make(chan struct{})}
	w := jobs.NewWorker(s, jobs.WorkerOptions{Poll: 2 * time.Millisecond, UntilEmpty: false})
	jobs.Handle(w, "Noop", func(context.Context, *jobs.Job[int]) error { return nil })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for range 3 {
		expect(t, "a look", s.looks)
	}
	for calm := false; !calm; {
		select {
		case <-s.looks:
		case <-s.reaps:
			calm = true
		}
	}
	for late := 0; ; late++ { // one may be under way, and one be next
		select {
		case <-s.looks:
			if late == 3 {
				t.Fatal("it looks on")
			}
			continue
		case <-time.After(100 * time.Millisecond):
		}
		break
	}
	stop()
	if err := expect(t, "the end", done); err != nil {
		t.Error(err)
	}
}
