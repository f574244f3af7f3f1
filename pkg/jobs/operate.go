package jobs

import "context"

// Operator changes what is in a queue, and what holds for it, while it runs.
type Operator interface {
	Inspector
	// Change does something to each job of the filter that was there when it began,
	// oldest first; those in whose status the verb can do nothing are left as they
	// are. It goes on in many small transactions, so that others can write
	// meanwhile: after an error what was changed is said, and stays changed.
	// Filter.Limit does not count. Errors: those of Change.Check, ErrUnknown,
	// ErrClosed, or ctx's.
	Change(ctx context.Context, filter Filter, change Change) (Changed, error)
	// PutSchedule adds a stored schedule, or gives the one of that name another
	// spec and job; then replaced is true. Its next tick stays where spec and zone
	// do, and so does a pause. A program's is refused.
	PutSchedule(ctx context.Context, s StoredSchedule) (replaced bool, err error)
	// RemoveSchedule removes a schedule; ErrNoSchedule. A program that brings it
	// does so again.
	RemoveSchedule(ctx context.Context, name string) error
	// PauseSchedule has a schedule's ticks left out from now on, or ends that. What
	// fell due meanwhile is not made up for, whatever Missed says. ErrNoSchedule.
	PauseSchedule(ctx context.Context, name string, paused bool) error
	// RunSchedule enqueues a stored schedule's job now, paused or not, beside its
	// ticks, and returns the job's id. A program's is due at once instead, for the
	// leader to tick, unless it is paused; its id is 0. Errors: ErrNoSchedule, and
	// those of Store.Enqueue.
	RunSchedule(ctx context.Context, name string) (id int64, err error)
	// ChangePolicy changes what the operator says of a type or queue. change gets
	// what is said; it must be quick, and set what it sets: it may be called more
	// than once, on what it made before.
	// It acts on claims from the moment it returns. Errors: those of Policy.Check.
	ChangePolicy(ctx context.Context, kind PolicyKind, name string, change func(*Policy)) error
}
