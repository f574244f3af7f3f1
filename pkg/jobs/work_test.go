package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

func TestRunRefuses(t *testing.T) {
	q := newQueue(t, store.Options{})
	some := func(context.Context) ([]jobs.New, error) { return nil, nil }
	for says, o := range map[string]jobs.WorkerOptions{
		"concurrency is -1":      {Concurrency: -1},
		"lease is 999ms":         {Lease: 999 * time.Millisecond},
		"lease is -1s":           {Lease: -time.Second},
		"poll is -1s":            {Poll: -time.Second},
		"max attempts is -2":     {MaxAttempts: -2},
		"retry delay is -1s":     {RetryDelay: -time.Second},
		"timeout is -1s":         {Timeout: -time.Second},
		`queue name ""`:          {Queues: []jobs.Queue{{}}},
		"mail has -1 slots":      {Queues: []jobs.Queue{{Name: "mail", Slots: -1}}},
		"mail is named twice":    {Queues: []jobs.Queue{{Name: "mail"}, {Name: "mail", Slots: 1}}},
		"1 of 1 is nil":          {Middleware: []func(jobs.Handler) jobs.Handler{nil}},
		`schedule name ""`:       {Schedules: []jobs.Schedule{{Spec: "@daily", Jobs: some}}},
		`schedule ping: spec ""`: {Schedules: []jobs.Schedule{{Name: "ping", Jobs: some}}},
		`schedule "pong": Jobs`:  {Schedules: []jobs.Schedule{{Name: "pong", Spec: "@daily"}}},
		`-1s is too short`:       {Schedules: []jobs.Schedule{{Name: "early", Spec: "@every -1s", Jobs: some}}},
		`missed "perhaps"`:       {Schedules: []jobs.Schedule{{Name: "lazy", Spec: "@daily", Missed: "perhaps", Jobs: some}}},
		`zone "Atlantis" is`:     {Schedules: []jobs.Schedule{{Name: "deep", Spec: "@daily", Zone: "Atlantis", Jobs: some}}},
	} {
		w := jobs.NewWorker(q, o)
		jobs.Handle(w, "Send", func(context.Context, *jobs.Job[invoice]) error { return nil })
		err := w.Run(t.Context())
		if err == nil {
			t.Errorf("not refused: %s", says)
		}
		contains(t, err, says)
	}

	none := jobs.NewWorker(q, jobs.WorkerOptions{})
	contains(t, none.Run(t.Context()), "no job type has a handler")

	twice := jobs.NewWorker(q, jobs.WorkerOptions{Concurrency: -1})
	for range 2 {
		jobs.Handle(twice, "Send", func(context.Context, *jobs.Job[invoice]) error { return nil })
	}
	contains(t, twice.Run(t.Context()), `job type "Send" has two handlers`, "concurrency is -1")

	nameless := jobs.NewWorker(q, jobs.WorkerOptions{})
	jobs.Handle(nameless, "", func(context.Context, *jobs.Job[invoice]) error { return nil })
	contains(t, nameless.Run(t.Context()), "job type is empty")

	// None of them took a seat.
	if got := q.value(`SELECT count(*) FROM sqlite_sequence WHERE name = 'sync_workers'`); got != "0" {
		t.Error("a worker that was refused has joined")
	}
}

// TestOrder proves the order of claims: higher priority, then earlier due time,
// then lower id, as it is at each claim.
func TestOrder(t *testing.T) {
	q := newQueue(t, store.Options{})
	ago := func(d time.Duration) jobs.Option { return jobs.At(time.Now().Add(-d)) }
	for name, opts := range map[string][]jobs.Option{
		"7 last":          {jobs.Priority(-5), ago(9 * time.Hour)},
		"2 urgent":        {jobs.Priority(5), ago(time.Hour)},
		"1 urgent, older": {jobs.Priority(5), ago(2 * time.Hour)},
		"4 older":         {ago(time.Hour)},
	} {
		enqueue(q, "Send", name, opts...)
	}
	for _, name := range []string{"5 by id", "6 by id"} {
		enqueue(q, "Send", name)
	}
	// Same time, so that only the id tells.
	q.exec(`UPDATE sync_jobs SET run_at = (SELECT max(run_at) FROM sync_jobs) WHERE payload LIKE '%by id%'`)
	o := untilEmpty()
	o.Concurrency = 1
	w := jobs.NewWorker(q, o)
	var order []string
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		order = append(order, j.Payload)
		if j.Payload == "2 urgent" { // enters in the middle
			_, err := jobs.Enqueue(ctx, q, "Send", "3 after all", jobs.Priority(1))
			return err
		}
		return nil
	})
	q.runUntilEmpty(w)
	if len(order) != 7 || !slices.IsSorted(order) {
		t.Errorf("order: %q", order)
	}
}

// TestConcurrency proves that so many handlers run at once as there are slots,
// and never more.
func TestConcurrency(t *testing.T) {
	q := newQueue(t, store.Options{})
	const slots = 4
	if _, err := jobs.EnqueueMany(t.Context(), q, "Send", make([]int, 50*slots)); err != nil {
		t.Fatal(err)
	}
	o := untilEmpty()
	o.Concurrency = slots
	w := jobs.NewWorker(q, o)
	var now, most, runs atomic.Int64
	var all sync.WaitGroup // of the first ones
	all.Add(slots)
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[int]) error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if runs.Add(1) <= slots {
			all.Done()
			all.Wait()
		}
		return nil
	})
	q.runUntilEmpty(w)
	if most.Load() != slots || runs.Load() != 50*slots {
		t.Errorf("%d at once in %d runs, want %d in %d", most.Load(), runs.Load(), slots, 50*slots)
	}
}

// TestQueues proves that a queue with slots of its own takes no others, and
// that while it is full the other queues go on; and that a queue that a worker
// does not name is let alone.
func TestQueues(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{
		Concurrency: 2, Poll: time.Hour,
		Queues: []jobs.Queue{{Name: "slow", Slots: 1}, {Name: "default"}, {Name: "mail"}},
	})
	var slow, shared, mostSlow, mostShared atomic.Int64
	in := func(n, most *atomic.Int64) (out func()) {
		if now := n.Add(1); now > most.Load() {
			most.Store(now) // a race may make it too small, never too large
		}
		return func() { n.Add(-1) }
	}
	started, goOn := make(chan int64, 10), make(chan struct{})
	jobs.Handle(w, "Slow", func(_ context.Context, j *jobs.Job[int]) error {
		defer in(&slow, &mostSlow)()
		started <- j.ID
		<-goOn
		return nil
	})
	jobs.Handle(w, "Quick", func(context.Context, *jobs.Job[int]) error {
		defer in(&shared, &mostShared)()
		return nil
	})
	enqueue(q, "Quick", 0, jobs.OnQueue("elsewhere"), jobs.Priority(9))
	for range 3 {
		enqueue(q, "Slow", 0, jobs.OnQueue("slow"), jobs.Priority(5))
	}
	q.start(w)
	first := expect(t, "a slow job", started)
	for range 20 {
		enqueue(q, "Quick", 0)
		enqueue(q, "Quick", 0, jobs.OnQueue("mail"))
	}
	const completed = `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`
	q.eventually("40", completed)
	if got := q.value(`SELECT id, (SELECT count(*) FROM sync_jobs WHERE job_type = 'Slow' AND status = 'pending') FROM sync_jobs WHERE status = 'running'`); got != fmt.Sprintf("%d|2", first) {
		t.Errorf("running, and slow ones waiting: %s", got)
	}
	close(goOn)
	q.eventually("43", completed)
	if mostSlow.Load() != 1 || mostShared.Load() > 2 {
		t.Errorf("at once: %d slow, %d of the others; want 1 and at most 2", mostSlow.Load(), mostShared.Load())
	}
	if got := q.value(`SELECT queue, status, lease_token FROM sync_jobs WHERE status <> 'completed'`); got != "elsewhere|pending|0" {
		t.Errorf("left: %s", got)
	}
}

// TestUntilEmpty proves that the worker waits for jobs that are delayed, are to
// be retried, snooze, come in as follow-ups, and run elsewhere, and leaves what
// it has no handler for; nothing but the file tells it.
func TestUntilEmpty(t *testing.T) {
	q := newQueue(t, store.Options{})
	elsewhere := q.worker(q.open(store.Options{}), jobs.WorkerOptions{Concurrency: 1, Poll: time.Hour})
	started, goOn := make(chan struct{}), make(chan struct{})
	jobs.Handle(elsewhere, "Send", func(context.Context, *jobs.Job[string]) error {
		close(started)
		<-goOn
		return nil
	})
	enqueue(q, "Send", "elsewhere")
	q.start(elsewhere)
	expect(t, "the job elsewhere", started)

	enqueue(q, "Send", "at once")
	enqueue(q, "Send", "delayed", jobs.Delay(200*time.Millisecond))
	enqueue(q, "Send", "at", jobs.At(time.Now().Add(100*time.Millisecond)))
	enqueue(q, "Send", "retried")
	enqueue(q, "Send", "follows up", jobs.Delay(50*time.Millisecond))
	foreign := enqueue(q, "Mystery", "nobody's")
	o := untilEmpty()
	o.RetryDelay = 50 * time.Millisecond
	w := jobs.NewWorker(q, o)
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		switch {
		case j.Payload == "retried" && j.Attempt == 1:
			return errBoom
		case j.Payload == "retried" && j.Token == 2:
			return jobs.Snooze(50 * time.Millisecond)
		case j.Payload == "follows up":
			return j.Commit(ctx, nil, newJob(t, "Send", "the follow-up", jobs.Delay(50*time.Millisecond)))
		}
		return nil
	})
	done := make(chan error, 1)
	go func() { done <- w.Run(t.Context()) }()
	q.eventually("6", `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`)
	select {
	case err := <-done:
		t.Errorf("it did not wait for the job elsewhere: %v", err)
	default:
	}
	close(goOn)
	if err := expect(t, "Run's return", done); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := q.value(`SELECT status, count(*) FROM sync_jobs GROUP BY status ORDER BY status`); got != "completed|7\npending|1" {
		t.Errorf("in the end: %s", got)
	}
	if row, _ := q.ends(foreign, jobs.Pending); row.LeaseToken != 0 {
		t.Errorf("a job of an unknown type was claimed: %+v", row)
	}
}

// TestUntilEmptyNothing proves that an empty queue is seen at once.
func TestUntilEmptyNothing(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := jobs.NewWorker(q, untilEmpty())
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[string]) error { return nil })
	q.runUntilEmpty(w)
}

// TestWakes proves that with no poll to speak of an idle worker starts a plain
// INSERT of another program, an enqueue of another process, one of its own
// process, and a delayed job at its time.
func TestWakes(t *testing.T) {
	q := newQueue(t, store.Options{})
	elsewhere := q.open(store.Options{})
	w := q.worker(q, jobs.WorkerOptions{Poll: time.Hour})
	started := make(chan string)
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error {
		started <- j.Payload
		return nil
	})
	q.start(w)
	const idle = `SELECT count(*) FROM sync_jobs WHERE status <> 'completed'`
	for round := range 5 {
		for how, add := range map[string]func(how string) error{
			"insert": func(how string) error {
				q.exec(`INSERT INTO sync_jobs (job_type, payload) VALUES ('Send', json_quote(?))`, how)
				return nil
			},
			"elsewhere": func(how string) error {
				_, err := jobs.Enqueue(t.Context(), elsewhere, "Send", how)
				return err
			},
			"here": func(how string) error {
				_, err := jobs.Enqueue(t.Context(), q, "Send", how)
				return err
			},
			"delayed": func(how string) error {
				_, err := jobs.Enqueue(t.Context(), elsewhere, "Send", how, jobs.Delay(100*time.Millisecond))
				return err
			},
			"insert, delayed": func(how string) error {
				q.exec(`INSERT INTO sync_jobs (job_type, payload, run_at) VALUES ('Send', json_quote(?),
					(julianday('now') - 2440587.5) * 86400.0 + 0.1)`, how)
				return nil
			},
		} {
			if err := add(how); err != nil {
				t.Fatal(err)
			}
			if got := expect(t, fmt.Sprintf("round %d: %s", round, how), started); got != how {
				t.Errorf("started %q, want %q", got, how)
			}
			q.eventually("0", idle)
		}
	}
	if early := q.value(`SELECT count(*) FROM sync_jobs WHERE started_at < run_at`); early != "0" {
		t.Errorf("%s started before their time", early)
	}
	waits := q.value(`SELECT printf('%.1f', 1000 * max(started_at - run_at)) FROM sync_jobs`)
	t.Logf("longest wait: %s ms", waits)
	// Generous: the race detector's other tests share two cores.
	if late := q.value(`SELECT count(*) FROM sync_jobs WHERE started_at - run_at > 2`); late != "0" {
		t.Errorf("%s started more than 2 s late", late)
	}
}

// TestLimits proves that what a job does not name comes from its worker, and
// stays with it from its first claim on.
func TestLimits(t *testing.T) {
	q := newQueue(t, store.Options{})
	id := enqueue(q, "Send", invoice{})
	named := enqueue(q, "Send", invoice{}, jobs.MaxAttempts(4), jobs.Timeout(time.Minute))
	for i, o := range []jobs.WorkerOptions{{MaxAttempts: 2, Timeout: 90 * time.Second}, {MaxAttempts: 9, Timeout: time.Hour}} {
		w := q.worker(q, o)
		jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[invoice]) error {
			deadline, _ := ctx.Deadline()
			want, most := 90*time.Second, 2
			if j.ID == named {
				want, most = time.Minute, 4
			}
			if left := time.Until(deadline); left > want || left < want-patience || j.MaxAttempts != most {
				t.Errorf("job %d has %v and %d attempts, want %v and %d", j.ID, left, j.MaxAttempts, want, most)
			}
			return jobs.RetryAfter(errors.New("again"), time.Hour)
		})
		stop := q.start(w)
		q.eventually("2", `SELECT count(*) FROM sync_jobs WHERE status <> 'running' AND attempts = ?`, i+1)
		stop()
		q.exec(`UPDATE sync_jobs SET run_at = unixepoch() WHERE status = 'pending'`)
	}
	q.ends(id, jobs.Failed)
	q.ends(named, jobs.Pending)
}
