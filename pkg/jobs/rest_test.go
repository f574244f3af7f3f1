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

// told is a store without a file in which somebody commits all the time.
type told struct {
	endless
	changes chan struct{}
}

func (s *told) Join(context.Context, jobs.Info) (jobs.Seat, error) { return s, nil }
func (s *told) Changes() <-chan struct{}                           { return s.changes }

// TestBusyWorkerHearsLittle proves that a worker whose slots are all taken listens
// to what others commit for no more than its cancelled jobs need: each word costs it
// and the writers of the file.
func TestBusyWorkerHearsLittle(t *testing.T) {
	s := &told{endless: endless{left: 10_000}, changes: make(chan struct{})}
	w := jobs.NewWorker(s, jobs.WorkerOptions{UntilEmpty: true, Concurrency: 2})
	ending := make(chan struct{}) // soon slots are free
	jobs.Handle(w, "Noop", func(_ context.Context, j *jobs.Job[int]) error {
		if j.ID == 100 {
			close(ending)
		}
		return nil
	})
	done := make(chan error)
	start := time.Now()
	go func() { done <- w.Run(t.Context()) }()
	heard := 0
	for busy := true; busy; {
		select {
		case s.changes <- struct{}{}:
			heard++
		case <-ending:
			busy = false
		}
	}
	if most := 2 + int(time.Since(start)/(50*time.Millisecond)); heard > most {
		t.Errorf("it listened %d times in %v, want at most %d", heard, time.Since(start), most)
	}
	if err := expect(t, "the end", done); err != nil {
		t.Error(err)
	}
}
