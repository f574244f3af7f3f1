// Package storetest is the behaviour that every engine has: one suite, run
// against real stores. After each test it checks the invariants that hold for
// any queue, whatever was done to it.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Store is what an engine opens.
type Store interface {
	jobs.Store
	jobs.Operator
	jobs.Tables
}

// An Opener opens the same empty queue each time it is called, as another
// process would.
type Opener func() Store

// Run runs the suite; fresh makes the opener of a new queue for each test.
func Run(t *testing.T, fresh func(t *testing.T) Opener) {
	for name, test := range map[string]func(*testing.T, *fixture){
		"Enqueue":           testEnqueue,
		"EnqueueRefuses":    testEnqueueRefuses,
		"Unique":            testUnique,
		"UniqueSpans":       testUniqueSpans,
		"UniqueRace":        testUniqueRace,
		"Order":             testOrder,
		"Claims":            testClaims,
		"Delay":             testDelay,
		"Limits":            testLimits,
		"Outcomes":          testOutcomes,
		"GivenBack":         testGivenBack,
		"AskedAgain":        testAskedAgain,
		"SomeRejected":      testSomeRejected,
		"LongHistory":       testLongHistory,
		"Fence":             testFence,
		"Finish":            testFinish,
		"FinishLost":        testFinishLost,
		"Renew":             testRenew,
		"Lost":              testLost,
		"ReapDead":          testReapDead,
		"ReapStuck":         testReapStuck,
		"ReapUsedUp":        testReapUsedUp,
		"GivenBackFirst":    testGivenBackFirst,
		"Leave":             testLeave,
		"Leadership":        testLeadership,
		"Tick":              testTick,
		"TickPaused":        testTickPaused,
		"Schedules":         testSchedules,
		"Changes":           testChanges,
		"Left":              testLeft,
		"Write":             testWrite,
		"Inspect":           testInspect,
		"Change":            testChange,
		"ChangeFilter":      testChangeFilter,
		"ChangeRefuses":     testChangeRefuses,
		"ChangeGoesOn":      testChangeGoesOn,
		"CancelRunning":     testCancelRunning,
		"RetryRuns":         testRetryRuns,
		"ConcurrentTurns":   testConcurrentTurns,
		"Meta":              testMeta,
		"PolicySays":        testPolicySays,
		"PolicyOfHandlers":  testPolicyOfHandlers,
		"PolicyRefuses":     testPolicyRefuses,
		"Pause":             testPause,
		"MaxRunning":        testMaxRunning,
		"MaxRunningRace":    testMaxRunningRace,
		"MaxStarts":         testMaxStarts,
		"NoneAhead":         testNoneAhead,
		"ManyLimits":        testManyLimits,
		"MaxStartsMany":     testMaxStartsMany,
		"AbandonedEnqueues": testAbandonedEnqueues,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fixture{T: t, open: fresh(t), ctx: t.Context()}
			f.store = f.another()
			t.Cleanup(func() { f.checkInvariants() })
			test(t, f)
		})
	}
}

// fixture is a queue under test.
type fixture struct {
	*testing.T
	ctx   context.Context
	open  Opener
	store Store
}

// must ends the test with an error.
func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// another opens the queue once more, until the test ends.
func (f *fixture) another() Store {
	f.Helper()
	s := f.open()
	f.Cleanup(func() { _ = s.Close() }) // some tests close it themselves
	return s
}

func (f *fixture) join(s Store) jobs.Seat {
	f.Helper()
	seat, err := s.Join(f.ctx, jobs.Info{Host: "test", PID: 1, Concurrency: 8, Types: []string{"A", "B"}, Queues: []string{"default", "mail"}})
	f.must(err)
	return seat
}

func (f *fixture) enqueue(batch ...jobs.New) []jobs.Added {
	f.Helper()
	for i := range batch {
		if batch[i].Type == "" {
			batch[i].Type = "A"
		}
		if batch[i].Payload == nil {
			batch[i].Payload = []byte(`{}`)
		}
	}
	added, err := f.store.Enqueue(f.ctx, batch...)
	f.must(err)
	return added
}

// want asks for n jobs of types A and B from the queue default.
func want(n int) jobs.Want {
	return jobs.Want{
		Types: []string{"A", "B"}, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: n}},
		TTL: time.Minute, Limit: jobs.Limits{MaxAttempts: 3},
	}
}

// Ask makes a jobs.Ask that says the same each time.
func Ask(outcomes []jobs.Outcome, want jobs.Want) jobs.Ask {
	return func() ([]jobs.Outcome, jobs.Want) { return outcomes, want }
}

func (f *fixture) turn(seat jobs.Seat, w jobs.Want, outcomes ...jobs.Outcome) jobs.Turn {
	f.Helper()
	turn, err := seat.Turn(f.ctx, Ask(outcomes, w))
	f.must(err)
	return turn
}

func (f *fixture) claimOne(seat jobs.Seat) jobs.Claimed {
	f.Helper()
	turn := f.turn(seat, want(1))
	if len(turn.Claimed) != 1 {
		f.Fatalf("claimed %d jobs, want 1", len(turn.Claimed))
	}
	return turn.Claimed[0]
}

func (f *fixture) job(id int64) (jobs.Row, []jobs.Attempt) {
	f.Helper()
	row, history, err := f.store.Job(f.ctx, id)
	f.must(err)
	return row, history
}

// expect compares a job's status and attempts.
func (f *fixture) expect(id int64, status jobs.Status, attempts int) jobs.Row {
	f.Helper()
	row, _ := f.job(id)
	if row.Status != status || row.Attempts != attempts {
		f.Errorf("job %d is %s after %d attempts, want %s after %d", id, row.Status, row.Attempts, status, attempts)
	}
	return row
}

// eventually waits until ok is true, 20 s at most.
func (f *fixture) eventually(what string, ok func() bool) {
	f.Helper()
	tick := time.NewTicker(5 * time.Millisecond) // nothing tells of it: look at the file
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			f.Fatalf("never came: %s", what)
		}
	}
}

// checkInvariants are the sentences that are true of every queue at all times,
// as SQL for what must not be found.
func (f *fixture) checkInvariants() {
	s := f.open()
	defer s.Close()
	for what, query := range map[string]string{
		"a running job has an owner, a lease and limits": `SELECT id FROM sync_jobs WHERE status = 'running'
			AND (lease_owner IS NULL OR lease_expires_at IS NULL OR max_attempts IS NULL OR started_at IS NULL)`,
		"only a running job has a lease": `SELECT id FROM sync_jobs WHERE status <> 'running' AND lease_expires_at IS NOT NULL`,
		"what has ended says when, what has not does not": `SELECT id FROM sync_jobs
			WHERE (status IN ('completed', 'failed', 'cancelled')) <> (completed_at IS NOT NULL)`,
		"a completed job has no error":                     `SELECT id FROM sync_jobs WHERE status = 'completed' AND error IS NOT NULL`,
		"attempts stay within their limit and their token": `SELECT id FROM sync_jobs WHERE attempts > max_attempts OR lease_token < attempts`,
		"what has ended holds no key, unless forever":      `SELECT id FROM sync_jobs WHERE unique_key IS NOT NULL AND unique_for <> 'forever' AND completed_at IS NOT NULL`,
		"history is of a job's own attempts": `SELECT e.job_id FROM sync_job_errors e LEFT JOIN sync_jobs j ON j.id = e.job_id
			WHERE j.id IS NULL OR e.lease_token > j.lease_token OR e.ended_at < e.started_at`,
	} {
		if found := texts(f.T, s.Read(), query); len(found) > 0 {
			f.Errorf("not so: %s: jobs %v", what, found)
		}
	}
	said, err := s.Stats(context.Background())
	got := []string{fmt.Sprintf("%d|%d|%d|%d|%d", said.Pending, said.Running, said.Completed, said.Failed, said.Cancelled)}
	for _, of := range said.Types {
		got = append(got, fmt.Sprintf("%s|%s|%d|%d", of.Type, of.Queue, of.Pending, of.Running))
	}
	there := append(texts(f.T, s.Read(), `SELECT count(*) FILTER (WHERE status = 'pending') || '|' || count(*) FILTER (WHERE status = 'running')
			|| '|' || count(*) FILTER (WHERE status = 'completed') || '|' || count(*) FILTER (WHERE status = 'failed')
			|| '|' || count(*) FILTER (WHERE status = 'cancelled') FROM sync_jobs`),
		texts(f.T, s.Read(), `SELECT job_type || '|' || queue || '|' || count(*) FILTER (WHERE status = 'pending') || '|' || count(*) FILTER (WHERE status = 'running')
			FROM sync_jobs WHERE status IN ('pending', 'running') GROUP BY job_type, queue ORDER BY job_type, queue`)...)
	if err != nil || !slices.Equal(got, there) {
		f.Errorf("counted %v, %v; there are %v", got, err, there)
	}
}
