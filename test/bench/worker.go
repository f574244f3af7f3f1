package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// worker is a worker as any program has it: a typed handler, and the options'
// defaults. It ends when nothing is left, or after so many jobs.
func worker(r role, s stage) (report, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	q, err := store.Open(ctx, r.DB)
	if err != nil {
		return report{}, err
	}
	defer q.Close()
	c := newCounted(q, r.Jobs, cancel)
	w := jobs.NewWorker(c, jobs.WorkerOptions{Concurrency: r.Slots, UntilEmpty: true})
	jobs.Handle(w, noop, func(ctx context.Context, j *jobs.Job[int]) error {
		return nil
	})
	if err := s.begin(); err != nil {
		return report{}, err
	}
	c.Begin = time.Now()
	err = w.Run(ctx)
	return c.end(err)
}

// idle is a worker that stays until its input ends, and notes when its handlers
// began. To a line on its input it answers how much CPU it has used.
func idle(r role, s stage) (report, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	q, err := store.Open(ctx, r.DB)
	if err != nil {
		return report{}, err
	}
	defer q.Close()
	c := newCounted(q, 0, nil)
	c.Took = make(map[int64]time.Duration)
	w := jobs.NewWorker(c, jobs.WorkerOptions{Concurrency: max(r.Slots, 1), Poll: r.Poll, Joined: s.ready})
	var mu sync.Mutex
	at := make(map[int64]int64)
	jobs.Handle(w, noop, func(_ context.Context, j *jobs.Job[int]) error {
		now := monotonic()
		mu.Lock()
		defer mu.Unlock()
		if _, again := at[j.ID]; again {
			return errors.New("this job ran before")
		}
		at[j.ID] = now
		return nil
	})
	go func() {
		for {
			if _, err := s.in.ReadString('\n'); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				cancel(err)
				return
			}
			used, err := cpu()
			if err == nil {
				err = json.NewEncoder(s.out).Encode(used)
			}
			if err != nil {
				cancel(err)
				return
			}
		}
	}()
	c.Begin = time.Now()
	err = w.Run(ctx)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	c.At = at
	return c.end(err)
}

// first is a worker that begins at once and notes when its first handler was
// called.
func first(r role, s stage) (report, error) {
	s.ready()
	ctx := context.Background()
	q, err := store.Open(ctx, r.DB)
	if err != nil {
		return report{}, err
	}
	defer q.Close()
	c := newCounted(q, 0, nil)
	w := jobs.NewWorker(c, jobs.WorkerOptions{UntilEmpty: true, Concurrency: 1})
	jobs.Handle(w, noop, func(_ context.Context, j *jobs.Job[int]) error {
		if c.At == nil {
			c.At = map[int64]int64{j.ID: monotonic()}
		}
		return nil
	})
	return c.end(w.Run(ctx))
}

// counted is a store whose seats count what their turns do.
type counted struct {
	jobs.Store
	report
	most   int
	enough func()
	claims *hdrhistogram.Histogram
}

// newCounted counts what a worker does and calls enough after so many jobs; 0:
// never.
func newCounted(q jobs.Store, most int, enough func()) *counted {
	return &counted{Store: q, most: most, enough: enough, claims: newHistogram()}
}

func (c *counted) end(err error) (report, error) {
	c.Memory[1] = peakMemory()
	c.Claims = c.claims.Export()
	return c.report, err
}

type countedSeat struct {
	jobs.Seat
	*counted
}

func (c *counted) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := c.Store.Join(ctx, who)
	return countedSeat{seat, c}, err
}

// Turn is called by one goroutine.
func (s countedSeat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	start := time.Now()
	var asked time.Time // the last time: in the transaction
	var outcomes []jobs.Outcome
	turn, err := s.Seat.Turn(ctx, func() (_ []jobs.Outcome, want jobs.Want) {
		asked = time.Now()
		outcomes, want = ask()
		return outcomes, want
	})
	if err != nil || len(outcomes)+len(turn.Claimed) == 0 {
		return turn, err
	}
	s.End = time.Now()
	if len(turn.Claimed) > 0 {
		record(s.claims, s.End.Sub(start))
	}
	for _, c := range turn.Claimed {
		if s.Took != nil {
			s.Took[c.ID] = s.End.Sub(asked)
		}
	}
	before := s.Jobs
	s.Jobs += len(outcomes) - len(turn.Rejected)
	if fifth := s.most / 5; before < fifth && s.Jobs >= fifth {
		s.Memory[0] = peakMemory()
	}
	if s.most > 0 && before < s.most && s.Jobs >= s.most {
		s.enough()
	}
	return turn, nil
}
