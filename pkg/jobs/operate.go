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
}
