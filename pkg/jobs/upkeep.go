package jobs

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/lease"
)

const (
	reapEvery = 250 * time.Millisecond // a dead worker's jobs are to run again within a second
	calmEvery = 5 * time.Second        // for the rest: the row and the leadership of the dead, a clock that went back, a file that was moved
	calmPoll  = 30 * time.Second       // for work: a commit tells of it
	lostEvery = 50 * time.Millisecond  // a cancelled job's handler is to end within 100 ms
)

// keep starts the renewals of what is held. It returns the context that lives as long
// as they succeed, and makes it the parent of the attempts that start from now on. Its
// trust counts from since: attempts from before have the context before, which has ended.
func (r *run) keep(handling context.Context, since time.Time) (trusted context.Context, stop func()) {
	trusted, stop = lease.Keep(handling, since, r.opts.Lease, r.renew)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slots.under(trusted)
	r.vouch(time.Now()) // the end of what ran under the context before
	r.vouch(since.Add(lease.Trust(r.opts.Lease)))
	return trusted, stop
}

// renewals starts the renewals anew each time that the leases could not be trusted any
// more: a job that is claimed after that is as good as any. It dates the new start
// back by a third of the lease, so that the first renewal comes at once: handlers that
// take their time to end still hold their jobs, and a reaper's grace is short.
func (r *run) renewals(handling, trusted context.Context, stop func()) {
	for {
		<-trusted.Done()
		stop()
		if handling.Err() != nil {
			return
		}
		r.failing.Error("leases could not be renewed in time: running jobs are interrupted", zap.Error(context.Cause(trusted)))
		trusted, stop = r.keep(handling, time.Now().Add(-r.opts.Lease/3)) //nolint:fatcontext // not below the last one
	}
}

// renew extends the leases of what is held. An idle worker holds nothing, and
// writes nothing.
func (r *run) renew(ctx context.Context) error {
	asked, holding := time.Now(), r.holding()
	if len(holding) > 0 {
		lost, err := r.seat.Renew(ctx, r.opts.Lease, holding)
		if err != nil {
			r.failing.Warn("leases were not renewed, trying again", zap.Error(err))
			return err
		}
		r.lose(lost)
	}
	r.renewed(holding, asked)
	return nil
}

// expire loses the attempts that no renewal has covered since they were claimed and
// whose leases can't be trusted any more.
func (r *run) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expires = time.Time{}
	now := time.Now()
	for _, a := range r.held {
		switch {
		case a.until.IsZero():
		case !a.until.After(now):
			a.lose()
		case r.expires.IsZero() || a.until.Before(r.expires):
			r.expires = a.until
		}
	}
	if !r.expires.IsZero() {
		r.expiry.Reset(r.expires.Sub(now))
	}
}

// losses looks, after others have committed, whether jobs were taken away.
func (r *run) losses(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.changes:
		}
		for again := true; again; again = r.turning.Load() {
			live := r.live() // what has ended needs no word: its token decides
			if len(live) == 0 {
				break
			}
			lost, err := r.seat.Lost(ctx, live)
			if err != nil && ctx.Err() == nil {
				r.log.Warn("can't look for lost jobs, the next renewal will", zap.Error(err))
			}
			r.lose(lost)
			if !after(lostEvery, ctx.Done()) {
				return
			}
		}
	}
}

// lose interrupts the handlers of jobs that are no longer held.
func (r *run) lose(lost []Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ref := range lost {
		if a := r.held[ref]; a != nil && a.lose() {
			r.log.Warn("job lost: its handler is interrupted", zap.Int64("job", ref.ID), zap.Int64("token", ref.Token))
		}
	}
}

// rest is how long until the next whole multiple of every since the worker began. So
// all that is looked after as often is looked after at one moment: what costs an idle
// process is to wake up.
func (r *run) rest(every time.Duration) time.Duration { return every - time.Since(r.began)%every }

// reaps gives back what dead and stuck workers held.
func (r *run) reaps(ctx context.Context) {
	for stirred := true; ; {
		wait, stir := r.rest(calmEvery), r.stir
		if stirred {
			wait, stir = reapEvery, nil
		}
		select {
		case <-ctx.Done():
			return
		case <-stir:
			stirred = true
			continue
		case <-time.After(wait):
		}
		select {
		case <-r.stir: // seen now
		default:
		}
		reaped, calm, err := r.seat.Reap(ctx)
		if r.calm.Swap(calm) && !calm {
			signal(r.crew.news) // the poll rests no longer
		}
		signal(r.freed)
		stirred = !calm
		if errors.Is(err, ErrClosed) {
			r.goneErr = err
			close(r.gone)
			return
		}
		if err != nil && ctx.Err() == nil {
			r.failing.Warn("reap", zap.Error(err))
		}
		for _, job := range reaped {
			r.log.Warn("job taken from its worker", zap.Int64("job", job.ID), zap.Int64("token", job.Token),
				zap.Int64("from", job.Worker), zap.String("reason", job.Reason), zap.Bool("failed", job.Failed))
			if job.Failed {
				r.failed(Failure{ID: job.ID, Type: job.Type, Queue: job.Queue, Attempt: job.Attempt, MaxAttempts: job.MaxAttempts, Error: job.Reason})
			}
		}
	}
}

func (r *run) holding() (list []Holding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.held {
		list = append(list, a.holding())
	}
	return list
}

// live are those of holding whose handlers have not returned.
func (r *run) live() (list []Holding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.held {
		if a.runs() {
			list = append(list, a.holding())
		}
	}
	return list
}
