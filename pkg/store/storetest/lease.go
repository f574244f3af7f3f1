package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

func testRenew(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.enqueue(jobs.New{}, jobs.New{})
	kept, ended := f.claimOne(seat), f.claimOne(seat)
	before := texts(t, f.store.Read(), `SELECT lease_expires_at FROM sync_jobs WHERE status = 'running' ORDER BY id`)
	f.turn(seat, want(0), jobs.Outcome{Ref: ended.Ref, Status: jobs.Completed})
	lost, err := seat.Renew(f.ctx, time.Hour, []jobs.Holding{
		{Ref: kept.Ref, Progress: &jobs.Progress{Done: 3, Total: 9, Note: "rows"}}, {Ref: ended.Ref, Progress: &jobs.Progress{Done: 1}}})
	if err != nil || !slices.Equal(lost, []jobs.Ref{ended.Ref}) {
		t.Errorf("lost %v, %v; want the one that has ended", lost, err)
	}
	is(t, f.store.Read(), `SELECT lease_expires_at > `+before[0]+` FROM sync_jobs WHERE status = 'running'`, "1")
	if row, _ := f.job(kept.ID); row.Progress == nil || *row.Progress != (jobs.Progress{Done: 3, Total: 9, Note: "rows"}) {
		t.Errorf("progress %+v", row.Progress)
	}
	if row, _ := f.job(ended.ID); row.Progress != nil {
		t.Errorf("progress %+v of a job that has ended", row.Progress)
	}
}

func testLost(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.enqueue(jobs.New{}, jobs.New{})
	a, b := f.claimOne(seat), f.claimOne(seat)
	f.write(`UPDATE sync_jobs SET status = 'cancelled', completed_at = started_at + 1, lease_expires_at = NULL WHERE id = ` + idText(a.ID))
	lost, err := seat.Lost(f.ctx, []jobs.Holding{{Ref: a.Ref}, {Ref: b.Ref}})
	if err != nil || !slices.Equal(lost, []jobs.Ref{a.Ref}) {
		t.Errorf("lost %v, %v; want the cancelled one", lost, err)
	}
}

// reapUntil reaps until something was, and returns it.
func (f *fixture) reapUntil(seat jobs.Seat) (reaped []jobs.Reaped) {
	f.Helper()
	f.eventually("something to reap", func() bool {
		var err error
		if reaped, _, err = seat.Reap(f.ctx); err != nil {
			f.Fatal(err)
		}
		return len(reaped) > 0
	})
	return reaped
}

// testReapDead: when a worker's process is gone its jobs go back at once, long
// before their lease ends, and nobody else's do.
func testReapDead(t *testing.T, f *fixture) {
	doomed := f.another()
	dead, seat, other := f.join(doomed), f.join(f.store), f.join(f.another())
	f.enqueue(jobs.New{}, jobs.New{})
	for range 2 { // the second look is the one that may know from the first
		if reaped, calm, err := seat.Reap(f.ctx); err != nil || len(reaped) != 0 || !calm {
			t.Fatalf("reaped %+v, calm %v, %v before anything runs", reaped, calm, err)
		}
	}
	lost, kept := f.claimOne(dead), f.claimOne(other)
	if reaped, calm, err := seat.Reap(f.ctx); err != nil || len(reaped) != 0 || calm {
		t.Fatalf("reaped %+v, calm %v, %v while all live and jobs run", reaped, calm, err)
	}
	f.must(doomed.Close()) // as a process's end does it: nothing is said
	reaped := f.reapUntil(seat)
	if len(reaped) != 1 || reaped[0].Ref != lost.Ref || reaped[0].Worker != dead.ID() || reaped[0].Failed ||
		!strings.Contains(reaped[0].Reason, "died (attempt 1 of 3)") {
		t.Errorf("reaped %+v", reaped)
	}
	f.expect(kept.ID, jobs.Running, 1)
	again := f.claimOne(seat)
	if again.ID != lost.ID || again.Attempt != 2 || again.Token <= lost.Token {
		t.Errorf("claimed %+v", again)
	}
	if _, history := f.job(lost.ID); len(history) != 1 || history[0].Worker != dead.ID() || history[0].Error != reaped[0].Reason {
		t.Errorf("history %+v", history)
	}
	workers, err := f.store.Workers(f.ctx)
	if err != nil || len(workers) != 2 {
		t.Errorf("%d workers, want 2 (%v)", len(workers), err)
	}
}

// testReapStuck: a worker that lives and does not renew keeps its jobs until
// their lease has ended, and no longer; its late word is refused.
func testReapStuck(t *testing.T, f *fixture) {
	stuck, seat := f.join(f.another()), f.join(f.store)
	f.enqueue(jobs.New{})
	w := want(1)
	w.TTL = 300 * time.Millisecond
	start := time.Now()
	held := f.turn(stuck, w).Claimed[0]
	reaped := f.reapUntil(seat)
	if took := time.Since(start); took < w.TTL || reaped[0].Ref != held.Ref || !strings.Contains(reaped[0].Reason, "did not renew") {
		t.Errorf("reaped %+v after %v", reaped, took)
	}
	if turn := f.turn(stuck, want(0), jobs.Outcome{Ref: held.Ref, Status: jobs.Completed}); len(turn.Rejected) != 1 {
		t.Error("the late outcome was accepted")
	}
	f.expect(held.ID, jobs.Pending, 1)
	if _, history := f.job(held.ID); len(history) != 1 || history[0].Rejected != jobs.Completed {
		t.Errorf("history %+v", history)
	}
}

func testReapUsedUp(t *testing.T, f *fixture) {
	id := f.enqueue(jobs.New{MaxAttempts: 2, Unique: jobs.Unique{Key: "k"}})[0].ID
	seat := f.join(f.store)
	for attempt := 1; attempt <= 2; attempt++ {
		doomed := f.another()
		f.claimOne(f.join(doomed))
		f.must(doomed.Close())
		reaped := f.reapUntil(seat)
		if reaped[0].Failed != (attempt == 2) {
			t.Errorf("attempt %d: %+v", attempt, reaped)
		}
	}
	row := f.expect(id, jobs.Failed, 2)
	if !strings.Contains(row.Error, "died (attempt 2 of 2)") || row.UniqueKey != "" {
		t.Errorf("row %+v", row)
	}
}

// testGivenBackFirst: a job that is taken from a dead worker, a stuck one or one
// that leaves does not wait behind the backlog that it was ahead of.
func testGivenBackFirst(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.enqueue(make([]jobs.New, 20)...)
	for name, lose := range map[string]func(held func(jobs.Seat, time.Duration)){
		"died": func(held func(jobs.Seat, time.Duration)) {
			doomed := f.another()
			held(f.join(doomed), time.Hour)
			f.must(doomed.Close())
			f.reapUntil(seat)
		},
		"stuck": func(held func(jobs.Seat, time.Duration)) {
			held(f.join(f.another()), 50*time.Millisecond)
			f.reapUntil(seat)
		},
		"left": func(held func(jobs.Seat, time.Duration)) {
			leaving := f.join(f.another())
			held(leaving, time.Hour)
			f.must(leaving.Leave(f.ctx))
		},
	} {
		var first int64
		lose(func(s jobs.Seat, ttl time.Duration) {
			w := want(1)
			w.TTL = ttl
			first = f.turn(s, w).Claimed[0].ID
		})
		if next := f.claimOne(seat); next.ID != first {
			t.Errorf("%s: job %d is claimed before job %d, which was given back", name, next.ID, first)
		}
	}
}

func testLeave(t *testing.T, f *fixture) {
	leaving, seat := f.join(f.another()), f.join(f.store)
	f.enqueue(jobs.New{})
	f.claimOne(leaving)
	held := f.lead(leaving)
	f.must(leaving.Leave(f.ctx))
	if c := f.claimOne(seat); c.Attempt != 1 || c.Token != 2 {
		t.Errorf("attempt %d, token %d of what a leaving worker still held, want 1, not counted, and 2", c.Attempt, c.Token)
	}
	if next, err := seat.Acquire(f.ctx, "leader", time.Hour); err != nil || next.Token <= held.Token {
		t.Errorf("leadership %+v, %v", next, err)
	}
}
