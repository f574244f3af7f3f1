package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// loadType is the type of the load's jobs.
const loadType = "LoadTest"

// loadPayload is a job's payload: when it was to be enqueued, by monotonic, and what
// fills it up to its size.
type loadPayload struct {
	At  int64  `json:"at"`
	Pad string `json:"pad"`
}

// loadCallers is how many in a producer enqueue at once, as a server's requests do:
// they share commits.
const loadCallers = 16

// loadDrain is what running handlers may take when it is to end.
const loadDrain = 5 * time.Second

// loadRole is what a copy of this program is to do.
type loadRole struct {
	Kind   string // worker or producer
	Number int    // of its kind, from 0
	loadOptions
}

// play plays a role. The first line of its input has a producer begin; the end of
// its input, which may be the parent's, has both of them end.
func (r loadRole) play(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	begin := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(stdin)
		if lines.Scan() {
			close(begin)
		}
		for lines.Scan() {
		}
		stop()
	}()
	q, err := store.Open(ctx, r.DB, store.Options{Existing: true, Logger: loadLog(stderr)})
	if err != nil {
		return err
	}
	defer q.Close()
	meter := newLoadMeter(stdout)
	if r.Kind == "worker" {
		return meter.during(r.reportEvery(), func() error { return r.work(ctx, q, meter, stderr) })
	}
	if err := meter.ready(); err != nil {
		return err
	}
	select {
	case <-begin:
	case <-ctx.Done():
		return nil
	}
	return meter.during(r.reportEvery(), func() error { return r.produce(ctx, q, meter) })
}

// reportEvery is a second, and less in a run so short that a tenth of it has no second.
func (o loadOptions) reportEvery() time.Duration {
	if o.Duration == 0 {
		return time.Second
	}
	return min(time.Second, max(o.Duration/20, 50*time.Millisecond))
}

// work is a worker as any program has it.
func (r loadRole) work(ctx context.Context, q jobs.Store, meter *loadMeter, stderr io.Writer) error {
	var begun sync.Map // of a jobs.Ref: when it was to be enqueued
	metered := watched{q, func(t seenTurn) {
		meter.time(timeTurn, t.began, t.ended)
		for _, o := range t.outcomes {
			at, held := begun.LoadAndDelete(o.Ref)
			if held && o.Status == jobs.Completed && !slices.Contains(t.Rejected, o.Ref) {
				meter.time(timeCompleted, at.(int64), t.ended)
				meter.count(t.ended)
			}
		}
	}}
	var ready error
	w := jobs.NewWorker(metered, jobs.WorkerOptions{
		Concurrency: r.Slots, Drain: loadDrain, Logger: loadLog(stderr),
		Joined: func() { ready = meter.ready() },
	})
	jobs.Handle(w, loadType, func(ctx context.Context, j *jobs.Job[loadPayload]) error {
		meter.time(timeStarted, j.Payload.At, monotonic())
		begun.Store(jobs.Ref{ID: j.ID, Token: j.Token}, j.Payload.At)
		if r.Work == 0 {
			return nil
		}
		return pause(ctx, r.Work)
	})
	return errors.Join(w.Run(ctx), ready)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// produce enqueues this producer's share of the jobs, one a call. An enqueue that
// has begun is waited for, whatever happens: it counts.
func (r loadRole) produce(ctx context.Context, q jobs.Store, meter *loadMeter) error {
	share := int64(r.Jobs / r.Producers)
	if r.Number < r.Jobs%r.Producers {
		share++
	}
	pad := strings.Repeat("x", r.Payload)
	begin := monotonic()
	var next atomic.Int64
	callers, ctx := errgroup.WithContext(ctx)
	for range loadCallers {
		callers.Go(func() error {
			for {
				i := next.Add(1) - 1
				if r.Duration == 0 && i >= share {
					return nil
				}
				at := r.at(ctx, begin, i)
				if ctx.Err() != nil || r.Duration > 0 && at >= begin+r.Duration.Nanoseconds() {
					return nil
				}
				if err := r.enqueue(context.WithoutCancel(ctx), q, meter, at, pad); err != nil {
					return fmt.Errorf("enqueue: %w", err)
				}
			}
		})
	}
	return callers.Wait()
}

// at waits until the producer's job i is to be enqueued, and says when that was.
// Where the calls before it took too long, that is before now: what the queue has
// kept a job waiting for counts, even where its producer could not yet call.
func (r loadRole) at(ctx context.Context, begin, i int64) int64 {
	now := monotonic()
	if r.Rate == 0 {
		return now
	}
	at := begin + int64(float64(i*int64(r.Producers)+int64(r.Number))*1e9/float64(r.Rate))
	if at < now {
		return at
	}
	_ = pause(ctx, time.Duration(at-now)) // the caller asks, too, whether it is to end
	return monotonic()
}

func (r loadRole) enqueue(ctx context.Context, q jobs.Store, meter *loadMeter, at int64, pad string) error {
	frame := len(`{"at":,"pad":""}`) + len(strconv.FormatInt(at, 10))
	if _, err := jobs.Enqueue(ctx, q, loadType, loadPayload{At: at, Pad: pad[:r.Payload-frame]}); err != nil {
		return err
	}
	now := monotonic()
	meter.time(timeEnqueue, at, now)
	meter.count(now)
	return nil
}
