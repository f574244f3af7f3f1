package jobs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Job is an attempt of a job, as its handler sees it.
type Job[T any] struct {
	ID          int64
	Type        string
	Queue       string
	Priority    int
	Attempt     int // 1 for the first
	MaxAttempts int
	Token       int64 // grows with every claim of the job: a fence for effects elsewhere
	CreatedAt   time.Time
	Meta        map[string]string // what travels with it; nil: nothing
	Payload     T

	attempt *attempt
}

// Handle registers the handler of a job type, before Run. The payload is
// decoded into T by encoding/json; one that can't be decoded fails the job for
// good. A handler that returns nil completes the job. An error is that
// attempt's; the job is tried again later while it has attempts left, unless
// the error is [Permanent], [RetryAfter] or [Snooze]. A panic is an error with
// its stack.
//
// The context ends when the job is no longer to be worked on: with the cause
// lease.ErrLost when it is or may be another's, ErrTimeout after the job's
// timeout, ErrDraining when the worker stops. The handler should return soon
// then. After ErrTimeout its error is one like any other. After the other two an
// error that is not Permanent gives the job back, and the attempt is not counted:
// the job is due now, or when a Snooze says. But a job that came back uncounted
// before, and then has its lease lost, waits as after a first failure. nil completes
// the job in each case, if this attempt still holds it.
//
// defaults, at most one, is what holds for the type where no operator says
// otherwise. It is kept in the file: of the workers that handle a type, what the
// last one to start brings holds for all of them.
//
// A handler that does not return keeps its slot. After 5 s it is logged, once,
// with its stack, and counted as stuck until it does return. Its goroutine has
// the pprof labels "job_type" and "slot".
func Handle[T any](w *Worker, jobType string, fn func(context.Context, *Job[T]) error, defaults ...Policy) {
	w.handle(jobType, defaults, func(ctx context.Context, a *attempt, payload []byte) error {
		j := newJob[T](a)
		if err := json.Unmarshal(payload, &j.Payload); err != nil {
			return Permanent(fmt.Errorf("payload: %w", err))
		}
		return fn(ctx, j)
	})
}

func newJob[T any](a *attempt) *Job[T] {
	return &Job[T]{
		ID: a.ID, Type: a.Type, Queue: a.Queue, Priority: a.Priority,
		Attempt: a.Attempt, MaxAttempts: a.MaxAttempts, Token: a.Token,
		CreatedAt: a.CreatedAt, Meta: a.Meta, attempt: a,
	}
}

// Handler works on an attempt of any job type, as middleware sees it. What it
// returns means the same as with Handle.
type Handler func(ctx context.Context, j *Job[json.RawMessage]) error

// around puts middleware around what a type's handler does, the first outermost.
func (h handler) around(middleware []func(Handler) Handler) handler {
	if len(middleware) == 0 {
		return h
	}
	inner := h.run
	next := Handler(func(ctx context.Context, j *Job[json.RawMessage]) error { return inner(ctx, j.attempt, j.Payload) })
	for _, m := range slices.Backward(middleware) {
		next = m(next)
	}
	h.run = func(ctx context.Context, a *attempt, payload []byte) error {
		j := newJob[json.RawMessage](a)
		j.Payload = payload
		return next(ctx, j)
	}
	return h
}

// SetResult sets what is stored with the job when it completes: v as JSON, at
// most MaxResult bytes. The last call counts.
func (j *Job[T]) SetResult(v any) error {
	result, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	if len(result) > MaxResult {
		return fmt.Errorf("result: %d bytes, at most %d are kept", len(result), MaxResult)
	}
	j.attempt.setResult(result)
	return nil
}

// Progress says how far the attempt has come; total 0 means unknown. It costs
// nothing: it is written with the next renewal of the lease.
func (j *Job[T]) Progress(done, total int64, note string) {
	j.attempt.setProgress(Progress{Done: done, Total: total, Note: note})
}

// Commit completes the job in one transaction with what write does and with
// follow-up jobs: all or nothing, and only while this attempt holds the job;
// else it returns lease.ErrLost and nothing has happened. After a Commit that
// returned nil the job is done, whatever the handler returns.
//
// write (nil: nothing) gets a plain transaction of the store's database with
// foreign keys on. It must be quick, at most 5 s, as nobody else can write
// meanwhile, must use tx alone, and must leave its end to Commit.
func (j *Job[T]) Commit(ctx context.Context, write func(tx *sql.Tx) error, follow ...New) error {
	return j.attempt.commit(ctx, Outcome{Status: Completed}, write, follow)
}

// CommitSnooze is Commit for a step of a longer job: the job is not completed
// but runs again after d, with no attempt counted.
func (j *Job[T]) CommitSnooze(ctx context.Context, d time.Duration, write func(tx *sql.Tx) error, follow ...New) error {
	return j.attempt.commit(ctx, Outcome{Status: Pending, Delay: max(0, d), Uncounted: true}, write, follow)
}

// Why a handler's context ended, beside lease.ErrLost.
var (
	ErrTimeout  = errors.New("timed out")
	ErrDraining = errors.New("worker is stopping")
)

type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error that no retry can mend: the job fails for good. A
// nil error stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type retryError struct {
	error
	delay     time.Duration
	uncounted bool
}

func (e retryError) Unwrap() error { return e.error }

// RetryAfter marks an error after which the job is tried again after d, in
// place of the usual delay; the attempt counts. A nil error stays nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return retryError{error: err, delay: d}
}

// Snooze, returned by a handler, has the job run again after d. The attempt is
// not counted. Middleware knows it by ErrSnoozed: it is no failure.
func Snooze(d time.Duration) error {
	return retryError{error: ErrSnoozed, delay: d, uncounted: true}
}

// ErrSnoozed is what Snooze wraps.
var ErrSnoozed = errors.New("snoozed")
