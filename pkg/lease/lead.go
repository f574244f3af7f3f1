package lease

import (
	"context"
	"errors"
	"time"
)

// electionPause is how often a follower asks whether the lease is free. Asking
// is a read, and a dead leader's place is to be taken within a second.
const electionPause = 500 * time.Millisecond

// Lead runs work while it holds the named lease, again and again until ctx
// ends, and then returns nil:
//
//	follower ──Acquire──► leader: work(ctx, held) ──► follower …
//	                      ctx ends with ErrLost when the lease can't be trusted
//
// When work returns, the lease is released, and Lead follows again. An error
// of the store's or of work's goes to report, if that isn't nil, and Lead goes on.
func Lead(ctx context.Context, store Store, name string, ttl time.Duration, work func(context.Context, Held) error, report func(error)) error {
	for {
		err := follow(ctx, store, name, ttl, work)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && report != nil {
			report(err)
		}
	}
}

// follow waits until it holds the lease and then leads once.
func follow(ctx context.Context, store Store, name string, ttl time.Duration, work func(context.Context, Held) error) error {
	for {
		start := time.Now()
		held, err := store.Acquire(ctx, name, ttl)
		if err == nil {
			return lead(ctx, store, held, start, ttl, work)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(electionPause, ttl/3)):
		}
		if !errors.Is(err, ErrHeld) {
			return err
		}
	}
}

// lead works as long as the lease is kept, then gives it back.
func lead(ctx context.Context, store Store, held Held, since time.Time, ttl time.Duration, work func(context.Context, Held) error) error {
	kept, stop := Keep(ctx, since, ttl, func(ctx context.Context) error {
		renewed, err := store.Acquire(ctx, held.Name, ttl)
		if errors.Is(err, ErrHeld) || (err == nil && renewed != held) {
			// It was another's in between. What was acquired just now has a
			// token that this work never had: follow finds it held, and leads
			// again under the new one.
			return ErrLost
		}
		return err
	})
	err := work(kept, held)
	stop()

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl/3)
	defer cancel()
	if e := store.Release(last, held); e != nil && !errors.Is(e, ErrLost) {
		err = errors.Join(err, e)
	}
	return err
}
