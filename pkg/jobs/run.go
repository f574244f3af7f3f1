package jobs

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// run is a worker at work. One goroutine takes turns with the store (turns.go),
// others run the handlers (crew.go, work.go), a few keep the leases and look after
// the fleet and the handlers (upkeep.go, leader.go, stuck.go).
type run struct {
	seat     Seat
	opts     WorkerOptions
	log      *zap.Logger
	began    time.Time
	failing  *zap.Logger // for what is tried again until it succeeds: each line once in a while
	handlers map[string]handler

	mu      sync.Mutex
	held    map[Ref]*attempt // until their outcome is handed in
	slots   slots            // with the parents of the attempts' contexts, which end when the leases can't be trusted
	vouched time.Time        // until when the guard was told to trust the leases
	expires time.Time        // when expiry fires; zero: it need not
	expiry  *time.Timer      // calls expire

	crew     *crew
	turning  atomic.Bool   // a Turn is under way
	calm     atomic.Bool   // as of the last Reap: no job runs anywhere, and none will without a commit, of which Changes tells
	failures chan Failure  // to be told to the hook, if there is one
	untold   atomic.Int64  // how many it was not told of yet
	asked    chan struct{} // whether the turn loop comes round
	changes  chan struct{} // somebody committed: jobs may have been taken away
	stir     chan struct{} // the same: jobs may be running
	freed    chan struct{} // the dead were looked for: the leadership may be free
	gone     chan struct{} // closed when the store is; goneErr says why
	goneErr  error
}

// failingEvery is how often the same failure is logged: a full disk lasts.
const failingEvery = 5 * time.Second

func newRun(w *Worker, seat Seat, opts WorkerOptions) *run {
	log := opts.Logger.With(zap.Int64("worker", seat.ID()))
	r := &run{
		seat: seat, opts: opts, handlers: make(map[string]handler), asked: w.asked, log: log, began: time.Now(),
		failing: log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
			return zapcore.NewSamplerWithOptions(c, failingEvery, 1, 0)
		})),
		held:    make(map[Ref]*attempt),
		changes: make(chan struct{}, 1),
		stir:    make(chan struct{}, 1),
		freed:   make(chan struct{}, 1),
		gone:    make(chan struct{}),
	}
	for jobType, h := range w.handlers {
		r.handlers[jobType] = h.around(opts.Middleware)
	}
	r.expiry = time.AfterFunc(math.MaxInt64, r.expire)
	return r
}

// run works until ctx ends or the store is gone, then drains. Three contexts
// end one after the other: ctx stops the claims; handling, Drain later, the
// handlers; words, lastWords later still, what is said to the store.
func (r *run) run(ctx context.Context, pools []Pool) error {
	r.crew = newCrew(r.work, pools)
	words, hush := context.WithCancel(context.WithoutCancel(ctx))
	defer hush()
	handling, interrupt := context.WithCancelCause(words)
	defer interrupt(nil)
	leading, stop := context.WithCancel(ctx)
	defer stop()

	stopTimer := context.AfterFunc(ctx, func() {
		r.crew.stop()
		if after(max(r.opts.Drain, 0), words.Done()) {
			interrupt(ErrDraining)
			if after(lastWords, words.Done()) {
				hush()
			}
		}
	})
	defer stopTimer()
	defer r.expiry.Stop()

	waitTold := func() {} // before anything can fail
	if r.opts.Failed != nil {
		waitTold = r.tellFailures(words)
	}
	trusted, stopKeeping := r.keep(handling, time.Now())
	var upkeep sync.WaitGroup
	upkeep.Go(func() { r.renewals(handling, trusted, stopKeeping) })
	upkeep.Go(func() { r.reaps(handling) })
	upkeep.Go(func() { r.losses(handling) })
	upkeep.Go(func() { r.watch(handling) })
	if !r.opts.UntilEmpty {
		upkeep.Go(func() { r.leads(leading) })
	}

	err := (&turns{run: r, room: newRoom(Want{
		Types: slices.Sorted(maps.Keys(r.handlers)), Pools: pools, TTL: r.opts.Lease,
		Limit: Limits{MaxAttempts: r.opts.MaxAttempts, Timeout: r.opts.Timeout},
	})}).loop(ctx, words)
	r.crew.stop()
	close(r.crew.over)
	stop()
	interrupt(ErrDraining)
	upkeep.Wait()
	waitTold()
	return err
}

// after waits for d, and is false if done came first.
func after(d time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
		return false
	}
}

// signal leaves word in a channel of capacity 1; one word is as good as many.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
