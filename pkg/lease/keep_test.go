package lease_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-project/shoal/pkg/lease"
)

// The clock of these tests is virtual: what they say of times is exact.
const (
	ttl   = 30 * time.Second
	trust = 27 * time.Second // ttl less a tenth

	retryPause = 200 * time.Millisecond // at most, after a renewal that failed
)

var errBoom = errors.New("boom")

func TestKeepRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at, deadlines []time.Duration
		kept, stop := lease.Keep(t.Context(), start, ttl, func(ctx context.Context) error {
			at = append(at, time.Since(start))
			deadline, _ := ctx.Deadline()
			deadlines = append(deadlines, deadline.Sub(start))
			return nil
		})
		<-time.After(45 * time.Second)
		if kept.Err() != nil {
			t.Errorf("not kept: %v", context.Cause(kept))
		}
		stop()
		<-time.After(time.Hour) // none comes after stop
		const s = time.Second
		if want := []time.Duration{10 * s, 20 * s, 30 * s, 40 * s}; !slices.Equal(at, want) {
			t.Errorf("renewed at %v, want %v", at, want)
		}
		// Each attempt ends where the trust in the lease before it does.
		if want := []time.Duration{27 * s, 37 * s, 47 * s, 57 * s}; !slices.Equal(deadlines, want) {
			t.Errorf("deadlines %v, want %v", deadlines, want)
		}
	})
}

// TestKeepEnds proves when, and why, a kept context ends by itself.
func TestKeepEnds(t *testing.T) {
	type renewal func(ctx context.Context, n int) error // n counts from 1
	for name, c := range map[string]struct {
		renew   renewal
		granted time.Duration // before Keep was called
		ends    time.Duration
		cause   error // beside ErrLost
		renewed int   // calls, if not 0
	}{
		"renew fails": {
			renew: func(context.Context, int) error { return errBoom },
			ends:  trust, // it was tried at 10 s, and then every 200 ms
		},
		"renew hangs": {
			renew: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() },
			ends:  trust, renewed: 1,
		},
		"renew hangs and ignores its context": {
			renew: func(context.Context, int) error { <-time.After(5 * ttl); return nil }, // a commit on a disk that stalls
			ends:  trust,
		},
		"renew says lost": {
			renew: func(context.Context, int) error { return errors.Join(lease.ErrLost, errBoom) },
			ends:  ttl / 3, cause: errBoom, renewed: 1,
		},
		"lost after a failure": {
			renew: func(_ context.Context, n int) error { return []error{errBoom, lease.ErrLost}[n-1] },
			ends:  ttl/3 + retryPause, renewed: 2,
		},
		"a slow renewal counts from its start": {
			renew: func(_ context.Context, n int) error {
				if n > 1 {
					return errBoom
				}
				<-time.After(12 * time.Second)
				return nil
			},
			ends: ttl/3 + trust,
		},
		"recovers after a failed renewal": {
			renew: func(_ context.Context, n int) error {
				if n == 2 { // at 10.2 s
					return nil
				}
				return errBoom
			},
			ends: ttl/3 + retryPause + trust,
		},
		"a grant from long ago": {
			renew:   func(context.Context, int) error { return nil },
			granted: trust, ends: 0,
		},
		"a grant from a while ago": {
			renew:   func(context.Context, int) error { return errBoom },
			granted: 20 * time.Second, ends: 7 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start, calls := time.Now(), 0
				kept, stop := lease.Keep(t.Context(), start.Add(-c.granted), ttl, func(ctx context.Context) error {
					calls++
					return c.renew(ctx, calls)
				})
				defer stop()
				<-kept.Done()
				if took := time.Since(start); took != c.ends {
					t.Errorf("ended after %v, want %v", took, c.ends)
				}
				cause := context.Cause(kept)
				if !errors.Is(cause, lease.ErrLost) {
					t.Errorf("cause: %v, want ErrLost", cause)
				}
				if c.cause != nil && !errors.Is(cause, c.cause) {
					t.Errorf("cause: %v, want also %v", cause, c.cause)
				}
				stop()
				if c.renewed != 0 && calls != c.renewed {
					t.Errorf("%d renewals were tried, want %d", calls, c.renewed)
				}
			})
		})
	}
}

// TestKeepStop proves that nothing is renewed any more once stop has returned:
// it ends the context, waits for a renewal under way, and may be called again.
func TestKeepStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		renewing, finish := make(chan struct{}), make(chan struct{})
		kept, stop := lease.Keep(t.Context(), time.Now(), ttl, func(context.Context) error {
			close(renewing)
			<-finish // as a commit that has begun
			return nil
		})
		<-renewing
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			stop()
		}()
		<-kept.Done()
		if cause := context.Cause(kept); !errors.Is(cause, context.Canceled) || errors.Is(cause, lease.ErrLost) {
			t.Errorf("cause: %v, want Canceled", cause)
		}
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("stop returned while a renewal was under way")
		default:
		}
		close(finish)
		<-stopped
		stop()
	})
}

func TestKeepParentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancelCause(t.Context())
		kept, stop := lease.Keep(parent, time.Now(), ttl, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		<-time.After(ttl / 2) // a renewal is under way
		end(errBoom)
		<-kept.Done()
		synctest.Wait()
		if cause := context.Cause(kept); !errors.Is(cause, errBoom) || errors.Is(cause, lease.ErrLost) {
			t.Errorf("cause: %v, want the parent's", cause)
		}
		stop()
		if cause := context.Cause(kept); !errors.Is(cause, errBoom) {
			t.Errorf("cause after stop: %v, want the parent's", cause)
		}
	})
}
