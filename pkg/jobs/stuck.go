package jobs

import (
	"context"
	"time"

	"go.uber.org/zap"
)

const (
	// stuckAfter is how long a handler may take to return once its context has
	// ended. Longer, and it is stuck: people are told, as its slot is lost until
	// it returns.
	stuckAfter = 5 * time.Second
	stuckEvery = time.Second
)

// watch looks for handlers that ignore the end of their contexts, logs each once
// with its stack, and has the store know how many there are.
func (r *run) watch(ctx context.Context) {
	told := 0
	for wait := stuckEvery; after(wait, ctx.Done()); {
		stuck := r.stuck(time.Now())
		if wait = stuckEvery; len(r.holding()) == 0 {
			wait = r.rest(calmEvery)
		}
		if stuck == told {
			continue
		}
		telling, cancel := context.WithTimeout(ctx, stuckEvery)
		err := r.seat.Stuck(telling, stuck)
		cancel()
		if err == nil {
			told = stuck
		} else if ctx.Err() == nil {
			r.log.Warn("can't tell how many handlers are stuck, trying again", zap.Error(err))
		}
	}
}

func (r *run) stuck(now time.Time) (n int) {
	r.mu.Lock()
	var news []*attempt
	for _, a := range r.held {
		switch {
		case !a.ignores():
		case a.ignoring.IsZero():
			a.ignoring = now
		case now.Sub(a.ignoring) >= stuckAfter:
			n++
			if !a.reported {
				a.reported = true
				news = append(news, a)
			}
		}
	}
	r.mu.Unlock()
	for _, a := range news {
		r.log.Error("handler does not return though its context has ended: its slot is lost until it does",
			zap.Int64("job", a.ID), zap.String("type", a.Type), zap.Int64("token", a.Token), zap.Int("attempt", a.Attempt),
			zap.NamedError("cause", context.Cause(a.ctx)), zap.String("stack", r.slots.stacks(a.slot)))
	}
	return n
}
