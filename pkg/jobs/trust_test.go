package jobs_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
	"github.com/shoal-project/shoal/pkg/store"
)

// block takes the file's write lock, as another program that stands still does,
// until free is called.
func (q *queue) block() (free func()) {
	q.Helper()
	ctx := context.WithoutCancel(q.Context())
	conn, err := q.other.Conn(ctx)
	if err == nil {
		_, err = conn.ExecContext(ctx, `BEGIN IMMEDIATE`)
	}
	if err != nil {
		q.Fatal(err)
	}
	free = sync.OnceFunc(func() {
		if _, err := conn.ExecContext(ctx, `ROLLBACK`); err != nil {
			q.Error(err)
		}
		conn.Close()
	})
	q.Cleanup(free)
	return free
}

// TestStallIsNoFault proves that a worker which can't renew its leases, because
// another program sits on the write lock for longer, interrupts its handlers
// before the leases end, and that this costs no attempt and no delay: jobs with
// one attempt run again. Nobody takes them meanwhile, and only an error that is
// Permanent fails.
func TestStallIsNoFault(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{Lease: time.Second, MaxAttempts: 1, RetryDelay: time.Hour})
	started, cause := make(chan string), make(chan error, 1)
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		if j.Token > 1 {
			if j.Attempt != 1 || ctx.Err() != nil {
				t.Errorf("%s: attempt %d begins, %v", j.Payload, j.Attempt, context.Cause(ctx))
			}
			return nil
		}
		started <- j.Payload
		<-ctx.Done()
		cause <- context.Cause(ctx)
		if j.Payload == "permanent" {
			return jobs.Permanent(errBoom)
		}
		return errors.New("interrupted")
	})
	q.start(w)
	// Others who would take what nobody renews.
	for range 2 {
		idle := q.worker(q.open(store.Options{}), jobs.WorkerOptions{})
		jobs.Handle(idle, "Nothing", func(context.Context, *jobs.Job[string]) error { return nil })
		q.start(idle)
	}
	again, permanent := enqueue(q, "Send", "again"), enqueue(q, "Send", "permanent")
	for range 2 {
		expect(t, "the handler's start", started)
	}
	free := q.block()
	for range 2 {
		if cause := expect(t, "the interruption", cause); !errors.Is(cause, lease.ErrLost) {
			t.Errorf("cause: %v, want ErrLost", cause)
		}
	}
	<-time.After(time.Second) // the leases are long over
	free()
	row, history := q.ends(again, jobs.Completed)
	if row.Attempts != 1 || row.LeaseToken < 2 || len(history) != 0 { // 3: the turn that waited for the lock has claims too old to begin
		t.Errorf("interrupted: %+v, %v", row, history)
	}
	if row, history := q.ends(permanent, jobs.Failed); row.Error != "boom" || len(history) != 1 {
		t.Errorf("permanent: %+v, %v", row, history)
	}
}

// TestInterruptedAgain proves that a job whose lease ends again and again waits a second
// for each time before, and no longer than after a failure; and that no attempt is counted.
func TestInterruptedAgain(t *testing.T) {
	q := newQueue(t, store.Options{})
	for _, before := range []int{0, 20, 500} {
		q.exec(`UPDATE sync_jobs SET lease_token = ? WHERE id = ?`, before, enqueue(q, "Send", before))
	}
	w := q.worker(q, jobs.WorkerOptions{Lease: time.Second, RetryDelay: 100 * time.Second})
	started := make(chan struct{})
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[int]) error {
		if j.Token > int64(j.Payload)+1 {
			return nil
		}
		started <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	q.start(w)
	for range 3 {
		expect(t, "the handler's start", started)
	}
	free := q.block()
	<-time.After(time.Second) // the leases are over
	free()
	q.eventually("0|completed|1\n20|pending|0\n500|pending|0", `SELECT payload, status, attempts FROM sync_jobs ORDER BY id`)
	waits := q.value(`SELECT payload, run_at - started_at BETWEEN 20 AND 50, run_at - started_at BETWEEN 60 AND 200 FROM sync_jobs WHERE status = 'pending' ORDER BY id`)
	if waits != "20|1|0\n500|0|1" {
		t.Errorf("waits of some 20 s, and of some 100 s: %s\n%s", waits, q.value(`SELECT payload, run_at - started_at FROM sync_jobs`))
	}
}

// TestDrainBlocked proves that a worker which is told to stop while another
// program sits on the write lock ends in time all the same, and says what it
// could not hand in; and that the job runs again.
func TestDrainBlocked(t *testing.T) {
	q := newQueue(t, store.Options{})
	core, logs := observer.New(zapcore.WarnLevel)
	w := q.worker(q.open(store.Options{}), jobs.WorkerOptions{Drain: 100 * time.Millisecond, Logger: zap.New(core)})
	started, goOn := make(chan struct{}), make(chan struct{})
	jobs.Handle(w, "Send", func(context.Context, *jobs.Job[invoice]) error {
		close(started)
		<-goOn
		return nil
	})
	stop := q.start(w)
	id := enqueue(q, "Send", invoice{})
	expect(t, "the handler's start", started)
	free := q.block()
	close(goOn)
	start := time.Now()
	stop()
	if took := time.Since(start); took > 10*time.Second { // 1.1 s, and a slow machine
		t.Errorf("stopping took %v", took)
	}
	if lines := logged(logs, "outcomes could not be handed in"); len(lines) != 1 || len(logged(logs, "left behind")) != 0 {
		t.Errorf("it said: %v", logs.All())
	}
	free()
	next := jobs.NewWorker(q, untilEmpty())
	jobs.Handle(next, "Send", func(context.Context, *jobs.Job[invoice]) error { return nil })
	q.runUntilEmpty(next)
	if row, _ := q.ends(id, jobs.Completed); row.LeaseToken != 2 {
		t.Errorf("in the end: %+v", row)
	}
}

// guard notes what it is told.
type guard struct {
	mu    sync.Mutex
	words []time.Time
	ended chan struct{} // told that it is over
}

func (g *guard) Start(*os.File) error { return nil }

func (g *guard) Trust(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.words = append(g.words, until)
	if len(g.words) > 1 && !until.After(time.Now()) {
		select {
		case g.ended <- struct{}{}:
		default:
		}
	}
}

func (g *guard) now() (until time.Time, said int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if said = len(g.words); said > 0 {
		until = g.words[said-1]
	}
	return until, said
}

// word is the nth that it is told, from 0, which must come.
func (g *guard) word(t *testing.T, n int) time.Time {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		g.mu.Lock()
		words := g.words
		g.mu.Unlock()
		if n < len(words) {
			return words[n]
		}
		if time.Now().After(deadline) {
			t.Fatal("it is told nothing more")
		}
	}
}

// TestGuardIsTold proves that a worker's guard knows at any time until when the
// leases can be trusted: never longer than any job is leased, as the file says;
// in the future, for an idle worker as well as for a busy one; but not when the
// file is blocked; and again after that.
func TestGuardIsTold(t *testing.T) {
	const ttl, most = time.Second, 900 * time.Millisecond
	q := newQueue(t, store.Options{})
	g := &guard{ended: make(chan struct{}, 1)}
	w := q.worker(q, jobs.WorkerOptions{Lease: ttl, Guard: g, Concurrency: 4})
	goOn := make(chan struct{})
	check := func(where string) {
		until, _ := g.now()
		if left := time.Until(until); left > most {
			t.Errorf("%s: trusted for %v, want %v at most", where, left, most)
		}
	}
	jobs.Handle(w, "Long", func(ctx context.Context, _ *jobs.Job[int]) error {
		if _, said := g.now(); said == 0 {
			t.Error("a job starts, and the guard was told nothing")
		}
		check("as a job starts")
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return ctx.Err()
	})
	jobs.Handle(w, "Short", func(context.Context, *jobs.Job[int]) error {
		check("as a job starts beside another")
		return nil
	})
	q.start(w)
	told := func(n int) { // so many words more, and the last is of the future
		t.Helper()
		_, before := g.now()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(patience); ; <-tick.C {
			check("later")
			if until, said := g.now(); said >= before+n && until.After(time.Now()) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("it is told nothing more")
			}
		}
	}
	told(4) // idle, for longer than a lease

	enqueue(q, "Long", 0)
	q.eventually("1", `SELECT count(*) FROM sync_jobs WHERE status = 'running'`)
	for i := range 50 { // turns at the time of renewals
		enqueue(q, "Short", i)
	}
	told(3)

	free := q.block()
	expect(t, "the word that ends what runs", g.ended)
	free()
	told(4)
	close(goOn)
	q.eventually("51", `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`)
}

// slow is a store whose seat holds back the answer of a claim, and the
// renewals that begin meanwhile, until the test lets them go.
type slow struct {
	store.Store
	claimed       chan time.Time // when it was asked for
	turn, renew   chan struct{}  // closed: go on
	renews, holds atomic.Bool
}

type slowSeat struct {
	jobs.Seat
	*slow
}

func (s *slow) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := s.Store.Join(ctx, who)
	return &slowSeat{seat, s}, err
}

func (s *slowSeat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	asked := time.Now()
	turn, err := s.Seat.Turn(ctx, ask)
	if s.holds.Load() && len(turn.Claimed) > 0 {
		s.claimed <- asked
		<-s.turn
	}
	return turn, err
}

func (s *slowSeat) Renew(ctx context.Context, ttl time.Duration, holding []jobs.Holding) ([]jobs.Ref, error) {
	lost, err := s.Seat.Renew(ctx, ttl, holding)
	if s.renews.Load() {
		s.claimed <- time.Now()
		<-s.renew
	}
	return lost, err
}

// TestGuardIsToldOfClaims proves that a guard trusts a claim no longer than it is
// leased, where its answer came late, and a renewal that had begun after the
// claim, and does not cover it, ends before or after that.
func TestGuardIsToldOfClaims(t *testing.T) {
	for name, renewalFirst := range map[string]bool{"before": true, "after": false} {
		t.Run(name, func(t *testing.T) {
			const ttl = 3 * time.Second
			q := newQueue(t, store.Options{})
			g := &guard{ended: make(chan struct{}, 1)}
			s := &slow{Store: q.Store, claimed: make(chan time.Time), turn: make(chan struct{}), renew: make(chan struct{})}
			w := q.worker(s, jobs.WorkerOptions{Lease: ttl, Guard: g})
			started, goOn := make(chan struct{}), make(chan struct{})
			jobs.Handle(w, "Send", func(context.Context, *jobs.Job[invoice]) error {
				started <- struct{}{}
				<-goOn
				return nil
			})
			q.start(w)
			enqueue(q, "Send", invoice{})
			expect(t, "the handler's start", started)

			s.holds.Store(true)
			enqueue(q, "Send", invoice{})
			asked := expect(t, "the claim", s.claimed)
			s.renews.Store(true)
			if renewal := expect(t, "a renewal", s.claimed); renewal.Before(asked) {
				t.Fatal("the renewal came first")
			}
			s.holds.Store(false)
			s.renews.Store(false)
			answer := func() {
				close(s.turn)
				expect(t, "the handler's start", started)
			}
			if !renewalFirst {
				answer()
			}
			_, n := g.now()
			close(s.renew)
			until := g.word(t, n)
			if renewalFirst {
				answer()
				until = g.word(t, n+1)
			}
			if over := until.Sub(asked.Add(ttl * 9 / 10)); over > 0 {
				t.Errorf("trusted for %v longer than the claim is", over)
			}
			close(goOn)
			q.eventually("2", `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`)
		})
	}
}

// TestStaleClaim proves that a claim whose answer came so late that its lease may
// end before the next renewal is given back, uncounted, and not begun.
func TestStaleClaim(t *testing.T) {
	const ttl = 3 * time.Second
	q := newQueue(t, store.Options{})
	s := &slow{Store: q.Store, claimed: make(chan time.Time), turn: make(chan struct{})}
	w := q.worker(s, jobs.WorkerOptions{Lease: ttl})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[invoice]) error {
		if j.Token != 2 || j.Attempt != 1 {
			t.Errorf("begun with token %d as attempt %d; want 2 and 1", j.Token, j.Attempt)
		}
		return nil
	})
	q.start(w)
	s.holds.Store(true)
	id := enqueue(q, "Send", invoice{})
	asked := expect(t, "the claim", s.claimed)
	s.holds.Store(false)
	<-time.After(time.Until(asked.Add(ttl * 2 / 3))) // it is as late as that
	close(s.turn)
	if row, history := q.ends(id, jobs.Completed); row.Attempts != 1 || row.LeaseToken != 2 || len(history) != 0 {
		t.Errorf("in the end: %+v, %v", row, history)
	}
}

// TestUncoveredClaimEnds proves that a handler's context ends when the lease of its
// claim can't be trusted any more, where the last renewal that succeeded had begun
// after the claim and does not cover it: before those that it does cover.
func TestUncoveredClaimEnds(t *testing.T) {
	const ttl = 3 * time.Second
	q := newQueue(t, store.Options{})
	s := &slow{Store: q.Store, claimed: make(chan time.Time), turn: make(chan struct{}), renew: make(chan struct{})}
	w := q.worker(s, jobs.WorkerOptions{Lease: ttl})
	type end struct {
		of string
		at time.Time
	}
	started, ended := make(chan struct{}), make(chan end, 2)
	jobs.Handle(w, "Send", func(ctx context.Context, j *jobs.Job[string]) error {
		if j.Token > 1 {
			return nil
		}
		started <- struct{}{}
		<-ctx.Done()
		if cause := context.Cause(ctx); !errors.Is(cause, lease.ErrLost) {
			t.Errorf("%s: %v, want ErrLost", j.Payload, cause)
		}
		ended <- end{j.Payload, time.Now()}
		return ctx.Err()
	})
	q.start(w)
	enqueue(q, "Send", "covered")
	expect(t, "the handler's start", started)

	s.renews.Store(true)
	expect(t, "a renewal", s.claimed)
	s.renew <- struct{}{} // the next is a while away
	s.renews.Store(false)
	s.holds.Store(true)
	enqueue(q, "Send", "uncovered")
	asked := expect(t, "the claim", s.claimed)
	s.renews.Store(true)
	renewal := expect(t, "a renewal", s.claimed)
	if renewal.Before(asked) {
		t.Fatal("the renewal came first")
	}
	s.holds.Store(false)
	s.renews.Store(false)
	close(s.turn)
	expect(t, "the handler's start", started)
	free := q.block() // no renewal succeeds after this one
	s.renew <- struct{}{}
	first, second := expect(t, "an interruption", ended), expect(t, "the other", ended)
	if first.of != "uncovered" {
		t.Errorf("%s was interrupted first", first.of)
	}
	if apart, want := second.at.Sub(first.at), renewal.Sub(asked); apart < want/4 {
		t.Errorf("they were interrupted %v apart, want some %v, as the renewal came so much later than the claim", apart, want)
	}
	free()
	q.eventually("2", `SELECT count(*) FROM sync_jobs WHERE status = 'completed' AND attempts = 1`)
}
