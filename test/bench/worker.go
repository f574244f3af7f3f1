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
	out := report{Claims: newTimes()}
	counted := watched{q, func(t seenTurn) {
		out.End = time.Now()
		if len(t.Claimed) > 0 {
			out.Claims.add(time.Duration(t.ended - t.began))
		}
		before := out.Jobs
		out.Jobs += t.completed()
		if fifth := r.Jobs / 5; before < fifth && out.Jobs >= fifth {
			out.Memory[0] = memoryOf(os.Getpid(), "VmHWM")
		}
		if before < r.Jobs && out.Jobs >= r.Jobs {
			cancel()
		}
	}}
	w := jobs.NewWorker(counted, jobs.WorkerOptions{Concurrency: r.Slots, UntilEmpty: true})
	jobs.Handle(w, noop, func(ctx context.Context, j *jobs.Job[int]) error {
		return nil
	})
	if err := s.begin(); err != nil {
		return report{}, err
	}
	out.Begin = time.Now()
	err := w.Run(ctx)
	out.Memory[1] = memoryOf(os.Getpid(), "VmHWM")
	return out, err
}

// idle is a worker that stays until its input ends, and notes when its handlers
// began. To a line on its input it answers how much CPU it has used.
func idle(r role, s stage, q store.Store) (report, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	out := report{At: make(map[int64]int64), Took: make(map[int64]time.Duration)}
	timed := watched{q, func(t seenTurn) {
		for _, c := range t.Claimed {
			out.Took[c.ID] = time.Duration(t.ended - t.asked)
		}
	}}
	w := jobs.NewWorker(timed, jobs.WorkerOptions{Concurrency: 1, Poll: r.Poll, Joined: s.ready})
	var mu sync.Mutex
	jobs.Handle(w, noop, func(_ context.Context, j *jobs.Job[int]) error {
		now := monotonic()
		mu.Lock()
		defer mu.Unlock()
		if _, again := out.At[j.ID]; again {
			return errors.New("this job ran before")
		}
		out.At[j.ID] = now
		return nil
	})
	go func() { cancel(s.tellCPU()) }()
	err := w.Run(ctx)
	if cause := context.Cause(ctx); err == nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return out, err
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
