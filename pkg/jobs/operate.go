package jobs

// Operator changes what is in a queue, and what holds for it, while it runs.
type Operator interface {
	Inspector
}
