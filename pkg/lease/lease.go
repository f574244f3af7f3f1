package lease

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrLost means that a lease is not, or no longer, the caller's.
	ErrLost = errors.New("lease lost")
	// ErrHeld means that another holds the lease now.
	ErrHeld = errors.New("lease held by another")
)

// Held is a named lease in the caller's hands.
type Held struct {
	Name string
	// Token grows each time the lease changes hands and never starts again;
	// what is done under the lease is refused under an older token.
	Token int64
}

// Store grants named leases, each to one holder at a time. The holder is the
// value that implements Store: one worker's seat, say.
type Store interface {
	// Acquire takes the lease for ttl, or renews it where the caller holds it:
	// the token stays the same then. It returns ErrHeld while another holds it.
	Acquire(ctx context.Context, name string, ttl time.Duration) (Held, error)
	// Release gives the lease back early. It returns ErrLost where it is no
	// longer the caller's.
	Release(ctx context.Context, held Held) error
}

// Trust is how long a lease of the given ttl may be relied on by its holder,
// from the moment at which it was asked for: a tenth less than ttl, which is
// time for a handler to notice, and for timers that fire late.
func Trust(ttl time.Duration) time.Duration { return ttl - ttl/10 }
