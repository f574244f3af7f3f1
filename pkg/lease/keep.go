package lease

import (
	"context"
	"errors"
	"time"
)

// retryPause is the longest wait after a renewal that failed. Who takes ended
// leases gives their holders longer than that once they can be renewed again:
// after a stall the renewals come first.
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
	k := &keeper{ttl: ttl, renew: renew, cancel: cancel, since: since}
	// A timer of its own: renew may not come back in time.
	k.end = time.AfterFunc(time.Until(k.trust()), func() { cancel(ErrLost) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer k.end.Stop()
		cancel(k.run(kept))
	}()
	return kept, func() {
		cancel(context.Canceled)
		<-done
	}
}

type keeper struct {
	ttl    time.Duration
	renew  func(context.Context) error
	cancel context.CancelCauseFunc
	since  time.Time   // when the last success was asked for
	end    *time.Timer // ends the context at the trust deadline
}

func (k *keeper) trust() time.Time { return k.since.Add(Trust(k.ttl)) }

// run renews until the context ends, and returns why the lease is no longer
// trusted.
func (k *keeper) run(ctx context.Context) error {
	wait := time.Until(k.since.Add(k.ttl / 3))
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
		case !start.Before(k.trust()):
			return ErrLost // the timer is about to say so
		}
		attempt, cancel := context.WithDeadline(ctx, k.trust())
		err := k.renew(attempt)
		cancel()
		switch {
		case err == nil:
			k.since = start
			k.end.Reset(time.Until(k.trust()))
			wait = time.Until(start.Add(k.ttl / 3))
		case errors.Is(err, ErrLost):
			return err
		case !time.Now().Before(k.trust()):
			return errors.Join(ErrLost, err)
		default:
			// Sooner than after a success: a short hiccup is to cost little trust.
			wait = min(k.ttl/30, retryPause, time.Until(k.trust()))
		}
	}
}
