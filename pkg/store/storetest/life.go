package storetest

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

func testOrder(t *testing.T, f *fixture) {
	now := time.Now()
	added := f.enqueue(
		jobs.New{},                                      // 4th: later than the next one
		jobs.New{RunAt: now.Add(-time.Hour)},            // 3rd
		jobs.New{Type: "B", Priority: 5},                // 1st
		jobs.New{Priority: 5, Type: "A"},                // 2nd: the same but for its id
		jobs.New{Priority: 9, RunAt: now.Add(1e9 * 60)}, // not due
		jobs.New{Priority: -1},                          // last
		jobs.New{Type: "C", Priority: 99},               // of a type that is not handled
		jobs.New{Queue: "mail", Priority: 99})           // of a queue that is not worked on
	seat := f.join(f.store)
	var got []int64
	for range 2 { // two at a time, then the rest
		for _, c := range f.turn(seat, want(3)).Claimed {
			got = append(got, c.ID)
		}
	}
	expect := []int64{added[2].ID, added[3].ID, added[1].ID, added[0].ID, added[5].ID}
	if !slices.Equal(got, expect) {
		t.Errorf("claimed %v, want %v", got, expect)
	}
}

func testClaims(t *testing.T, f *fixture) {
	for range 5 {
		f.enqueue(jobs.New{}, jobs.New{Type: "B", Queue: "mail", Payload: []byte(`{"to":"x"}`)})
	}
	seat := f.join(f.store)
	w := want(0)
	w.Pools = []jobs.Pool{{Queues: []string{"default"}, Free: 2}, {Queues: []string{"mail"}, Free: 3}}
	queues := make(map[string]int)
	for _, c := range f.turn(seat, w).Claimed {
		queues[c.Queue]++
		if c.Attempt != 1 || c.Token != 1 || c.MaxAttempts != 3 || c.CreatedAt.IsZero() {
			t.Errorf("claimed %+v", c)
		}
		row := f.expect(c.ID, jobs.Running, 1)
		if row.LeaseOwner != seat.ID() || row.LeaseToken != c.Token || row.StartedAt == 0 || row.Payload != string(c.Payload) {
			t.Errorf("row %+v", row)
		}
	}
	if queues["default"] != 2 || queues["mail"] != 3 {
		t.Errorf("claimed %v, want 2 of default and 3 of mail: each pool has its slots", queues)
	}
}

func testDelay(t *testing.T, f *fixture) {
	added := f.enqueue(jobs.New{Delay: 300 * time.Millisecond}, jobs.New{Delay: time.Hour, Priority: 9})
	seat := f.join(f.store)
	turn := f.turn(seat, want(2))
	if len(turn.Claimed) != 0 || turn.Next <= 0 || turn.Next > 300*time.Millisecond {
		t.Fatalf("%d claimed, next in %v", len(turn.Claimed), turn.Next)
	}
	f.eventually("the delayed job", func() bool {
		turn = f.turn(seat, want(2))
		return len(turn.Claimed) > 0
	})
	if len(turn.Claimed) != 1 || turn.Claimed[0].ID != added[0].ID || turn.Next < 59*time.Minute {
		t.Errorf("claimed %+v, next in %v", turn.Claimed, turn.Next)
	}
	row, _ := f.job(added[0].ID)
	if early := row.RunAt - row.StartedAt; early > 0 {
		t.Errorf("started %v s early", early)
	}
}

// testLimits: what holds for a job is stored with its first claim and kept.
func testLimits(t *testing.T, f *fixture) {
	id := f.enqueue(jobs.New{})[0].ID
	own := f.enqueue(jobs.New{MaxAttempts: 1, Timeout: time.Second})[0].ID
	seat := f.join(f.store)
	w := want(2)
	w.Limit = jobs.Limits{MaxAttempts: 5, Timeout: time.Minute}
	for _, c := range f.turn(seat, w).Claimed {
		if c.ID == own && (c.MaxAttempts != 1 || c.Timeout != time.Second) {
			t.Errorf("the job's own limits are not heeded: %+v", c)
		}
		f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: jobs.Pending, Uncounted: true})
	}
	w.Limit = jobs.Limits{MaxAttempts: 7, Timeout: time.Hour}
	for _, c := range f.turn(seat, w).Claimed {
		if c.ID == id && (c.MaxAttempts != 5 || c.Timeout != time.Minute) {
			t.Errorf("the first claim's limits were not kept: %+v", c)
		}
	}
}

// testLongHistory: the newest 100 attempts that did not complete are kept.
func testLongHistory(t *testing.T, f *fixture) {
	id := f.enqueue(jobs.New{MaxAttempts: 1000}, jobs.New{Priority: -1})[0].ID
	seat := f.join(f.store)
	turn := f.turn(seat, want(1))
	for range 130 {
		c := turn.Claimed[0]
		turn = f.turn(seat, want(1), jobs.Outcome{Ref: c.Ref, Status: jobs.Pending, Error: "no"})
	}
	_, history := f.job(id)
	if len(history) != 100 || history[0].Attempt != 31 || history[99].Attempt != 130 {
		t.Errorf("%d attempts are kept, the first of them %+v", len(history), history[0])
	}
}

func testOutcomes(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	for range 5 {
		f.enqueue(jobs.New{})
	}
	claimed := f.turn(seat, want(5)).Claimed
	o := make([]jobs.Outcome, 5)
	for i, c := range claimed {
		o[i].Ref = c.Ref
	}
	o[0].Status, o[0].Result = jobs.Completed, []byte(`{"sum":3}`)
	o[1].Status, o[1].Error = jobs.Failed, "for good"
	o[2].Status, o[2].Error, o[2].Delay = jobs.Pending, "for now", time.Hour
	o[3].Status, o[3].Delay, o[3].Uncounted = jobs.Pending, time.Hour, true
	o[4].Status, o[4].Uncounted = jobs.Pending, true
	turn := f.turn(seat, want(5), o...)
	if len(turn.Rejected) != 0 {
		t.Fatalf("rejected %v", turn.Rejected)
	}
	// In the same turn the one that was given back is claimed anew.
	if len(turn.Claimed) != 1 || turn.Claimed[0].ID != o[4].ID || turn.Claimed[0].Token != 2 || turn.Claimed[0].Attempt != 1 {
		t.Errorf("claimed %+v, want job %d again, its attempt not counted", turn.Claimed, o[4].ID)
	}
	if row := f.expect(o[0].ID, jobs.Completed, 1); string(row.Result) != `{"sum":3}` || row.CompletedAt == 0 {
		t.Errorf("completed: %+v", row)
	}
	if row := f.expect(o[1].ID, jobs.Failed, 1); row.Error != "for good" {
		t.Errorf("failed: %+v", row)
	}
	if row := f.expect(o[2].ID, jobs.Pending, 1); row.Error != "for now" || row.RunAt-row.StartedAt < 3599 {
		t.Errorf("to be retried: %+v", row)
	}
	f.expect(o[3].ID, jobs.Pending, 0)
	for i, n := range []int{0, 1, 1, 0, 0} {
		_, history := f.job(o[i].ID)
		if len(history) != n || (n == 1 && (history[0].Error != o[i].Error || history[0].Worker != seat.ID() || history[0].Attempt != 1)) {
			t.Errorf("history of job %d: %+v", i, history)
		}
	}
}

// testGivenBack: a job that is given back has the place in the order that it had.
func testGivenBack(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	old := f.enqueue(jobs.New{RunAt: time.Now().Add(-time.Hour)})[0].ID
	before, _ := f.job(old)
	claimed := f.claimOne(seat)
	f.enqueue(jobs.New{})
	turn := f.turn(seat, want(1), jobs.Outcome{Ref: claimed.Ref, Status: jobs.Pending, Delay: jobs.KeepDue, Uncounted: true})
	if len(turn.Claimed) != 1 || turn.Claimed[0].ID != old || turn.Claimed[0].Attempt != 1 || turn.Claimed[0].Token != 2 {
		t.Errorf("claimed %+v, want job %d again, before one that came later", turn.Claimed, old)
	}
	if after, history := f.job(old); after.RunAt != before.RunAt || len(history) != 0 {
		t.Errorf("due at %v, it was %v; history %v", after.RunAt, before.RunAt, history)
	}
}

// testFence: each kind of outcome is refused under another token than the
// job's, and once the job has ended; the job is as it was, and it is counted.
func testFence(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.enqueue(jobs.New{})
	first := f.claimOne(seat)
	f.turn(seat, want(0), jobs.Outcome{Ref: first.Ref, Status: jobs.Pending, Error: "once more"})
	second := f.claimOne(seat)
	if second.Token <= first.Token {
		t.Fatalf("token %d after %d: it must grow", second.Token, first.Token)
	}
	late := []jobs.Outcome{
		{Ref: first.Ref, Status: jobs.Completed},
		{Ref: first.Ref, Status: jobs.Failed, Error: "late"},
		{Ref: first.Ref, Status: jobs.Pending, Error: "late"},
		{Ref: first.Ref, Status: jobs.Pending, Uncounted: true},
		{Ref: jobs.Ref{ID: first.ID, Token: second.Token + 1}, Status: jobs.Completed},
		{Ref: jobs.Ref{ID: first.ID + 99, Token: 1}, Status: jobs.Completed},
	}
	for _, o := range late {
		turn := f.turn(seat, want(0), o)
		if len(turn.Rejected) != 1 || turn.Rejected[0] != o.Ref {
			t.Errorf("%+v: rejected %v", o, turn.Rejected)
		}
		f.expect(first.ID, jobs.Running, 2)
	}
	done := jobs.Outcome{Ref: second.Ref, Status: jobs.Completed}
	if turn := f.turn(seat, want(0), done, done); len(turn.Rejected) != 1 {
		t.Errorf("the same outcome twice: %d rejected, want 1", len(turn.Rejected))
	}
	f.expect(first.ID, jobs.Completed, 2)
	if s, err := f.store.Stats(f.ctx); err != nil || s.Rejected != 1 {
		t.Errorf("%d attempts with a rejected outcome, want 1 (%v)", s.Rejected, err)
	}
	if _, history := f.job(first.ID); len(history) != 1 || history[0].Error != "once more" || history[0].Rejected == "" {
		t.Errorf("history %+v", history)
	}
}

// testFinish: the handler's rows, the follow-ups and the completion are one
// transaction.
func testFinish(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.write(`CREATE TABLE notes (text TEXT)`)
	f.enqueue(jobs.New{}, jobs.New{})
	ok, bad := f.claimOne(seat), f.claimOne(seat)
	note := func(text string) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			_, err := tx.Exec(`INSERT INTO notes VALUES ($1)`, text)
			return err
		}
	}
	follow := jobs.New{Type: "B", Payload: []byte(`"follow"`)}
	err := seat.Finish(f.ctx, jobs.Outcome{Ref: ok.Ref, Status: jobs.Completed, Result: []byte(`1`)}, note("kept"), follow)
	f.must(err)
	f.expect(ok.ID, jobs.Completed, 1)

	boom := errors.New("boom")
	for _, write := range []func(*sql.Tx) error{
		func(tx *sql.Tx) error { return errors.Join(note("lost")(tx), boom) },
		func(tx *sql.Tx) error { return errors.Join(note("lost")(tx), tx.Rollback(), boom) },
	} {
		if err := seat.Finish(f.ctx, jobs.Outcome{Ref: bad.Ref, Status: jobs.Completed}, write, follow); !errors.Is(err, boom) {
			t.Errorf("got %v, want the function's error", err)
		}
		f.expect(bad.ID, jobs.Running, 1)
	}
	is(t, f.store.Read(), `SELECT text FROM notes`, "kept")
	if s, _ := f.store.Stats(f.ctx); s.Pending != 1 {
		t.Errorf("%d follow-ups, want 1", s.Pending)
	}
}

func testFinishLost(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.enqueue(jobs.New{})
	first := f.claimOne(seat)
	f.turn(seat, want(0), jobs.Outcome{Ref: first.Ref, Status: jobs.Pending, Error: "x"})
	f.claimOne(seat)
	err := seat.Finish(f.ctx, jobs.Outcome{Ref: first.Ref, Status: jobs.Completed}, func(*sql.Tx) error {
		t.Error("the function ran under a token that is no longer good")
		return nil
	}, jobs.New{Type: "B", Payload: []byte(`1`)})
	if !errors.Is(err, lease.ErrLost) {
		t.Errorf("got %v, want lease.ErrLost", err)
	}
	if s, _ := f.store.Stats(f.ctx); s.Pending != 0 || s.Rejected != 1 {
		t.Errorf("%d pending, %d rejected; want 0, 1", s.Pending, s.Rejected)
	}
}

func testWrite(t *testing.T, f *fixture) {
	f.write(`CREATE TABLE notes (text TEXT)`)
	boom := errors.New("boom")
	err := f.store.Write(f.ctx, func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO notes VALUES ('lost')`)
		return errors.Join(err, boom)
	}, jobs.New{Type: "A", Payload: []byte(`1`)})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	err = f.store.Write(f.ctx, func(tx *sql.Tx) error { return nil }, jobs.New{Type: "A", Payload: []byte(`{`)})
	if err == nil || !strings.Contains(err.Error(), "not JSON") {
		t.Errorf("got %v", err)
	}
	if s, _ := f.store.Stats(f.ctx); s.Pending != 0 {
		t.Errorf("%d jobs of writes that failed", s.Pending)
	}
	if _, err := f.store.Read().Exec(`INSERT INTO notes VALUES ('read')`); err == nil {
		t.Error("a reader could write")
	}
	is(t, f.store.Read(), `SELECT text FROM notes`)
}

func (f *fixture) write(query string) {
	f.Helper()
	f.must(f.store.Write(f.ctx, func(tx *sql.Tx) error { _, err := tx.Exec(query); return err }))
}

// testAskedAgain: what ends while a turn waits for its transaction goes in with it,
// and its slot is claimed for.
func testAskedAgain(t *testing.T, f *fixture) {
	f.enqueue(jobs.New{}, jobs.New{}, jobs.New{})
	seat := f.join(f.store)
	first, second := f.claimOne(seat), f.claimOne(seat)
	outcomes, free := []jobs.Outcome{{Ref: first.Ref, Status: jobs.Completed}}, 0
	asked := 0
	turn, err := seat.Turn(f.ctx, func() ([]jobs.Outcome, jobs.Want) {
		if asked++; asked == 2 {
			outcomes, free = append(outcomes, jobs.Outcome{Ref: second.Ref, Status: jobs.Completed}), 1
		}
		return outcomes, want(free)
	})
	if err != nil || len(turn.Claimed) != 1 || len(turn.Rejected) != 0 {
		t.Fatalf("%+v, %v; want one job for the slot that fell free", turn, err)
	}
	f.expect(first.ID, jobs.Completed, 1)
	f.expect(second.ID, jobs.Completed, 1)
}

// testSomeRejected: of a batch of completions those are accepted that hold their
// jobs, and each at most once.
func testSomeRejected(t *testing.T, f *fixture) {
	f.enqueue(jobs.New{}, jobs.New{})
	seat := f.join(f.store)
	lost, kept := f.claimOne(seat), f.claimOne(seat)
	f.turn(seat, want(0), jobs.Outcome{Ref: lost.Ref, Status: jobs.Pending})
	again := f.claimOne(seat)
	if again.ID != lost.ID {
		t.Fatalf("claimed %d, want %d again", again.ID, lost.ID)
	}
	turn := f.turn(seat, want(0), jobs.Outcome{Ref: lost.Ref, Status: jobs.Completed},
		jobs.Outcome{Ref: kept.Ref, Status: jobs.Completed}, jobs.Outcome{Ref: kept.Ref, Status: jobs.Completed})
	if !slices.Equal(turn.Rejected, []jobs.Ref{lost.Ref, kept.Ref}) {
		t.Errorf("rejected %v, want the one that was lost, and the one that came twice", turn.Rejected)
	}
	f.expect(lost.ID, jobs.Running, 2)
	f.expect(kept.ID, jobs.Completed, 1)
}
