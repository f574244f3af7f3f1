package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/lease"
)

// errGone is the handler's error where its goroutine was ended under it, as a
// failed assertion of a test library does.
var errGone = errors.New("handler ended its goroutine (runtime.Goexit)")

// start runs the handlers of what was claimed, each in a goroutine. Their leases
// were asked for at asked, which may be long ago: the process may have been
// stopped. Until a renewal has covered them, that is what is trusted.
func (t *turns) start(claimed []Claimed, asked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	until := asked.Add(lease.Trust(t.opts.Lease))
	trusted := time.Until(until)
	if trusted > 0 && len(claimed) > 0 {
		t.vouchForClaims(until)
	}
	for _, c := range claimed {
		slot, parent := t.slots.take(c.Type)
		ctx, cancel := context.WithCancelCause(parent)
		a := &attempt{Claimed: c, seat: t.seat, pool: poolOf(t.want.Pools, c.Queue), slot: slot, ctx: ctx, cancel: cancel, until: until}
		if trusted <= 0 {
			cancel(lease.ErrLost)
		}
		a.trust = time.AfterFunc(trusted, func() { a.lose() })
		t.held[a.Ref] = a
		go t.work(ctx, a)
	}
}

// work runs one attempt to its end and hands its outcome to the turn loop.
func (r *run) work(ctx context.Context, a *attempt) {
	started := time.Now()
	pprof.SetGoroutineLabels(ctx)
	if a.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, a.Timeout, ErrTimeout)
		defer cancel()
		a.setContext(ctx)
	}
	err := errGone
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n\n%s", p, debug.Stack())
		}
		r.settle(ctx, a, err, time.Since(started))
	}()
	err = r.handlers[a.Type](ctx, a)
	if err != nil {
		_ = err.Error() // where it panics, it is to do so here
	}
}

func (r *run) settle(ctx context.Context, a *attempt, err error, took time.Duration) {
	e := ending{pool: a.pool}
	if o, ok := a.outcome(ctx, err, backoff{r.opts.RetryDelay}); ok {
		e.outcome = &o
	}
	a.trust.Stop()
	a.cancel(nil)
	r.logEnd(a, e.outcome, took)

	r.mu.Lock()
	if e.outcome == nil {
		delete(r.held, a.Ref) // else once the outcome is handed in: until then the lease is kept
	}
	r.ended = append(r.ended, e)
	r.slots.free = append(r.slots.free, a.slot)
	r.mu.Unlock()
	signal(r.news)
}

func (r *run) logEnd(a *attempt, o *Outcome, took time.Duration) {
	if o == nil || o.Error == "" {
		if c := r.log.Check(zap.DebugLevel, "job ended"); c != nil {
			c.Write(zap.Int64("job", a.ID), zap.String("type", a.Type), zap.Duration("took", took))
		}
		return
	}
	r.log.Warn("attempt did not complete", zap.Int64("job", a.ID), zap.String("type", a.Type),
		zap.Int("attempt", a.Attempt), zap.Int("of", a.MaxAttempts), zap.Duration("took", took),
		zap.String("error", firstLine(o.Error)), zap.Bool("retry", o.Status == Pending))
}

// firstLine is what of a text fits into a log line.
func firstLine(text string) string {
	const most = 300
	for i, c := range text {
		if c == '\n' || i > most {
			return text[:i]
		}
	}
	return text
}

// ending is an attempt whose handler has returned. With no outcome, Job.Commit
// has said it.
type ending struct {
	pool    int
	outcome *Outcome
}
