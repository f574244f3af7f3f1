package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/shoal-project/shoal/pkg/lease"
)

// attempt is one claimed job while it waits for a slot, and while its handler runs.
type attempt struct {
	Claimed
	pool    int // whose slot it takes
	seat    Seat
	claimed time.Time       // when the claim came back
	trusted context.Context // as of the claim: ends when the leases can't be trusted any more

	// From its beginning on. The parent of ctx may be newer than trusted (keep).
	slot   int             // the slot's number
	ctx    context.Context // its handler's
	cancel context.CancelCauseFunc

	// Until when the lease that it was claimed with can be trusted; zero once a renewal
	// has covered it, or it has ended. Under run.mu, as are the next two.
	until time.Time
	// When its handler was first seen not to have returned though its context had
	// ended, and whether that was logged.
	ignoring time.Time
	reported bool

	mu       sync.Mutex
	state    attemptState
	lost     bool // another may have the job: noted while nothing can be cancelled, waiting or committing
	result   []byte
	progress *Progress // not yet written
}

// attemptState only goes up, but for a Commit that failed, which leads back to handling.
// committed is the last: that the handler returns after it changes nothing.
type attemptState int

const (
	waiting attemptState = iota // for a slot
	handling
	committing // inside Job.Commit: whether the job is still ours is being decided
	ended      // the handler has returned, its outcome is to be handed in
	committed  // Job.Commit has handed the outcome in; the handler may still run
)

// begin gives the attempt a slot, and its handler a context below parent; its time runs
// from now on. Where its lease was lost while it waited, that context has ended.
func (a *attempt) begin(parent context.Context, slot int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state, a.slot = handling, slot
	a.ctx, a.cancel = cancellable(parent, a.Timeout)
	if a.lost || a.trusted.Err() != nil {
		a.cancel(lease.ErrLost)
	}
}

// cancellable is the context of an attempt, which ends after its timeout, if that
// isn't 0.
func cancellable(parent context.Context, timeout time.Duration) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	if timeout == 0 {
		return ctx, cancel
	}
	ctx, stop := context.WithTimeoutCause(ctx, timeout, ErrTimeout)
	return ctx, func(cause error) { cancel(cause); stop() }
}

// runs says whether the handler may be running, or is still to run.
func (a *attempt) runs() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state != ended
}

// ignores says whether the handler may be running though its context has ended.
func (a *attempt) ignores() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state != waiting && a.state != ended && a.ctx.Err() != nil
}

func (a *attempt) setResult(result []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.result = result
}

func (a *attempt) setProgress(p Progress) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.progress = &p
}

// holding is what the renewal should say of the attempt.
func (a *attempt) holding() Holding {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Holding{Ref: a.Ref, Progress: a.progress}
}

// renewed notes that a renewal covered the attempt and wrote p, if that isn't nil.
func (a *attempt) renewed(p *Progress) {
	a.until = time.Time{}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.progress == p {
		a.progress = nil
	}
}

// lose ends the handler's context because another may have the job, and says
// whether it did. While the attempt waits it only notes that, for begin; during a Commit
// too, for leave: the job may look lost because this very Commit has ended it, and the
// Commit's own fence decides.
func (a *attempt) lose() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost = a.lost || a.state == committing || a.state == waiting
	if a.state != handling || a.ctx.Err() != nil {
		return false
	}
	a.cancel(lease.ErrLost)
	return true
}

// conclude moves the attempt on to a later state and makes o its outcome; false
// where another may be its outcome already.
func (a *attempt) conclude(o Outcome, next attemptState) (Outcome, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state >= next {
		return Outcome{}, false
	}
	a.state = next
	o.Ref = a.Ref
	if o.Status == Completed {
		o.Result = a.result
	}
	return o, true
}

func (a *attempt) commit(ctx context.Context, o Outcome, write func(*sql.Tx) error, follow []New) error {
	for _, n := range follow {
		if err := n.Check(); err != nil {
			return fmt.Errorf("commit: follow-up: %w", err)
		}
	}
	o, ok := a.conclude(o, committing)
	if !ok {
		return fmt.Errorf("commit: %w: the job has its outcome", lease.ErrLost)
	}
	next := handling // also where write panics
	defer func() { a.leave(next) }()
	err := a.seat.Finish(ctx, o, write, follow...)
	if err == nil {
		next = committed
		return nil
	}
	if errors.Is(err, lease.ErrLost) {
		a.cancel(lease.ErrLost)
	}
	return fmt.Errorf("commit: %w", err)
}

// leave ends the state of committing, unless the handler's end has done so. What was
// lost meanwhile is lost now.
func (a *attempt) leave(next attemptState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != committing {
		return
	}
	a.state = next
	if a.lost && next == handling {
		a.cancel(lease.ErrLost)
	}
}

// clip bounds an error's text: its beginning says what happened, its end (of a
// stack, or of a command's output) often why. Other programs need UTF-8.
func clip(text string) string {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	if len(text) <= MaxError {
		return text
	}
	const half = MaxError/2 - 8
	return strings.ToValidUTF8(text[:half], "") + "\n…\n" + strings.ToValidUTF8(text[len(text)-half:], "")
}
