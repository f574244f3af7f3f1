package jobs

import (
	"context"

	"go.uber.org/zap"
)

// Failure is a job that failed for good.
type Failure struct {
	ID          int64
	Type        string
	Queue       string
	Attempt     int
	MaxAttempts int
	Error       string
}

// maxUntold is how many failures wait for a slow hook.
const maxUntold = 1000

// failed has the hook told, if there is one. It doesn't wait.
func (r *run) failed(f Failure) {
	if r.opts.Failed == nil {
		return
	}
	select {
	case r.failures <- f:
		r.untold.Add(1)
	default:
		r.failing.Warn("the hook for failed jobs is behind: it is not told of all", zap.Int64("job", f.ID))
	}
}

// tellFailures begins to tell the hook. wait is to be called once nothing can fail any
// more: it returns when the hook knows of all, or when words has ended, and no call
// begins after that.
func (r *run) tellFailures(words context.Context) (wait func()) {
	r.failures = make(chan Failure, maxUntold)
	told := make(chan struct{})
	go func() {
		defer close(told)
		for f := range r.failures {
			if words.Err() == nil {
				r.untold.Add(-1)
				r.tell(words, f)
			}
		}
	}()
	return func() {
		close(r.failures)
		select {
		case <-told:
		case <-words.Done(): // Run returns: what the hook needs may be closed after that
		}
		if untold := r.untold.Load(); untold > 0 {
			r.log.Warn("the worker stops before its hook for failed jobs was told of all", zap.Int64("untold", untold))
		}
	}
}

func (r *run) tell(ctx context.Context, f Failure) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("the hook for failed jobs panicked", zap.Int64("job", f.ID), zap.Any("panic", p), zap.Stack("stack"))
		}
	}()
	r.opts.Failed(ctx, f)
}
