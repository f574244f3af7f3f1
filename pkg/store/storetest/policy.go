package storetest

import (
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

func (f *fixture) policy(kind jobs.PolicyKind, name string, p jobs.Policy) {
	f.Helper()
	f.must(f.store.ChangePolicy(f.ctx, kind, name, func(now *jobs.Policy) { *now = p }))
}

func (f *fixture) policies() map[string]jobs.PolicyRow {
	f.Helper()
	rows, err := f.store.Policies(f.ctx)
	f.must(err)
	byName := make(map[string]jobs.PolicyRow)
	for _, r := range rows {
		byName[string(r.Kind)+" "+r.Name] = r
	}
	return byName
}

// testPolicySays: the job itself, the operator for its type, the operator for its
// queue, the handler, the worker: the first that says something counts, for each
// thing by itself.
func testPolicySays(t *testing.T, f *fixture) {
	info := jobs.Info{Types: []string{"A", "B"}, Policies: map[string]jobs.Policy{
		"A": {MaxAttempts: 6, Timeout: 6 * time.Minute, Retry: jobs.RetryPolicy{Delay: 6 * time.Second, Cap: 6 * time.Hour}},
		"B": {MaxAttempts: 7},
	}}
	seat, err := f.store.Join(f.ctx, info)
	f.must(err)
	f.policy(jobs.OfType, "A", jobs.Policy{MaxAttempts: 4})
	f.policy(jobs.OfQueue, "mail", jobs.Policy{MaxAttempts: 5, Timeout: 5 * time.Minute, Retry: jobs.RetryPolicy{Delay: 5 * time.Second, Jitter: -1}})
	w := want(10)
	w.Pools[0].Queues = []string{"default", "mail", "third"}
	w.Types = []string{"A", "B", "C"}
	w.Limit = jobs.Limits{MaxAttempts: 9, Timeout: 9 * time.Minute}
	for _, c := range []struct {
		job  jobs.New
		want string
	}{
		{jobs.New{Type: "A", Queue: "mail", MaxAttempts: 2, Timeout: time.Minute}, "2 1m0s {5s 6h0m0s -1}"},
		{jobs.New{Type: "A", Queue: "mail"}, "4 5m0s {5s 6h0m0s -1}"},
		{jobs.New{Type: "A"}, "4 6m0s {6s 6h0m0s 0}"},
		{jobs.New{Type: "B", Queue: "mail"}, "5 5m0s {5s 0s -1}"},
		{jobs.New{Type: "B"}, "7 9m0s {0s 0s 0}"},
		{jobs.New{Type: "C", Queue: "third"}, "9 9m0s {0s 0s 0}"},
	} {
		f.enqueue(c.job)
		claimed := f.turn(seat, w).Claimed
		if len(claimed) != 1 {
			t.Fatalf("%+v: claimed %d", c.job, len(claimed))
		}
		if got := fmt.Sprint(claimed[0].MaxAttempts, " ", claimed[0].Timeout, " ", claimed[0].Retry); got != c.want {
			t.Errorf("%s of %s: %s, want %s", c.job.Type, c.job.Queue, got, c.want)
		}
	}
}

// testPolicyOfHandlers: what the last to join brings holds, also where that is
// nothing, and what an operator has said stays.
func testPolicyOfHandlers(t *testing.T, f *fixture) {
	for i, brings := range []jobs.Policy{{MaxRunning: 3, MaxAttempts: 2}, {MaxRunning: 5}, {}} {
		f.policy(jobs.OfType, "A", jobs.Policy{MaxAttempts: 8})
		if _, err := f.another().Join(f.ctx, jobs.Info{Types: []string{"A"}, Policies: map[string]jobs.Policy{"A": brings}}); err != nil {
			t.Fatal(err)
		}
		if got := f.policies()["type A"]; got.MaxRunning != brings.MaxRunning || got.MaxAttempts != 8 {
			t.Errorf("%d: %+v", i, got)
		}
	}
	f.policy(jobs.OfType, "A", jobs.Policy{})
	if got := f.policies(); len(got) != 0 {
		t.Errorf("nothing is said, and there is %+v", got)
	}
}

// testNoneAhead: what a limit holds for is claimed for free slots alone, the rest also
// ahead of them.
func testNoneAhead(t *testing.T, f *fixture) {
	for _, above := range []int{1, 1, 1, -1, -1} { // those of A above those of B, and below
		f.enqueue(jobs.New{Type: "A", Priority: above}, jobs.New{Type: "B"})
	}
	f.policy(jobs.OfType, "A", jobs.Policy{MaxStarts: jobs.Rate{N: 100, Per: time.Hour}})
	seat := f.join(f.store)
	w := want(6)
	w.Types, w.Pools[0].Ahead = []string{"A", "B"}, 4
	for _, want := range []map[string]int{{"A": 2, "B": 4}, {"A": 1, "B": 1}, {"A": 2}} {
		got := make(map[string]int)
		for _, c := range f.turn(seat, w).Claimed {
			got[c.Type]++
		}
		if !maps.Equal(got, want) {
			t.Errorf("claimed %v, want %v", got, want)
		}
	}
}

func testPolicyRefuses(t *testing.T, f *fixture) {
	f.policy(jobs.OfType, "A", jobs.Policy{MaxRunning: 3})
	for _, c := range []struct {
		kind   jobs.PolicyKind
		name   string
		policy jobs.Policy
		says   string
	}{
		{"job", "A", jobs.Policy{}, "want type or queue"},
		{jobs.OfType, "", jobs.Policy{}, "1 to 255 bytes"},
		{jobs.OfQueue, strings.Repeat("q", 256), jobs.Policy{}, "1 to 255 bytes"},
		{jobs.OfType, "A", jobs.Policy{MaxRunning: -1}, "at least 1, or pause it"},
		{jobs.OfType, "A", jobs.Policy{MaxStarts: jobs.Rate{N: 5}}, "such as 100 in 1m"},
		{jobs.OfType, "A", jobs.Policy{Retry: jobs.RetryPolicy{Jitter: 1.5}}, "such as 0.1"},
		{jobs.OfType, "A", jobs.Policy{Timeout: -1}, "more than 0"},
		{jobs.OfType, "A", jobs.Policy{MaxStarts: jobs.Rate{N: 5, Per: time.Nanosecond}}, "1ms or more"},
		{jobs.OfType, "A", jobs.Policy{Backoff: func(int, error) time.Duration { return 0 }}, "for a handler"},
	} {
		err := f.store.ChangePolicy(f.ctx, c.kind, c.name, func(p *jobs.Policy) { *p = c.policy })
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c, err, c.says)
		}
	}
	// By plain SQL, too: one such row would stop the claims of all.
	err := f.store.Write(f.ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(f.ctx, `INSERT INTO sync_policies (kind, name, max_starts, starts_per) VALUES ('type', 'B', 2000, 1e-10)`)
		return err
	})
	if err == nil {
		t.Error("a span of 1e-10 s was taken")
	}
	if got := f.policies(); len(got) != 1 || got["type A"].MaxRunning != 3 {
		t.Errorf("after what was refused: %+v", got)
	}
}

// testPause: a pause holds from the moment it is said, of a type or of a queue,
// for what is already due too; what runs goes on, and nobody waits for a worker.
func testPause(t *testing.T, f *fixture) {
	f.enqueue(jobs.New{Type: "A"}, jobs.New{Type: "B"})
	seat := f.join(f.store)
	running := f.claimOne(seat)
	f.policy(jobs.OfType, "B", jobs.Policy{Paused: true})
	for range 2 {
		if turn := f.turn(seat, want(5)); len(turn.Claimed) > 0 {
			t.Errorf("claimed %+v of a type that is paused", turn.Claimed)
		}
	}
	if turn := f.turn(seat, want(5), jobs.Outcome{Ref: running.Ref, Status: jobs.Completed}); len(turn.Rejected)+len(turn.Claimed) > 0 {
		t.Errorf("the outcome of what ran: %+v", turn)
	}
	if left, err := seat.AnyLeft(f.ctx, want(5)); left || err != nil {
		t.Errorf("is something left for this worker: %v, %v", left, err)
	}
	f.policy(jobs.OfType, "B", jobs.Policy{})
	f.policy(jobs.OfQueue, "default", jobs.Policy{Paused: true})
	if turn := f.turn(seat, want(5)); len(turn.Claimed) > 0 {
		t.Errorf("claimed %+v of a queue that is paused", turn.Claimed)
	}
	f.policy(jobs.OfQueue, "default", jobs.Policy{})
	if turn := f.turn(seat, want(5)); len(turn.Claimed) != 1 {
		t.Errorf("claimed %+v after the pause", turn.Claimed)
	}
}

// testMaxRunning: limits of a type and of a queue hold together, over all workers;
// what they don't bound is claimed past them, best first.
func testMaxRunning(t *testing.T, f *fixture) {
	f.policy(jobs.OfType, "A", jobs.Policy{MaxRunning: 3})
	f.policy(jobs.OfQueue, "mail", jobs.Policy{MaxRunning: 2})
	var expect []int64
	for i := range 4 { // by priority: A of default, A of mail, B of mail, B of default
		for j, n := range []jobs.New{{Type: "B"}, {Type: "B", Queue: "mail"}, {Type: "A", Queue: "mail"}, {Type: "A"}} {
			n.Priority = j * 10
			id := f.enqueue(n)[0].ID
			if n.Type == "A" && n.Queue == "" && i < 3 || n.Type == "B" && (n.Queue == "" || i < 2) {
				expect = append(expect, id)
			}
		}
	}
	w := want(6)
	w.Pools[0].Queues = []string{"default", "mail"}
	one, two := f.join(f.store), f.join(f.another())
	var got []int64
	var claimed []jobs.Claimed
	for _, seat := range []jobs.Seat{one, two, one} {
		for _, c := range f.turn(seat, w).Claimed {
			got = append(got, c.ID)
			claimed = append(claimed, c)
		}
	}
	priorities := func(id int64) int { row, _ := f.job(id); return -row.Priority }
	if !slices.IsSortedFunc(got, func(a, b int64) int { return priorities(a) - priorities(b) }) {
		t.Errorf("claimed %v: not best first", got)
	}
	slices.Sort(got)
	if !slices.Equal(got, expect) {
		t.Errorf("claimed %v, want %v", got, expect)
	}
	if p := f.policies(); p["type A"].Running != 3 || p["queue mail"].Running != 2 {
		t.Errorf("policies: %+v", p)
	}
	// Room is made by an outcome, in the same turn.
	i := slices.IndexFunc(claimed, func(c jobs.Claimed) bool { return c.Type == "A" })
	turn := f.turn(one, w, jobs.Outcome{Ref: claimed[i].Ref, Status: jobs.Completed})
	if len(turn.Claimed) != 1 || turn.Claimed[0].Type != "A" || turn.Claimed[0].Queue != "default" {
		t.Errorf("claimed %+v, want the last A of default", turn.Claimed)
	}
}

// testMaxRunningRace: eight workers, each with room for all, and no moment with
// more than three running, by the stored times.
func testMaxRunningRace(t *testing.T, f *fixture) {
	f.policy(jobs.OfType, "A", jobs.Policy{MaxRunning: 3})
	const all = 200
	for range all {
		f.enqueue(jobs.New{})
	}
	var workers sync.WaitGroup
	for range 8 {
		seat := f.join(f.another())
		workers.Go(func() {
			var outcomes []jobs.Outcome
			for {
				turn, err := seat.Turn(f.ctx, Ask(outcomes, want(10)))
				if err != nil {
					t.Error(err)
					return
				}
				outcomes = nil
				for _, c := range turn.Claimed {
					outcomes = append(outcomes, jobs.Outcome{Ref: c.Ref, Status: jobs.Completed})
				}
				if stats, err := f.store.Stats(f.ctx); err != nil || stats.Completed == all {
					return
				}
			}
		})
	}
	workers.Wait()
	// At each start: the others that had started, and ended later.
	crowded := texts(t, f.store.Read(), `SELECT id FROM sync_jobs j WHERE (SELECT count(*) FROM sync_jobs o
		WHERE o.id <> j.id AND o.started_at <= j.started_at AND o.completed_at > j.started_at) >= 3
		AND (SELECT count(*) FROM sync_jobs o WHERE o.started_at <= j.started_at AND o.completed_at > j.started_at) > 3`)
	if len(crowded) > 0 {
		t.Errorf("more than 3 ran when these started: %v", crowded)
	}
	is(t, f.store.Read(), `SELECT count(*) FROM sync_jobs WHERE status = 'completed' AND attempts = 1`, fmt.Sprint(all))
}

// testMaxStarts: in no span are there more starts than may be, attempts that were
// not counted included; and a turn says when the next may begin.
func testMaxStarts(t *testing.T, f *fixture) {
	const per = 400 * time.Millisecond
	f.policy(jobs.OfType, "A", jobs.Policy{MaxStarts: jobs.Rate{N: 3, Per: per}})
	seat := f.join(f.store)
	for range 7 {
		f.enqueue(jobs.New{})
	}
	f.enqueue(jobs.New{Type: "B", Priority: -1})
	turn := f.turn(seat, want(10))
	if len(turn.Claimed) != 4 || turn.Next <= 0 || turn.Next > per+time.Millisecond {
		t.Fatalf("claimed %d, next in %v; want 3 of A and the B, and less than %v", len(turn.Claimed), turn.Next, per)
	}
	// Given back: it was a start all the same.
	again := f.turn(seat, want(10), jobs.Outcome{Ref: turn.Claimed[0].Ref, Status: jobs.Pending, Uncounted: true})
	if len(again.Claimed) != 0 {
		t.Errorf("claimed %+v", again.Claimed)
	}
	if p := f.policies()["type A"]; p.Started != 3 || !p.Opens.After(time.Now().Add(-per)) {
		t.Errorf("policy: %+v", p)
	}
	starts := []float64{}
	note := func(claimed []jobs.Claimed) {
		for _, c := range claimed {
			if row, _ := f.job(c.ID); c.Type == "A" {
				starts = append(starts, float64(row.StartedAt))
			}
		}
	}
	note(turn.Claimed)
	for len(starts) < 8 {
		turn := f.turn(seat, want(10))
		note(turn.Claimed)
		if len(turn.Claimed) == 0 {
			if turn.Next <= 0 {
				t.Fatalf("nothing claimed, and nothing says when to look again: %+v", turn)
			}
			<-time.After(turn.Next)
		}
	}
	for i := 3; i < len(starts); i++ {
		if span := starts[i] - starts[i-3]; span < per.Seconds() {
			t.Errorf("4 starts within %v s: %v", span, starts)
		}
	}
}

// testMaxStartsMany: a rate of very many starts holds exactly, is used almost to
// the full, and takes few rows.
func testMaxStartsMany(t *testing.T, f *fixture) {
	const n, per = 2000, time.Hour
	f.policy(jobs.OfQueue, "default", jobs.Policy{MaxStarts: jobs.Rate{N: n, Per: per}})
	batch := make([]jobs.New, 2500)
	f.enqueue(batch...)
	seat := f.join(f.store)
	claimed := 0
	for range 60 {
		claimed += len(f.turn(seat, want(50)).Claimed)
	}
	if claimed != n {
		t.Errorf("claimed %d, want %d", claimed, n)
	}
	if rows := texts(t, f.store.Read(), `SELECT count(*) FROM sync_starts`); rows[0] != "1" && rows[0] != "2" {
		t.Errorf("%v rows of starts", rows)
	}
}

// testManyLimits: a claim under very many limits takes the best that pass all of
// them, in one transaction that is short.
func testManyLimits(t *testing.T, f *fixture) {
	const types = 200
	w := want(60)
	w.Types = nil
	w.Pools = []jobs.Pool{{Queues: []string{"default", "mail"}, Free: 60}, {Queues: []string{"third"}, Free: 5}}
	var batch []jobs.New
	for i := range types {
		name := fmt.Sprintf("T%03d", i)
		w.Types = append(w.Types, name)
		f.policy(jobs.OfType, name, jobs.Policy{MaxRunning: 1 + i%2})
		for j := range 4 {
			batch = append(batch, jobs.New{Type: name, Priority: i, Queue: []string{"default", "mail", "third", "default"}[j]})
		}
	}
	f.policy(jobs.OfQueue, "mail", jobs.Policy{MaxStarts: jobs.Rate{N: 7, Per: time.Hour}})
	f.enqueue(batch...)

	// The same by hand: best first, pool by pool.
	var expect []int64
	running, mails := make(map[string]int), 0
	byHand := func(free int, queues ...string) {
		for i := types - 1; i >= 0 && free > 0; i-- {
			for j := 0; j < 4 && free > 0; j++ {
				n := batch[4*i+j]
				if !slices.Contains(queues, n.Queue) || running[n.Type] > i%2 || n.Queue == "mail" && mails == 7 {
					continue
				}
				running[n.Type]++
				if n.Queue == "mail" {
					mails++
				}
				free--
				expect = append(expect, int64(4*i+j+1))
			}
		}
	}
	byHand(60, "default", "mail")
	byHand(5, "third")
	slices.Sort(expect)

	start := time.Now()
	var got []int64
	for _, c := range f.turn(f.join(f.store), w).Claimed {
		got = append(got, c.ID)
	}
	t.Logf("claimed %d of %d types in %v", len(got), types, time.Since(start))
	slices.Sort(got)
	if !slices.Equal(got, expect) {
		t.Errorf("claimed %v,\nwant %v", got, expect)
	}
}
