package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// batch is how many jobs one EnqueueMany, or one transaction, brings.
const batch = 1000

// enqueue has as many goroutines as there are slots enqueue one job a call.
func enqueue(r role, s stage, q store.Store) (report, error) {
	if err := s.begin(); err != nil {
		return report{}, err
	}
	out := report{Begin: time.Now(), Jobs: r.Jobs}
	var taken atomic.Int64
	errs := make([]error, r.Slots)
	var wg sync.WaitGroup
	for i := range r.Slots {
		wg.Go(func() {
			for errs[i] == nil && taken.Add(1) <= int64(r.Jobs) {
				_, errs[i] = jobs.Enqueue(context.Background(), q, noop, 0)
			}
		})
	}
	wg.Wait()
	out.End = time.Now()
	return out, errors.Join(errs...)
}

// batches enqueues with EnqueueMany.
func batches(r role, s stage, q store.Store) (report, error) {
	if err := s.begin(); err != nil {
		return report{}, err
	}
	out := report{Begin: time.Now()}
	for payloads := make([]int, batch); out.Jobs < r.Jobs; out.Jobs += batch {
		if _, err := jobs.EnqueueMany(context.Background(), q, noop, payloads); err != nil {
			return report{}, err
		}
	}
	out.End = time.Now()
	return out, nil
}

// producer enqueues one job after the other and notes when each call returned.
func producer(r role, s stage, q store.Store) (report, error) {
	return produce(r, s, func() (int64, error) { return jobs.Enqueue(context.Background(), q, noop, 0) })
}

// produce adds jobs at random times: a fleet that is woken in step with its own
// looks would be no measure.
func produce(r role, s stage, add func() (int64, error)) (report, error) {
	if err := s.begin(); err != nil {
		return report{}, err
	}
	out := report{Begin: time.Now(), At: make(map[int64]int64, r.Jobs)}
	for range r.Jobs {
		<-time.After(time.Duration(float64(r.Pause) * (0.4 + 1.2*rand.Float64())))
		id, err := add()
		if err != nil {
			return report{}, err
		}
		out.At[id] = monotonic()
		out.Jobs++
	}
	out.End = time.Now()
	return out, nil
}
