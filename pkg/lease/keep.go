package lease

import (
	"context"
	"errors"
	"time"
)

// Keep renews a lease of the given ttl every ttl/3 and returns a context that
// lives as long as the lease can be trusted: until the last successful
// renewal's start plus ttl less a tenth. The caller has just been granted the
// lease, at since.
//
// A renew that returns ErrLost ends the context at once, any other error only
// when the trust runs out; it is tried again until then. In both cases the
// context's cause is ErrLost (wrapping renew's last error). The context given
// to renew ends at the trust deadline.
//
// stop ends the renewals and the context, and returns when no renewal is under
// way any more. It must be called.
func Keep(ctx context.Context, since time.Time, ttl time.Duration, renew func(context.Context) error) (kept context.Context, stop func()) {
	kept, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		cancel(keep(kept, since, ttl, renew))
	}()
	return kept, func() {
		cancel(context.Canceled)
		<-done
	}
}

// keep returns why the lease is no longer trusted.
func keep(ctx context.Context, since time.Time, ttl time.Duration, renew func(context.Context) error) error {
	var last error
	for {
		trust := since.Add(ttl - margin(ttl))
		// After a success the next renewal is a third of ttl away; after a
		// failure sooner, so that a short hiccup costs little of the trust.
		wait := time.Until(since.Add(ttl / 3))
		if last != nil {
			wait = ttl / 30
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(wait, time.Until(trust))):
		}
		if !time.Now().Before(trust) {
			return lost(last)
		}

		start := time.Now()
		attempt, cancel := context.WithDeadline(ctx, trust)
		err := renew(attempt)
		cancel()
		switch {
		case err == nil:
			since, last = start, nil
		case errors.Is(err, ErrLost):
			return lost(err)
		default:
			last = err
		}
	}
}

func lost(why error) error {
	switch {
	case why == nil:
		return ErrLost
	case errors.Is(why, ErrLost):
		return why
	}
	return errors.Join(ErrLost, why)
}
