package jobs

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// WorkerOptions configure a worker. A field that is zero means its default, which
// stands in brackets.
type WorkerOptions struct {
	// Concurrency is the number of slots that the queues without slots of their
	// own share [16]: so many handlers run at once. Where they take about as long as a
	// commit does, up to 50 jobs more are claimed, for slots that are free in a moment;
	// what gets none within 100 ms and the time of a commit is given back, with no
	// attempt counted, to its old place. With one slot, and under a Policy's MaxRunning
	// or MaxStarts, nothing is claimed ahead.
	Concurrency int
	// Queues are those to work on [DefaultQueue].
	Queues []Queue
	// Lease is how long a claimed job is held without a renewal, at least 1 s [30 s].
	Lease time.Duration
	// Drain is how long running jobs may go on once Run's context has ended [30 s];
	// negative: not at all.
	Drain time.Duration
	// Poll is how often an idle worker looks for work that no commit told it of [1 s].
	// While no job runs anywhere, none is delayed and every commit is heard of, it
	// is at least 30 s. Either is up to a fifth shorter or longer.
	Poll time.Duration
	// MaxAttempts [3] and Timeout [none] hold where neither the job nor a Policy
	// says otherwise.
	MaxAttempts int
	Timeout     time.Duration
	// RetryDelay is what a job waits after its first failed attempt [60 s]. It
	// doubles with each, up to an hour, give or take a tenth. A Policy goes before it.
	RetryDelay time.Duration
	// Schedules are enqueued by the one worker of the fleet that leads, beside those
	// that are stored in the queue (Operator.PutSchedule) [none].
	Schedules []Schedule
	// UntilEmpty has Run return when nothing is left that this worker could claim.
	// It waits for delayed jobs and for those that run elsewhere, but not for what
	// is paused. Such a worker never leads [false].
	UntilEmpty bool
	// Listen is the address at which this process serves peers. It is only shown, in
	// WorkerRow.Listen [none].
	Listen string
	// Middleware is put around each attempt of each type, the first outermost [none].
	// It may give the next one another payload (decrypted, say) but no other meta,
	// sees the handler's error (a snooze is ErrSnoozed), and must let a panic pass.
	Middleware []func(next Handler) Handler
	// Failed is told of each job that failed for good, by its handler's outcome or
	// because its worker died at the last attempt [none]. It is called after that was
	// written, in the process that wrote it, for one job at a time, beside the work.
	// While Run drains it waits for these calls as long as Drain says; then their
	// context ends, and no further one begins. It is for alerts: where the process
	// dies in between, or the hook is a thousand jobs behind, or too slow at the end,
	// nobody is told, and the failed row is the truth. A panic is logged.
	Failed func(context.Context, Failure)
	// Guard ends what handlers run outside of this process when it dies or stands
	// still [none].
	Guard Guard
	// Joined is called once the worker has its seat, before it claims [none].
	Joined func()
	// Now is the wall clock that schedules go by [time.Now].
	Now func() time.Time
	// Logger gets what operators should know [none: it is dropped].
	Logger *zap.Logger
}

// Queue is a queue to work on.
type Queue struct {
	Name string
	// Slots of its own; 0: it shares WorkerOptions.Concurrency with the others
	// that have none.
	Slots int
}

// Check says what is nonsense in the options, in one line, as Run would.
func (o WorkerOptions) Check() error {
	_, err := o.withDefaults()
	return err
}

func (o WorkerOptions) withDefaults() (WorkerOptions, error) {
	o.Concurrency = cmp.Or(o.Concurrency, 16)
	o.Lease = cmp.Or(o.Lease, 30*time.Second)
	o.Drain = cmp.Or(o.Drain, 30*time.Second)
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.MaxAttempts = cmp.Or(o.MaxAttempts, 3)
	o.RetryDelay = cmp.Or(o.RetryDelay, time.Minute)
	o.Logger = cmp.Or(o.Logger, zap.NewNop())
	if len(o.Queues) == 0 {
		o.Queues = []Queue{{Name: DefaultQueue}}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case o.Concurrency < 0:
		return o, fmt.Errorf("concurrency is %d: at least 1", o.Concurrency)
	case o.Lease < time.Second:
		return o, fmt.Errorf("lease is %v: at least 1s, or a short stall loses jobs to others", o.Lease)
	case o.Poll < time.Millisecond:
		return o, fmt.Errorf("poll is %v: at least 1ms", o.Poll)
	case o.MaxAttempts < 0:
		return o, fmt.Errorf("max attempts is %d: at least 1", o.MaxAttempts)
	case o.RetryDelay < 0:
		return o, fmt.Errorf("retry delay is %v: it can't be negative", o.RetryDelay)
	case o.Timeout < 0:
		return o, fmt.Errorf("timeout is %v: it can't be negative", o.Timeout)
	}
	queues := make(map[string]bool)
	for _, q := range o.Queues {
		if err := checkName("queue", q.Name); err != nil {
			return o, err
		}
		if q.Slots < 0 {
			return o, fmt.Errorf("queue %s has %d slots: at least 1", q.Name, q.Slots)
		}
		if queues[q.Name] {
			return o, fmt.Errorf("queue %s is named twice", q.Name)
		}
		queues[q.Name] = true
	}
	for i, m := range o.Middleware {
		if m == nil {
			return o, fmt.Errorf("middleware %d of %d is nil: leave it out", i+1, len(o.Middleware))
		}
	}
	schedules := make(map[string]bool)
	for _, s := range o.Schedules {
		if schedules[s.Name] {
			return o, fmt.Errorf("schedule %s is named twice", s.Name)
		}
		schedules[s.Name] = true
		if err := s.check(); err != nil {
			return o, err
		}
	}
	return o, nil
}

// freeIn is how many jobs may be claimed for all of the pools.
func freeIn(pools []Pool) (n int) {
	for _, p := range pools {
		n += p.Free
	}
	return n
}

// poolsOf are the pools of slots with all of them free: one that is shared,
// where any queue shares it, and one for each queue with its own.
func poolsOf(o WorkerOptions) (pools []Pool, queues []string) {
	var shared []string
	for _, q := range o.Queues {
		queues = append(queues, q.Name)
		if q.Slots == 0 {
			shared = append(shared, q.Name)
		} else {
			pools = append(pools, Pool{Queues: []string{q.Name}, Free: q.Slots})
		}
	}
	if len(shared) > 0 {
		pools = append(pools, Pool{Queues: shared, Free: o.Concurrency})
	}
	return pools, queues
}
