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

// attempt is one claimed job while its handler runs.
type attempt struct {
	Claimed
	pool   int // whose slot it takes
	slot   int // the slot's number
	seat   Seat
	ctx    context.Context // its handler's
	cancel context.CancelCauseFunc
	grant  *grant // nil once a renewal has covered it, or it has ended; under run.mu

	// When its handler was first seen not to have returned though its context had
	// ended, and whether that was logged. Under run.mu.
	ignoring time.Time
	reported bool

	mu       sync.Mutex
	state    attemptState
	lost     bool // while committing
	result   []byte
	progress *Progress // not yet written
}

type attemptState int

const (
	handling   attemptState = iota
	committing              // inside Job.Commit: whether the job is still ours is being decided
	settled                 // its outcome was accepted by Job.Commit
	ended                   // its handler has returned
)

// grant is the lease that the claims of one turn came with. Its attempts are lost
// when it can't be trusted any more, but for those that have left it. Under run.mu.
type grant struct {
	until    time.Time
	timer    *time.Timer
	attempts int
}

// leaveGrant says that the attempt needs its grant no longer.
func (a *attempt) leaveGrant() {
	g := a.grant
	if g == nil {
		return
	}
	a.grant = nil
	if g.attempts--; g.attempts == 0 {
		g.timer.Stop()
	}
}

// expire loses the attempts of a grant that can't be trusted any more.
func (r *run) expire(g *grant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.held {
		if a.grant == g {
			a.lose()
		}
	}
}

// runs says whether its handler has not returned.
func (a *attempt) runs() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state != ended
}

// ignores says whether its handler has not returned though its context ended.
func (a *attempt) ignores() bool { return a.runs() && a.ctx.Err() != nil }

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
	a.leaveGrant()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.progress == p {
		a.progress = nil
	}
}

// lose ends the handler's context because another may have the job, and says
// whether it did. During a commit the job's row says nothing yet: the commit's
// own fence decides.
func (a *attempt) lose() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lost = a.lost || a.state == committing
	if a.state != handling || a.ctx.Err() != nil {
		return false
	}
	a.cancel(lease.ErrLost)
	return true
}

// enter moves the attempt on, if it is where the caller believes.
func (a *attempt) enter(from, to attemptState) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != from {
		return false
	}
	a.state = to
	return true
}

func (a *attempt) commit(ctx context.Context, o Outcome, write func(*sql.Tx) error, follow []New) error {
	for _, n := range follow {
		if err := n.Check(); err != nil {
			return fmt.Errorf("commit: follow-up: %w", err)
		}
	}
	if !a.enter(handling, committing) {
		return fmt.Errorf("commit: %w: the job has its outcome", lease.ErrLost)
	}
	a.mu.Lock()
	o.Ref = a.Ref
	if o.Status == Completed {
		o.Result = a.result
	}
	a.mu.Unlock()

	next := handling // also where write panics
	defer func() { a.leave(next) }()
	err := a.seat.Finish(ctx, o, write, follow...)
	if err == nil {
		next = settled
		return nil
	}
	if errors.Is(err, lease.ErrLost) {
		a.cancel(lease.ErrLost)
	}
	return fmt.Errorf("commit: %w", err)
}

// leave ends the state of committing. What was lost meanwhile is lost now.
func (a *attempt) leave(next attemptState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.state = next
	if a.lost && next == handling {
		a.cancel(lease.ErrLost)
	}
}

// outcome turns the handler's error into the attempt's last word; false where
// Job.Commit has said it already. after is how long the job waits if it failed.
func (a *attempt) outcome(err error, retry RetryPolicy, after time.Duration) (Outcome, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == settled || a.state == ended {
		return Outcome{}, false
	}
	a.state = ended

	o := Outcome{Ref: a.Ref}
	if err == nil {
		o.Status, o.Result = Completed, a.result
		return o, true
	}
	cause := context.Cause(a.ctx)
	var permanent permanentError
	var again retryError
	switch {
	case errors.As(err, &permanent):
		o.Status = Failed
	case errors.As(err, &again) && again.uncounted:
		o.Status, o.Delay, o.Uncounted = Pending, again.delay, true
	case errors.Is(cause, ErrDraining):
		o.Status, o.Uncounted = Pending, true
	case errors.Is(cause, lease.ErrLost):
		// Interrupted by us, not by its own fault, as far as we know: where it was
		// given back before, it waits. Where another does hold the job, the token has
		// this refused.
		o.Status, o.Uncounted = Pending, true
		if int(a.Token) > a.Attempt {
			o.Delay = retry.wait(1)
		}
	case a.Attempt >= a.MaxAttempts:
		o.Status = Failed
	case errors.As(err, &again):
		o.Status, o.Delay = Pending, again.delay
	default:
		o.Status, o.Delay = Pending, after
	}
	if o.Uncounted {
		return o, true
	}
	text := err.Error()
	if errors.Is(cause, ErrTimeout) { // the handler's own error need not tell
		text = fmt.Sprintf("timed out after %v: %v", a.Timeout, err)
	}
	o.Error = clip(text)
	return o, true
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
