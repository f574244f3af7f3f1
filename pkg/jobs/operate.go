package jobs

import "context"

// Operator changes what is in a queue, and what holds for it, while it runs.
type Operator interface {
	Inspector
	// ChangePolicy changes what the operator says of a type or queue. change gets
	// what was said before; it must be quick, and may be called more than once.
	// It acts on claims from the moment it returns. Errors: those of CheckPolicy.
	ChangePolicy(ctx context.Context, kind PolicyKind, name string, change func(*Policy)) error
}
