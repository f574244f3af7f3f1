package jobs

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"time"

	"github.com/shoal-project/shoal/pkg/lease"
)

var (
	// ErrQueueFull means that the file's limit of pending jobs is reached.
	ErrQueueFull = errors.New("queue is full")
	// ErrUnknown means that a commit failed in a way that leaves open whether
	// it happened, and that it could not be found out in time.
	ErrUnknown = errors.New("outcome unknown")
	// ErrNotFound means that there is no such job.
	ErrNotFound = errors.New("no such job")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Store is what an engine gives: a producer needs Enqueue, a worker Join. Its methods
// may be called by several goroutines.
//
// Lease times cross this seam as durations only, never as an engine's clock;
// RunAt and a schedule's times are wall clock.
type Store interface {
	// Enqueue adds jobs, all or none, durably when it returns. The answers are
	// in the order of the jobs. Errors: ErrQueueFull, ErrUnknown, ErrClosed,
	// or ctx's if it ended before the jobs were written.
	Enqueue(ctx context.Context, jobs ...New) ([]Added, error)
	// Join takes a seat in the fleet.
	Join(ctx context.Context, who Info) (Seat, error)
	Close() error
}

// Info is what a worker says of itself when it joins.
type Info struct {
	Host        string
	PID         int
	Concurrency int
	Types       []string
	Queues      []string
	Listen      string // where it serves peers; empty: nowhere
	// Policies are what its handlers bring, by type. They take the place of what
	// other workers brought for those types.
	Policies map[string]Policy
	// Guard, where set, is handed the open file whose lock is the seat, before
	// the worker can claim anything. A process that inherits it keeps the seat
	// taken until it has ended too.
	Guard func(lock *os.File) error
}

// Seat is a worker's place in the fleet. It falls free when the process dies,
// however it dies, and the others see that at once. Its methods may be called
// by several goroutines.
//
// Each word on a job is fenced by its token, in the statement that carries it
// out. Only what takes all jobs from a worker (Reap, Leave) goes by the worker.
type Seat interface {
	lease.Store // the leadership

	// ID is the worker's number, lease_owner in the jobs' rows. It is never reused.
	ID() int64

	// Turn hands in the outcomes and claims as many jobs as there is room for, as ask
	// tells, in one transaction. With no outcomes it looks first and writes only if
	// there is something to claim. A handler may start once it has returned.
	Turn(ctx context.Context, ask Ask) (Turn, error)
	// Finish hands in one outcome, the rows that write adds and follow-up jobs,
	// in a transaction of its own. It returns lease.ErrLost where the attempt no
	// longer holds the job; then nothing is written but the refusal, in the
	// attempt's history.
	Finish(ctx context.Context, outcome Outcome, write func(*sql.Tx) error, follow ...New) error
	// Schedules lists them all, as Inspector does.
	Schedules(ctx context.Context) ([]ScheduleRow, error)
	// Bring writes what a program's schedule is, but for Paused and LastAt, fenced
	// by the leadership's token: lease.ErrLost. ErrChanged: a stored schedule has
	// that name by now.
	Bring(ctx context.Context, held lease.Held, row ScheduleRow) error
	// Tick enqueues what a schedule's ticks ask for and moves the schedule on,
	// fenced by the leadership's token (lease.ErrLost), by the time that it is
	// due, and by its not being paused (both ErrChanged). With an error nothing is
	// written.
	Tick(ctx context.Context, held lease.Held, due Due, jobs ...New) error
	// Renew extends the leases of the attempts in holding, in one statement, and
	// writes their progress. It returns those that are no longer held.
	Renew(ctx context.Context, ttl time.Duration, holding []Holding) (lost []Ref, err error)
	// Lost is the look of Renew without its write.
	Lost(ctx context.Context, holding []Holding) ([]Ref, error)
	// Stuck says, for people to see, how many handlers ignore the end of their
	// contexts. Nothing is said while there are none.
	Stuck(ctx context.Context, handlers int) error
	// AnyLeft says whether a job of the types and queues wanted, but for paused ones,
	// is pending (also in the future) or running, on any worker.
	AnyLeft(ctx context.Context, want Want) (bool, error)
	// Reap gives back the jobs of dead workers, and those whose lease has ended and
	// stays so for a grace. After the wall clock was set back it also moves run_at with
	// it. Where there is nothing to do it writes nothing. calm says that no job is
	// running, of any worker, and that none will without a commit, of which Changes tells.
	Reap(ctx context.Context) (reaped []Reaped, calm bool, err error)
	// Changes delivers after somebody committed; several commits may be one delivery.
	Changes() <-chan struct{}
	// Leave gives up the seat. Jobs that are still held go back to pending, due now,
	// and the attempt is not counted: that the worker ends is no fault of theirs.
	Leave(ctx context.Context) error
}

// Ask says what a turn is to do: the outcomes to hand in, and what to claim. Turn
// calls it first, to see whether there is anything, and again each time that a
// transaction has begun, so that what ended during the wait for it goes in too. That
// call may come from any goroutine, and must return at once, as others wait. No
// answer may leave out what an earlier one had. Once Turn has returned it is not called.
type Ask func() ([]Outcome, Want)

// Want is what a worker has room for.
type Want struct {
	Types []string // only these are claimed
	Pools []Pool
	Held  int           // attempts that have not ended: they run, or wait for a slot
	TTL   time.Duration // of the leases
	Limit Limits        // what holds for a job that names nothing itself
}

// Pool is the room for jobs of some queues.
type Pool struct {
	Queues []string
	Free   int // how many jobs may be claimed
	// Ahead is how many of them have no free slot yet, but will in a moment. No job
	// under a limit on starts, or on how many run, is claimed for those.
	Ahead int
}

// Limits bound a job: its number of attempts, and the time of each (0: none).
type Limits struct {
	MaxAttempts int
	Timeout     time.Duration
}

// Turn is what came of one.
type Turn struct {
	Claimed []Claimed // best first
	// Rejected are the outcomes that were not accepted: another had the job.
	Rejected []Ref
	// Next is how long until the earliest delayed job is due, or a limit on starts
	// lets one begin; 0: neither.
	Next time.Duration
}

// Due is a schedule that was due at At and is again at Next. Last is the time of
// the last tick that is enqueued; zero: none is.
type Due struct {
	Name string
	At   time.Time
	Next time.Time
	Last time.Time
}

// Reaped is a job that was taken from its holder.
type Reaped struct {
	Ref
	Worker int64  // the holder
	Reason string // as in the job's history
	Failed bool   // its attempts were used up

	Type, Queue          string
	Attempt, MaxAttempts int
}
