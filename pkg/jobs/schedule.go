package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-project/shoal/pkg/lease"
)

// leadership is the lease that the one who runs the schedules holds.
const leadership = "leader"

// Schedule is periodic work: every interval the leader enqueues what Jobs
// returns. Ticks that were missed while nobody led are not made up for.
type Schedule struct {
	Name  string // in the whole fleet
	Every time.Duration
	// Jobs says what a tick enqueues; nothing, and the tick writes nothing. Jobs
	// that come with an error are enqueued, and the error is logged.
	Jobs func(context.Context) ([]New, error)
}

// leads runs the schedules whenever this worker is the leader.
func (r *run) leads(ctx context.Context) {
	lease.Lead(ctx, r.seat, leadership, r.opts.Lease, func(ctx context.Context, held lease.Held) error {
		r.log.Info("leading", zap.Int64("token", held.Token))
		defer r.log.Info("no longer leading", zap.Int64("token", held.Token))
		ticks, ctx := errgroup.WithContext(ctx)
		for _, s := range r.opts.Schedules {
			ticks.Go(func() error { return r.ticks(ctx, held, s) })
		}
		return ticks.Wait()
	}, func(err error) { r.failing.Warn("leader", zap.Error(err)) })
}

// ticks runs one schedule until ctx ends or the leadership is lost. A tick that
// fails is the next one's business.
func (r *run) ticks(ctx context.Context, held lease.Held, s Schedule) error {
	at, err := r.seat.NextTick(ctx, s.Name)
	if err != nil {
		return fmt.Errorf("schedule %s: %w", s.Name, err)
	}
	wait := at.Sub(r.opts.Now())
	for {
		// A clock that was set back, or a shorter interval than before, must not
		// silence the schedule. Who leads next comes to the same instant: one leader
		// after the other that waited for an interval anew would silence it, too.
		if wait > s.Every {
			wait %= s.Every
		}
		if !after(nil, wait, ctx.Done()) {
			return nil
		}
		due := Due{Name: s.Name, At: at, Next: s.next(at, r.opts.Now())}
		moved, err := r.tick(ctx, held, s, due)
		if moved {
			at = due.Next
		}
		if errors.Is(err, lease.ErrLost) {
			return fmt.Errorf("schedule %s: %w", s.Name, err)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Warn("tick failed", zap.String("schedule", s.Name), zap.Error(err))
		}
		wait = due.Next.Sub(r.opts.Now())
	}
}

// next is when the schedule is due after the tick that was due at at: a whole
// number of intervals later, so that a late tick does not delay all that follow.
// A first tick, and one that is early because the clock was set back, begin anew.
func (s Schedule) next(at, now time.Time) time.Time {
	if at.IsZero() || at.After(now) {
		return now.Add(s.Every)
	}
	return now.Add(s.Every - now.Sub(at)%s.Every)
}

func (r *run) tick(ctx context.Context, held lease.Held, s Schedule, due Due) (moved bool, err error) {
	jobs, trouble := s.Jobs(ctx)
	if len(jobs) == 0 {
		return false, trouble
	}
	for _, n := range jobs {
		if err := n.Check(); err != nil {
			return false, errors.Join(trouble, err)
		}
	}
	err = r.seat.Tick(ctx, held, due, jobs...)
	return err == nil, errors.Join(trouble, err)
}
