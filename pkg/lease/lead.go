package lease

import (
	"context"
	"errors"
	"time"
)

// A follower asks for the lease at least every electionLook and, when told that it may
// be free, at most every electionPause: asking costs a read, and an idle process is to
// sleep.
const (
	electionPause = 500 * time.Millisecond
	electionLook  = 5 * time.Second
)

// lastWords is how long a leader that steps down may take to say so: a lease
// that is not given back ends by itself.
const lastWords = 500 * time.Millisecond

// Lead runs work while it holds the named lease, again and again until ctx
// ends:
//
//	follower ──Acquire──► leader: work(ctx, held) ──► follower …
//	                      ctx ends with ErrLost when the lease can't be trusted
//
// When work returns, the lease is released, and Lead follows again. An error of the
// store or of work goes to report, if that isn't nil, and Lead goes on after a pause.
// A follower asks for the lease every 5 s, and when told delivers, which means that
// it may be free, but at most every 500 ms (of a short ttl, each is a third of it at
// most). told may be nil.
func Lead(ctx context.Context, store Store, name string, ttl time.Duration, told <-chan struct{}, work func(context.Context, Held) error, report func(error)) {
	for {
		err := follow(ctx, store, name, ttl, told, work)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		if report != nil {
			report(err)
		}
		select { // what fails at once would do so without end
		case <-ctx.Done():
			return
		case <-time.After(min(electionPause, ttl/3)):
		}
	}
}

// follow waits until it holds the lease and then leads once.
func follow(ctx context.Context, store Store, name string, ttl time.Duration, told <-chan struct{}, work func(context.Context, Held) error) error {
	for {
		start := time.Now()
		held, err := store.Acquire(ctx, name, ttl)
		if err == nil {
			return lead(ctx, store, held, start, ttl, work)
		}
		if !errors.Is(err, ErrHeld) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(electionLook, ttl/3)):
			continue
		case <-told:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(start.Add(min(electionPause, ttl/3)))):
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

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(lastWords, ttl/3))
	defer cancel()
	if e := store.Release(last, held); e != nil && !errors.Is(e, ErrLost) {
		err = errors.Join(err, e)
	}
	return err
}
