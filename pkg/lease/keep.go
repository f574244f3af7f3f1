package lease

import (
	"context"
	"errors"
	"time"
)

// retryPause is the longest wait after a renewal that failed. Whoever takes ended
// leases must leave their holders more time than this, from the moment at which
// renewals can succeed again: so that after a stall the renewals come first.
const retryPause = 200 * time.Millisecond

// Keep renews a lease of the given ttl every ttl/3 and returns a context that
// lives as long as the lease can be trusted: until the last successful
// renewal's start plus ttl less a tenth, whatever renew is doing then. The
// caller has just been granted the lease, having asked at since.
//
// A renew that returns ErrLost ends the context at once, any other error only
// when the trust runs out; it is tried again until then, at least every 200 ms.
// In both cases the context's cause is ErrLost (where renew's error came in time,
// with it). The context given to renew ends at the trust deadline.
//
// stop ends the renewals and the context, and returns when no renewal is under
// way any more. It must be called, and may be called again.
func Keep(ctx context.Context, since time.Time, ttl time.Duration, renew func(context.Context) error) (kept context.Context, stop func()) {
	kept, cancel := context.WithCancelCause(ctx)
	// A timer of its own: renew may not come back in time.
	end := time.AfterFunc(time.Until(since.Add(Trust(ttl))), func() { cancel(ErrLost) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer end.Stop()
		cancel(renewals(kept, since, ttl, renew, end))
	}()
	return kept, func() {
		cancel(context.Canceled)
		<-done
	}
}

// renewals renews until the context ends, moves the end of the trust on with each
// success, and returns why the lease is no longer trusted.
func renewals(ctx context.Context, since time.Time, ttl time.Duration, renew func(context.Context) error, end *time.Timer) error {
	trust := since.Add(Trust(ttl))
	wait := time.Until(since.Add(ttl / 3))
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		start := time.Now()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !start.Before(trust):
			return ErrLost // the timer is about to say so
		}
		attempt, cancel := context.WithDeadline(ctx, trust)
		err := renew(attempt)
		cancel()
		switch {
		case err == nil:
			trust = start.Add(Trust(ttl))
			end.Reset(time.Until(trust))
			wait = time.Until(start.Add(ttl / 3))
		case errors.Is(err, ErrLost):
			return err
		case !time.Now().Before(trust):
			return errors.Join(ErrLost, err)
		default:
			// Sooner than after a success: a short hiccup is to cost little trust.
			wait = min(ttl/30, retryPause, time.Until(trust))
		}
	}
}
