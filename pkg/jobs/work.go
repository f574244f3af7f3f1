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

// errNotBegun stands for the handler's error where the attempt's lease was lost, or the
// worker stopped, before the handler was called.
var errNotBegun = errors.New("not begun")

// hold makes attempts of what was claimed. Their leases were asked for at asked, which
// may be long ago: the process may have been stopped, or the file locked. Until a renewal
// has covered them, that is what is trusted; where it may end before the next renewal,
// they are given back, and no handler sees them.
func (t *turns) hold(claimed []Claimed, asked time.Time) (attempts []*attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, until := time.Now(), asked.Add(lease.Trust(t.opts.Lease))
	trusted := until.Sub(now)
	// A renewal that was under way with the claims may have been asked for later,
	// and does not cover them.
	stale := trusted <= t.opts.Lease/3
	if !stale && until.Before(t.vouched) {
		t.vouch(until)
	}
	if t.expires.IsZero() { // else earlier claims expire before these
		t.expires = until
		t.expiry.Reset(trusted)
	}
	for _, c := range claimed {
		a := &attempt{
			Claimed: c, seat: t.seat, pool: poolOf(t.room.Pools, c.Queue), claimed: now,
			trusted: t.slots.parent, until: until, lost: stale,
		}
		t.room.starts(a.pool)
		t.held[a.Ref] = a
		attempts = append(attempts, a)
	}
	return attempts
}

// begin has the attempt take a slot.
func (r *run) begin(a *attempt) {
	r.mu.Lock()
	slot, parent := r.slots.take(a.Type)
	if !a.until.IsZero() && !a.until.After(time.Now()) {
		a.lose() // the timer that does so (expire) may be late
	}
	r.mu.Unlock()
	a.begin(parent, slot)
}

// work runs one attempt to its end and hands its outcome to the turn loop.
func (r *run) work(a *attempt) {
	r.begin(a)
	started := time.Now()
	pprof.SetGoroutineLabels(a.ctx)
	err := errGone
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n\n%s", p, debug.Stack())
		}
		r.settle(a, err, started)
	}()
	if a.ctx.Err() != nil {
		if cause := context.Cause(a.ctx); errors.Is(cause, lease.ErrLost) || errors.Is(cause, ErrDraining) {
			err = errNotBegun // over before that, not by its own timeout
			return
		}
	}
	err = r.handlers[a.Type].run(a.ctx, a, a.Payload)
	if err != nil {
		_ = err.Error() // where it panics, it is to do so here
	}
}

func (r *run) settle(a *attempt, err error, started time.Time) {
	e := ending{pool: a.pool, ran: time.Since(started)}
	e.outcome, e.open = a.conclude(r.verdict(a, err), ended)
	a.cancel(nil)
	r.logEnd(a, e.outcome, e.ran)

	r.mu.Lock()
	a.until = time.Time{}
	if !e.open {
		delete(r.held, a.Ref) // else once the outcome is handed in: until then the lease is kept
	}
	r.slots.free = append(r.slots.free, a.slot)
	r.mu.Unlock()
	r.crew.ends(e)
}

// verdict is what the handler's error means for the job.
func (r *run) verdict(a *attempt, err error) Outcome {
	if err == nil {
		return Outcome{Status: Completed}
	}
	o := Outcome{Status: Pending}
	cause := context.Cause(a.ctx)
	_, permanent := errors.AsType[permanentError](err)
	again, said := errors.AsType[retryError](err)
	switch {
	case errors.Is(err, errNotBegun):
		o.Delay, o.Uncounted = KeepDue, true
	case permanent:
		o.Status = Failed
	case said && again.uncounted:
		o.Delay, o.Uncounted = max(0, again.delay), true
	case errors.Is(cause, ErrDraining):
		o.Delay, o.Uncounted = KeepDue, true
	case errors.Is(cause, lease.ErrLost):
		// Interrupted by us, not by its own fault, as far as we know. It waits a second
		// for each claim before that left no attempt: in the end as long as after a
		// failure. Where another does hold the job, the token has this refused.
		o.Uncounted = true
		before := max(0, a.Token-int64(a.Attempt))
		o.Delay = min(time.Duration(before)*time.Second, r.retry(a).wait(1))
	case a.Attempt >= a.MaxAttempts:
		o.Status = Failed
	case said:
		o.Delay = max(0, again.delay)
	default:
		o.Delay = r.backoff(a, err)
	}
	if errors.Is(cause, ErrTimeout) { // the handler's own error need not tell
		err = fmt.Errorf("timed out after %v: %w", a.Timeout, err)
	}
	if !o.Uncounted {
		o.Error = clip(err.Error())
	}
	return o
}

// retry is what holds for the job's retries: as the operator says, or the handler,
// or the worker's options.
func (r *run) retry(a *attempt) RetryPolicy {
	return a.Retry.Or(RetryPolicy{Delay: r.opts.RetryDelay})
}

// backoff is how long the job waits after an attempt that failed.
func (r *run) backoff(a *attempt, err error) (wait time.Duration) {
	wait = r.retry(a).wait(a.Attempt)
	backoff := r.handlers[a.Type].defaults.Backoff
	if backoff == nil || a.Retry.Delay != 0 {
		return wait
	}
	defer func() {
		if why := recover(); why != nil {
			r.log.Error("backoff function panicked: the usual delay holds", zap.String("type", a.Type), zap.Any("panic", why))
		}
	}()
	return max(0, backoff(a.Attempt, err))
}

func (r *run) logEnd(a *attempt, o Outcome, ran time.Duration) {
	if o.Error == "" {
		if c := r.log.Check(zap.DebugLevel, "job ended"); c != nil {
			c.Write(zap.Int64("job", a.ID), zap.String("type", a.Type), zap.Duration("took", ran))
		}
		return
	}
	r.log.Warn("attempt did not complete", zap.Int64("job", a.ID), zap.String("type", a.Type),
		zap.Int("attempt", a.Attempt), zap.Int("of", a.MaxAttempts), zap.Duration("took", ran),
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
