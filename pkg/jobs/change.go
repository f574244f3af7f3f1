package jobs

import (
	"errors"
	"fmt"
)

// Verb is what an operator does to jobs.
type Verb string

// The verbs. Each acts on jobs of some statuses only and leaves the others alone.
const (
	// Retry makes a job that is not running pending, due now, with one attempt
	// more where it had used up its own. A unique key that it gave up stays given up.
	Retry Verb = "retry"
	// Cancel ends a pending or a running job. The handler of a running one is
	// interrupted, and what it says is refused.
	Cancel Verb = "cancel"
	// Delete removes a job that is not running, and its history.
	Delete Verb = "delete"
	// Prioritize gives a pending or a running job another priority; that of a
	// running one counts when it is claimed again.
	Prioritize Verb = "prioritize"
)

// Change is what to do to the jobs of a Filter.
type Change struct {
	Verb     Verb
	Priority int // the new one, for Prioritize
	// Report is told after each transaction how many jobs were changed so far; nil:
	// nobody is told.
	Report func(changed int64)
}

// Check says whether the change, of the filter's jobs, means anything. A filter
// that names nothing would change every job: it is refused.
func (c Change) Check(f Filter) error {
	switch c.Verb {
	case Retry, Cancel, Delete, Prioritize:
	default:
		return fmt.Errorf("unknown verb %q: use retry, cancel, delete or prioritize", c.Verb)
	}
	if f.IDs == nil && f.Type == "" && f.Queue == "" && f.Status == "" && f.EndedBefore.IsZero() {
		return errors.New("the filter names nothing, and would change every job: name ids, a type, a queue, a status or a time")
	}
	return nil
}

// Allows says whether the verb acts on jobs of the status.
func (v Verb) Allows(s Status) bool {
	switch v {
	case Retry, Delete:
		return s != Running
	default:
		return s == Pending || s == Running
	}
}

// Changed is what came of a Change.
type Changed struct {
	Count int64
	IDs   []int64 // of the changed jobs, ascending, where the filter names ids; else nil
}
