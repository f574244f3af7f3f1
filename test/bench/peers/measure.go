package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"
)

// setup is what every library is opened with.
type setup struct {
	dir   string // exists, is empty and stays the library's own
	slots int
	ran   func()       // called by the handler, once a job
	log   *slog.Logger // of warnings and errors
}

// queue is a library with its store.
type queue interface {
	// how says in a short phrase which driver it is, and how durable.
	how() string
	// enqueue puts jobs into the store, in the quickest way that is documented.
	enqueue(ctx context.Context, jobs int) error
	// start begins to work the jobs off, and returns.
	start(ctx context.Context) error
	// left counts the jobs in the store that may run yet, or are running.
	left(ctx context.Context) (int, error)
	// completed counts those that the store knows to have succeeded.
	completed(ctx context.Context) (int, error)
	// close stops all that start began, and all else.
	close() error
}

// countdown tells when the last handler has been called.
type countdown struct {
	missing atomic.Int64
	zero    chan struct{}
}

func newCountdown(n int) *countdown {
	c := &countdown{zero: make(chan struct{})}
	c.missing.Store(int64(n))
	return c
}

func (c *countdown) one() {
	if c.missing.Add(-1) == 0 {
		close(c.zero)
	}
}

// measure returns how long jobs took to get into the store, and how long from
// the start of the worker to the moment at which the store knew them all done.
func measure(ctx context.Context, q queue, jobs int, ran *countdown) (enqueuing, working time.Duration, err error) {
	begin := time.Now()
	if err := q.enqueue(ctx, jobs); err != nil {
		return 0, 0, fmt.Errorf("enqueue: %w", err)
	}
	enqueuing = time.Since(begin)
	begin = time.Now()
	if err := q.start(ctx); err != nil {
		return 0, 0, fmt.Errorf("start the worker: %w", err)
	}
	// A handler that returned is no job that is done, but before the last one has
	// been called a look into the store would tell nothing and cost the library.
	select {
	case <-ran.zero:
	case <-ctx.Done():
		return 0, 0, fmt.Errorf("%d of %d jobs never came to their handler: %w", ran.missing.Load(), jobs, ctx.Err())
	}
	if err := waitUntilEmpty(ctx, q); err != nil {
		return 0, 0, err
	}
	working = time.Since(begin)
	done, err := q.completed(ctx)
	if err != nil {
		return 0, 0, fmt.Errorf("count what is completed: %w", err)
	}
	if done != jobs {
		return 0, 0, fmt.Errorf("the store knows of %d completed jobs, %d were enqueued", done, jobs)
	}
	return enqueuing, working, nil
}

// waitUntilEmpty looks often enough to be exact to a few milliseconds: what is
// left by then is few, so that a look costs next to nothing.
func waitUntilEmpty(ctx context.Context, q queue) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := q.left(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("count what is left: %w", err)
		case left == 0:
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d jobs were handled and are not completed: %w", left, ctx.Err())
		}
	}
}

// perSecond is rounded to what can be told from a single run.
func perSecond(jobs int, d time.Duration) float64 {
	return math.Round(float64(jobs)/d.Seconds()*10) / 10
}
