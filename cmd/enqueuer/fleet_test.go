package main

import (
	"context"
	"errors"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// The scripts' fleet: what the commands look at, without a worker process.

// check ends the script on an error.
func check(ts *testscript.TestScript, err error) {
	if err != nil {
		ts.Fatalf("%v", err)
	}
}

// work DB runs a worker until nothing is left of the types Works, Fails and Panics.
func work(ts *testscript.TestScript, _ bool, args []string) {
	q, err := store.Open(context.Background(), ts.MkAbs(args[0]))
	check(ts, err)
	w := jobs.NewWorker(q, jobs.WorkerOptions{Concurrency: 1, RetryDelay: time.Millisecond, UntilEmpty: true})
	jobs.Handle(w, "Works", func(_ context.Context, j *jobs.Job[any]) error { return j.SetResult(j.Payload) })
	jobs.Handle(w, "Fails", func(context.Context, *jobs.Job[any]) error { return errors.New("no paper\nin the printer") })
	jobs.Handle(w, "Panics", func(context.Context, *jobs.Job[any]) error { panic("out of ink") })
	check(ts, errors.Join(w.Run(context.Background()), q.Close()))
}

// seat takes a worker's seat for the types.
func seat(ts *testscript.TestScript, args []string) (jobs.Store, jobs.Seat) {
	q, err := store.Open(context.Background(), ts.MkAbs(args[0]))
	check(ts, err)
	s, err := q.Join(context.Background(), jobs.Info{
		Host: "box", PID: 4711, Concurrency: 4, Types: args[1:], Queues: []string{jobs.DefaultQueue}, Listen: "127.0.0.1:8443",
	})
	check(ts, err)
	return q, s
}

// claim has the worker begin one job.
func claim(ts *testscript.TestScript, s jobs.Seat, types []string) {
	_, err := s.Turn(context.Background(), storetest.Ask(nil, jobs.Want{
		Types: types, Pools: []jobs.Pool{{Queues: []string{jobs.DefaultQueue}, Free: 1}},
		TTL: time.Minute, Limit: jobs.Limits{MaxAttempts: 3},
	}))
	check(ts, err)
}

// join DB TYPE… is a worker, the leader, that lives until the script ends. It
// begins one job.
func join(ts *testscript.TestScript, _ bool, args []string) {
	q, s := seat(ts, args)
	ts.Defer(func() { check(ts, errors.Join(s.Leave(context.Background()), q.Close())) })
	_, err := s.Acquire(context.Background(), "leader", time.Minute)
	check(ts, err)
	claim(ts, s, args[1:])
}

// die DB TYPE… is a worker that begins one job and dies, and another that sees it.
func die(ts *testscript.TestScript, _ bool, args []string) {
	q, s := seat(ts, args)
	claim(ts, s, args[1:])
	check(ts, q.Close()) // its seat falls free as if its process had ended
	q, s = seat(ts, args)
	_, _, err := s.Reap(context.Background())
	check(ts, errors.Join(err, s.Leave(context.Background()), q.Close()))
}
