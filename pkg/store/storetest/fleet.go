package storetest

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

func testRenew(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.enqueue(jobs.New{}, jobs.New{})
	kept, ended := f.claimOne(seat), f.claimOne(seat)
	before, err := column(f.store, `SELECT lease_expires_at FROM sync_jobs WHERE status = 'running' ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	renewed := `SELECT lease_expires_at > ` + before[0] + ` FROM sync_jobs WHERE status = 'running'`
	f.turn(seat, want(0), jobs.Outcome{Ref: ended.Ref, Status: jobs.Completed})
	lost, err := seat.Renew(f.ctx, time.Hour, []jobs.Holding{
		{Ref: kept.Ref, Progress: &jobs.Progress{Done: 3, Total: 9, Note: "rows"}}, {Ref: ended.Ref, Progress: &jobs.Progress{Done: 1}}})
	if err != nil || !slices.Equal(lost, []jobs.Ref{ended.Ref}) {
		t.Errorf("lost %v, %v; want the one that has ended", lost, err)
	}
	if after, err := column(f.store, renewed); err != nil || !slices.Equal(after, []string{"1"}) {
		t.Errorf("the lease that ended at %s was extended: %v, %v", before[0], after, err)
	}
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
		if reaped, err = seat.Reap(f.ctx); err != nil {
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
	lost, kept := f.claimOne(dead), f.claimOne(other)
	if reaped, err := seat.Reap(f.ctx); err != nil || len(reaped) != 0 {
		t.Fatalf("reaped %+v, %v while all live", reaped, err)
	}
	if err := doomed.Close(); err != nil { // as a process's end does it: nothing is said
		t.Fatal(err)
	}
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
		if err := doomed.Close(); err != nil {
			t.Fatal(err)
		}
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
			if err := doomed.Close(); err != nil {
				t.Fatal(err)
			}
			f.reapUntil(seat)
		},
		"stuck": func(held func(jobs.Seat, time.Duration)) {
			held(f.join(f.another()), 50*time.Millisecond)
			f.reapUntil(seat)
		},
		"left": func(held func(jobs.Seat, time.Duration)) {
			leaving := f.join(f.another())
			held(leaving, time.Hour)
			if err := leaving.Leave(f.ctx); err != nil {
				t.Fatal(err)
			}
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
	held, err := leaving.Acquire(f.ctx, "leader", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := leaving.Leave(f.ctx); err != nil {
		t.Fatal(err)
	}
	if c := f.claimOne(seat); c.Attempt != 1 || c.Token != 2 {
		t.Errorf("attempt %d, token %d of what a leaving worker still held, want 1, not counted, and 2", c.Attempt, c.Token)
	}
	if next, err := seat.Acquire(f.ctx, "leader", time.Hour); err != nil || next.Token <= held.Token {
		t.Errorf("leadership %+v, %v", next, err)
	}
}

func testLeadership(t *testing.T, f *fixture) {
	doomed := f.another()
	first, second := f.join(doomed), f.join(f.store)
	held, err := first.Acquire(f.ctx, "leader", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if renewed, err := first.Acquire(f.ctx, "leader", time.Hour); err != nil || renewed != held {
		t.Errorf("renewed %+v, %v; want the same token", renewed, err)
	}
	if _, err := second.Acquire(f.ctx, "leader", time.Hour); !errors.Is(err, lease.ErrHeld) {
		t.Errorf("got %v, want lease.ErrHeld", err)
	}
	if _, err := second.Acquire(f.ctx, "another", time.Hour); err != nil {
		t.Errorf("a lease of another name: %v", err)
	}
	if err := first.Release(f.ctx, held); err != nil {
		t.Error(err)
	}
	if err := first.Release(f.ctx, held); !errors.Is(err, lease.ErrLost) {
		t.Errorf("released twice: %v, want lease.ErrLost", err)
	}
	next, err := second.Acquire(f.ctx, "leader", 50*time.Millisecond)
	if err != nil || next.Token <= held.Token {
		t.Fatalf("acquired %+v, %v after token %d", next, err, held.Token)
	}
	// One that is late loses it, and one that is dead at once.
	f.eventually("the end of a lease", func() bool {
		held, err = first.Acquire(f.ctx, "leader", time.Hour)
		return err == nil
	})
	if held.Token <= next.Token {
		t.Errorf("token %d after %d", held.Token, next.Token)
	}
	if err := doomed.Close(); err != nil {
		t.Fatal(err)
	}
	if last, err := second.Acquire(f.ctx, "leader", time.Hour); err != nil || last.Token <= held.Token {
		t.Errorf("after the leader's death: %+v, %v", last, err)
	}
}

// testTick: a tick is enqueued once, and only under the leader's token.
func testTick(t *testing.T, f *fixture) {
	leader, deposed := f.join(f.store), f.join(f.another())
	old, err := deposed.Acquire(f.ctx, "leader", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	n := jobs.New{Type: "A", Payload: []byte(`"tick"`)}
	next := time.Now().Add(time.Minute).Truncate(time.Millisecond)
	if at, err := deposed.NextTick(f.ctx, "s"); err != nil || !at.IsZero() {
		t.Errorf("next tick %v, %v of a schedule that never ticked", at, err)
	}
	if err := deposed.Tick(f.ctx, old, jobs.Due{Name: "s", Next: next}, n); err != nil {
		t.Fatal(err)
	}
	if err := deposed.Release(f.ctx, old); err != nil {
		t.Fatal(err)
	}
	held, err := leader.Acquire(f.ctx, "leader", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	at, err := leader.NextTick(f.ctx, "s")
	if err != nil || !at.Equal(next) {
		t.Fatalf("next tick %v, %v; want %v", at, err, next)
	}
	later := next.Add(time.Minute)
	for what, err := range map[string]error{
		"a deposed leader's":     deposed.Tick(f.ctx, old, jobs.Due{Name: "s", At: next, Next: later}, n),
		"a stolen token's":       deposed.Tick(f.ctx, held, jobs.Due{Name: "s", At: next, Next: later}, n),
		"one that is over":       leader.Tick(f.ctx, held, jobs.Due{Name: "s", Next: later}, n),
		"another schedule's old": leader.Tick(f.ctx, old, jobs.Due{Name: "new", Next: later}, n),
	} {
		if !errors.Is(err, lease.ErrLost) {
			t.Errorf("%s tick: got %v, want lease.ErrLost", what, err)
		}
	}
	if err := leader.Tick(f.ctx, held, jobs.Due{Name: "s", At: next, Next: later}, n, n); err != nil {
		t.Error(err)
	}
	if s, _ := f.store.Stats(f.ctx); s.Pending != 3 {
		t.Errorf("%d jobs, want 1 of the first tick and 2 of the second", s.Pending)
	}
}

// testChanges: another store's commit wakes a worker.
func testChanges(t *testing.T, f *fixture) {
	seat, other := f.join(f.store), f.another()
	for range 20 {
		for len(seat.Changes()) > 0 {
			<-seat.Changes()
		}
		if _, err := other.Enqueue(f.ctx, jobs.New{Type: "A", Payload: []byte(`1`)}); err != nil {
			t.Fatal(err)
		}
		var c []jobs.Claimed
		for len(c) == 0 { // the change may be an older one's
			select {
			case <-seat.Changes():
			case <-time.After(20 * time.Second):
				t.Fatal("no change was told")
			}
			c = f.turn(seat, want(1)).Claimed
		}
		f.turn(seat, want(0), jobs.Outcome{Ref: c[0].Ref, Status: jobs.Completed})
	}
}

func testLeft(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	left := func() bool {
		t.Helper()
		yes, err := seat.Left(f.ctx, want(1))
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	f.enqueue(jobs.New{Type: "C"}, jobs.New{Queue: "mail"})
	if left() {
		t.Error("left: another type's, another queue's")
	}
	f.enqueue(jobs.New{Delay: time.Hour})
	if !left() {
		t.Error("nothing left, with a delayed job")
	}
	f.write(`UPDATE sync_jobs SET run_at = 0 WHERE job_type = 'A' AND queue = 'default'`)
	c := f.claimOne(seat)
	if !left() {
		t.Error("nothing left, with a running job")
	}
	f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: jobs.Completed})
	if left() {
		t.Error("left: all has ended")
	}
}

func testInspect(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.enqueue(jobs.New{}, jobs.New{Type: "C"}, jobs.New{Type: "B", Queue: "mail", Delay: time.Hour})
	f.claimOne(seat)
	s, err := f.store.Stats(f.ctx)
	if err != nil || s.Pending != 2 || s.Running != 1 || s.Workers != 1 {
		t.Errorf("stats %+v, %v", s, err)
	}
	expect := []jobs.TypeStats{
		{Type: "A", Queue: "default", Running: 1, Handled: true},
		{Type: "B", Queue: "mail", Pending: 1, Handled: true},
		{Type: "C", Queue: "default", Pending: 1},
	}
	if !slices.Equal(s.Types, expect) {
		t.Errorf("types %+v", s.Types)
	}
	list, err := f.store.Jobs(f.ctx, jobs.Filter{Status: jobs.Pending, Limit: 1})
	if err != nil || len(list) != 1 || list[0].Type != "B" {
		t.Errorf("list %+v, %v", list, err)
	}
	if _, _, err := f.store.Job(f.ctx, 99); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	workers, err := f.store.Workers(f.ctx)
	if err != nil || len(workers) != 1 || workers[0].Running != 1 || workers[0].ID != seat.ID() || !workers[0].Handles("B", "mail") {
		t.Errorf("workers %+v, %v", workers, err)
	}
	for _, n := range []int{2, 0} {
		if err := seat.Stuck(f.ctx, n); err != nil {
			t.Error(err)
		}
		workers, err := f.store.Workers(f.ctx)
		if err != nil || len(workers) != 1 || workers[0].Stuck != n {
			t.Errorf("%d are stuck: %+v, %v", n, workers, err)
		}
		if s, err := f.store.Stats(f.ctx); err != nil || s.Stuck != int64(n) {
			t.Errorf("%d are stuck: %+v, %v", n, s, err)
		}
	}
}

// testConcurrentTurns proves that no job is claimed twice and none is left,
// with several stores taking turns at once.
func testConcurrentTurns(t *testing.T, f *fixture) {
	const total = 400
	batch := make([]jobs.New, total)
	f.enqueue(batch...)
	var mu sync.Mutex
	claims := make(map[int64]int)
	var all sync.WaitGroup
	for range 4 {
		seat := f.join(f.another())
		all.Go(func() {
			var outcomes []jobs.Outcome
			for {
				turn, err := seat.Turn(f.ctx, outcomes, want(7))
				if err != nil || len(turn.Rejected) > 0 {
					t.Errorf("rejected %v, %v", turn.Rejected, err)
					return
				}
				if len(turn.Claimed) == 0 {
					return
				}
				outcomes = outcomes[:0]
				mu.Lock()
				for _, c := range turn.Claimed {
					claims[c.ID]++
					outcomes = append(outcomes, jobs.Outcome{Ref: c.Ref, Status: jobs.Completed})
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(claims) != total {
		t.Errorf("%d jobs were claimed, want %d", len(claims), total)
	}
	for id, n := range claims {
		if n != 1 {
			t.Errorf("job %d was claimed %d times", id, n)
		}
	}
	if s, _ := f.store.Stats(f.ctx); s.Completed != total {
		t.Errorf("%d completed, want %d", s.Completed, total)
	}
}

func idText(id int64) string { return strconv.FormatInt(id, 10) }
