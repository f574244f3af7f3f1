package jobs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// hanging is a store whose seat hangs in Turn while hang is held.
type hanging struct {
	store.Store
	hang chan struct{}
}

type hangingSeat struct {
	jobs.Seat
	hang chan struct{}
}

func (s *hanging) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := s.Store.Join(ctx, who)
	return &hangingSeat{seat, s.hang}, err
}

func (s *hangingSeat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	s.hang <- struct{}{}
	defer func() { <-s.hang }()
	return s.Seat.Turn(ctx, ask)
}

// TestAnswer proves that a worker answers while it is idle, while it is busy and
// while its handlers are, and at no time when its loop hangs; and once more when
// that goes on.
func TestAnswer(t *testing.T) {
	q := newQueue(t, store.Options{})
	hang := make(chan struct{}, 1)
	w := q.worker(&hanging{q.Store, hang}, jobs.WorkerOptions{Poll: time.Hour, Concurrency: 2})
	answer := func(within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return w.Answer(ctx)
	}
	if err := answer(50 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before Run: %v", err)
	}
	started, goOn := make(chan struct{}), make(chan struct{})
	jobs.Handle(w, "Long", func(context.Context, *jobs.Job[int]) error {
		started <- struct{}{}
		<-goOn
		return nil
	})
	jobs.Handle(w, "Noop", func(context.Context, *jobs.Job[int]) error { return nil })
	q.start(w)
	if err := answer(patience); err != nil {
		t.Errorf("idle: %v", err)
	}
	enqueue(q, "Long", 0)
	expect(t, "the handler's start", started)
	if _, err := jobs.EnqueueMany(t.Context(), q, "Noop", make([]int, 60)); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := answer(patience); err != nil {
			t.Errorf("busy: %v", err)
		}
	}
	const left = `SELECT count(*) FROM sync_jobs WHERE status <> 'completed'`
	q.eventually("1", left)

	hang <- struct{}{}
	close(goOn) // there is an outcome to hand in
	// What was on its way may still be answered; then nothing is.
	for deadline := time.Now().Add(patience); answer(200*time.Millisecond) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("it answers, and hangs")
		}
	}
	if err := answer(500 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging: %v", err)
	}
	<-hang
	if err := answer(patience); err != nil {
		t.Errorf("going on: %v", err)
	}
	q.eventually("0", left)
}
