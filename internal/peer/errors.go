package peer

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// What a call to a peer can end with, beside the end of the caller's context.
// Match with errors.Is.
var (
	// ErrUnreachable: no answer, or not all of it: a failed dial or handshake,
	// a broken connection, no progress for too long. The text says which.
	ErrUnreachable = errors.New("peer unreachable")
	// ErrWrongKey: somebody else answers at the peer's URL. It comes with
	// ErrUnreachable.
	ErrWrongKey = errors.New("wrong key")
	// ErrForbidden: we are not in the peer's address book.
	ErrForbidden = errors.New("peer does not know us")
	// ErrNotFound: the peer does not have it, or not for us.
	ErrNotFound = errors.New("peer does not have it")
	// ErrBusy: the peer was asked too much, and still was after waiting as long
	// as it said. It comes as a *BusyError.
	ErrBusy = errors.New("peer is busy")
	// ErrWrongBytes: what came is not what its CID names. It comes with
	// blob.ErrMismatch or blob.ErrTooLarge.
	ErrWrongBytes = errors.New("peer sent wrong bytes")
	// ErrBadAnswer: an answer that this protocol does not know.
	ErrBadAnswer = errors.New("peer gave a bad answer")
)

// errStalled ends a call that makes no progress.
var errStalled = errors.New("no progress")

// BusyError says when to ask a busy peer again.
type BusyError struct {
	RetryAfter time.Duration
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("%v: ask again in %v", ErrBusy, e.RetryAfter)
}

func (e *BusyError) Unwrap() error { return ErrBusy }

// unreachable wraps what the transport says. Our own port is left out: with it
// no two failures would read the same, and each would be written to the book.
func unreachable(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		bare := *op
		bare.Source = nil
		err = &bare
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}
