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

// start runs the handlers of what was claimed. Their leases
// were asked for at asked, which may be long ago: the process may have been
// stopped, or the file locked. Until a renewal has covered them, that is what is
// trusted; where it may end before the next renewal, they are given back, and no
// handler sees them.
func (t *turns) start(claimed []Claimed, asked time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	until := asked.Add(lease.Trust(t.opts.Lease))
	trusted := time.Until(until)
	// A renewal that was under way with the claims may have been asked for later,
	// and does not cover them.
	stale := trusted <= t.opts.Lease/3
	if !stale && len(claimed) > 0 && until.Before(t.vouched) {
		t.vouch(until)
	}
	g := &grant{until: until, attempts: len(claimed)}
	if len(claimed) > 0 {
		g.timer = time.AfterFunc(trusted, func() { t.expire(g) })
	}
	for _, c := range claimed {
		slot, parent := t.slots.take(c.Type)
		ctx, cancel := cancellable(parent, c.Timeout)
		a := &attempt{Claimed: c, seat: t.seat, pool: poolOf(t.want.Pools, c.Queue), slot: slot, ctx: ctx, cancel: cancel, grant: g}
		if stale {
			cancel(lease.ErrLost)
		}
		t.held[a.Ref] = a
		t.starting = append(t.starting, a)
	}
	t.started = time.Now()
	t.call()
}

// beginning says that handlers are about to begin: those that are as good as done
// end before the next turn, as one commit for all costs less than one more for those
// that came too late. It does not last where others need the processors.
func (r *run) beginning() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tooSoon()
}

// tooSoon is beginning, with mu held.
func (r *run) tooSoon() bool { return len(r.starting) > 0 && time.Since(r.started) < beginTime }

// beginTime is little beside a commit.
const beginTime = 100 * time.Microsecond

// call has one more goroutine work, if there are attempts to start and none was
// called that has not come yet. It is used with mu held.
func (r *run) call() {
	if r.called || len(r.starting) == 0 {
		return
	}
	r.called = true
	select {
	case r.calls <- struct{}{}: // to one that waits
	default:
		go r.works()
	}
}

// works runs attempts, one after the other, until no more come. While it runs one,
// another goroutine is ready to run the next: it does where this one's handler takes
// its time, and where it does not, there is no switch between goroutines, which costs
// as much as the rest of a short handler. So would a stack that grows with each.
func (r *run) works() {
	for {
		for a := r.next(true); a != nil; a = r.next(false) {
			r.work(a)
			pprof.SetGoroutineLabels(context.Background())
		}
		select {
		case <-r.calls:
		case <-r.over:
			return
		}
	}
}

// next is the attempt to run next; came says that this is the goroutine that was
// called.
func (r *run) next(came bool) (a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if came {
		r.called = false
	}
	if len(r.starting) > 0 {
		a, r.starting = r.starting[0], r.starting[1:]
		r.call()
		if len(r.starting) == 0 && len(r.ended) > 0 {
			signal(r.news)
		}
	}
	return a
}

// cancellable is the context of an attempt, which ends after its timeout, if that
// isn't 0.
func cancellable(parent context.Context, timeout time.Duration) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	if timeout == 0 {
		return ctx, cancel
	}
	ctx, stop := context.WithTimeoutCause(ctx, timeout, ErrTimeout)
	return ctx, func(cause error) { cancel(cause); stop() }
}

// work runs one attempt to its end and hands its outcome to the turn loop.
func (r *run) work(a *attempt) {
	started := time.Now()
	pprof.SetGoroutineLabels(a.ctx)
	err := errGone
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n\n%s", p, debug.Stack())
		}
		r.settle(a, err, time.Since(started))
	}()
	if cause := context.Cause(a.ctx); errors.Is(cause, lease.ErrLost) || errors.Is(cause, ErrDraining) {
		err = Snooze(0) // over before it began, not by its own timeout
		return
	}
	err = r.handlers[a.Type].run(a.ctx, a, a.Payload)
	if err != nil {
		_ = err.Error() // where it panics, it is to do so here
	}
}

func (r *run) settle(a *attempt, err error, took time.Duration) {
	e := ending{pool: a.pool}
	retry, after := r.retry(a, err)
	e.outcome, e.last = a.outcome(err, retry, after)
	a.cancel(nil)
	r.logEnd(a, e.outcome, took)

	r.mu.Lock()
	a.grant.leave(a)
	if !e.last {
		delete(r.held, a.Ref) // else once the outcome is handed in: until then the lease is kept
	}
	r.ended = append(r.ended, e)
	r.slots.free = append(r.slots.free, a.slot)
	if !r.tooSoon() { // else with the last that begins
		signal(r.news)
	}
	r.mu.Unlock()
}

// retry is what holds for the job's retries, and after is how long it waits for the
// next one: as the operator says, or the handler, or the worker's options.
func (r *run) retry(a *attempt, err error) (p RetryPolicy, after time.Duration) {
	if err == nil {
		return p, 0
	}
	p = a.Retry.or(RetryPolicy{Delay: r.opts.RetryDelay})
	after = p.wait(a.Attempt)
	backoff := r.handlers[a.Type].defaults.Backoff
	var permanent permanentError
	var said retryError
	if backoff == nil || a.Retry.Delay != 0 || errors.As(err, &permanent) || errors.As(err, &said) {
		return p, after
	}
	defer func() {
		if why := recover(); why != nil {
			r.log.Error("backoff function panicked: the usual delay holds", zap.String("type", a.Type), zap.Any("panic", why))
		}
	}()
	return p, max(0, backoff(a.Attempt, err))
}

func (r *run) logEnd(a *attempt, o Outcome, took time.Duration) {
	if o.Error == "" {
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

// ending is an attempt whose handler has returned. Where its outcome is not the last
// word, Job.Commit has said that.
type ending struct {
	pool    int
	outcome Outcome
	last    bool
}
