package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"
)

// Worker runs handlers for jobs that it claims from a store.
type Worker struct {
	store    Store
	opts     WorkerOptions
	handlers map[string]handler
	err      error         // of a registration
	asked    chan struct{} // received from each time the turn loop comes round
}

// handler is what is registered for a type.
type handler struct {
	run      func(ctx context.Context, a *attempt, payload []byte) error
	defaults Policy
}

// NewWorker makes a worker; register its handlers with Handle, then Run it.
// What is wrong with the options is said by Run.
func NewWorker(store Store, opts WorkerOptions) *Worker {
	return &Worker{store: store, opts: opts, handlers: make(map[string]handler), asked: make(chan struct{})}
}

func (w *Worker) handle(jobType string, defaults []Policy, run func(context.Context, *attempt, []byte) error) {
	h := handler{run: run}
	_, twice := w.handlers[jobType]
	var wrong error
	switch {
	case jobType == "":
		wrong = errors.New("a handler's job type is empty")
	case twice:
		wrong = fmt.Errorf("job type %q has two handlers", jobType)
	case len(defaults) > 1:
		wrong = fmt.Errorf("job type %q has two policies: want one", jobType)
	case len(defaults) == 1:
		h.defaults = defaults[0]
		wrong = checkDefaults(jobType, h.defaults)
	}
	w.handlers[jobType] = h
	w.err = cmp.Or(w.err, wrong)
}

// Types are the job types that have a handler, sorted.
func (w *Worker) Types() []string { return slices.Sorted(maps.Keys(w.handlers)) }

// Run claims and runs jobs until ctx ends, then drains: it claims no more, lets
// running jobs go on for WorkerOptions.Drain, ends the others' contexts and
// gives those jobs back, all within a second more. It returns nil then, an
// error for nonsensical options, or ErrClosed when the store is gone.
func (w *Worker) Run(ctx context.Context) error {
	opts, err := w.opts.withDefaults()
	if err = errors.Join(w.err, err); err != nil {
		return err
	}
	if len(w.handlers) == 0 {
		return errors.New("no job type has a handler")
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	pools, queues := poolsOf(opts)
	slots := freeIn(pools)
	who := Info{
		Host: host, PID: os.Getpid(), Concurrency: slots,
		Types: w.Types(), Queues: queues, Listen: opts.Listen, Policies: make(map[string]Policy),
	}
	for jobType, h := range w.handlers {
		who.Policies[jobType] = h.defaults
	}
	if opts.Guard != nil {
		who.Guard = opts.Guard.Start
	}
	seat, err := w.store.Join(ctx, who)
	if err != nil && ctx.Err() != nil {
		return nil // it was told to stop while it waited: there is nothing to drain
	}
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	r := newRun(w, seat, opts)
	if opts.Joined != nil {
		opts.Joined()
	}
	r.log.Info("worker started", zap.Int("slots", slots), zap.Strings("types", w.Types()), zap.Strings("queues", queues))
	err = r.run(ctx, pools)

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if e := seat.Leave(last); e != nil && err == nil {
		r.log.Warn("leave: the others will notice", zap.Error(e))
	}
	r.log.Info("worker stopped", zap.Error(err))
	return err
}

// Answer returns nil once the loop that claims jobs and hands in outcomes has
// come round, or the context's error: the loop does not run, or it waits for the
// store. It is for a watchdog, while Run runs.
func (w *Worker) Answer(ctx context.Context) error {
	select {
	case w.asked <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lastWords is what a stopping worker takes, after its handlers were told to
// end, to hand in their outcomes; and then again to give up its seat.
const lastWords = 500 * time.Millisecond
