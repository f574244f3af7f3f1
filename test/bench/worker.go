package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// worker is a worker as any program has it: a typed handler, and the options'
// defaults. It ends when nothing is left, or after so many jobs.
func worker(r role, s stage, q store.Store) (report, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c := newCounted(q, r.Jobs, cancel)
	w := jobs.NewWorker(c, jobs.WorkerOptions{Concurrency: r.Slots, UntilEmpty: true})
	jobs.Handle(w, noop, func(ctx context.Context, j *jobs.Job[int]) error {
		return nil
	})
	if err := s.begin(); err != nil {
		return report{}, err
	}
	c.Begin = time.Now()
	err := w.Run(ctx)
	c.Memory[1] = memoryOf(os.Getpid(), "VmHWM")
	return c.report, err
}

// idle is a worker that stays until its input ends, and notes when its handlers
// began. To a line on its input it answers how much CPU it has used.
func idle(r role, s stage, q store.Store) (report, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	c := newCounted(q, 0, nil)
	c.At, c.Took = make(map[int64]int64), make(map[int64]time.Duration)
	w := jobs.NewWorker(c, jobs.WorkerOptions{Concurrency: 1, Poll: r.Poll, Joined: s.ready})
	var mu sync.Mutex
	jobs.Handle(w, noop, func(_ context.Context, j *jobs.Job[int]) error {
		now := monotonic()
		mu.Lock()
		defer mu.Unlock()
		if _, again := c.At[j.ID]; again {
			return errors.New("this job ran before")
		}
		c.At[j.ID] = now
		return nil
	})
	go func() { cancel(s.tellCPU()) }()
	err := w.Run(ctx)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return c.report, err
}

// tellCPU answers each line of the input, until that ends.
func (s stage) tellCPU() error {
	lines := bufio.NewScanner(s.in)
	for lines.Scan() {
		used, err := cpu()
		if err == nil {
			err = json.NewEncoder(s.out).Encode(used)
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// first is a worker that begins at once and notes when its handler was called for
// the one job that there is.
func first(_ role, s stage, q store.Store) (out report, err error) {
	s.ready()
	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true, Concurrency: 1})
	jobs.Handle(w, noop, func(_ context.Context, j *jobs.Job[int]) error {
		out.At = map[int64]int64{j.ID: monotonic()}
		return nil
	})
	err = w.Run(context.Background())
	return out, err
}

// counted is a store whose seats count what their turns do.
type counted struct {
	jobs.Store
	report
	most   int
	enough func()
}

// newCounted counts what a worker does and calls enough after so many jobs; 0:
// never.
func newCounted(q jobs.Store, most int, enough func()) *counted {
	return &counted{Store: q, report: report{Claims: newTimes()}, most: most, enough: enough}
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
		s.Claims.add(s.End.Sub(start))
	}
	for _, c := range turn.Claimed {
		if s.Took != nil {
			s.Took[c.ID] = s.End.Sub(asked)
		}
	}
	before := s.Jobs
	s.Jobs += len(outcomes) - len(turn.Rejected)
	if fifth := s.most / 5; before < fifth && s.Jobs >= fifth {
		s.Memory[0] = memoryOf(os.Getpid(), "VmHWM")
	}
	if s.most > 0 && before < s.most && s.Jobs >= s.most {
		s.enough()
	}
	return turn, nil
}
