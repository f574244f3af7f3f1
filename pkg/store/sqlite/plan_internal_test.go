package sqlite

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// TestPlans holds the plan of every statement that the engine keeps prepared,
// after all of them were used: none reads the jobs from end to end, none sorts
// the backlog. SQLite plans without statistics here, so the plans are those of
// a file with millions of jobs.
func TestPlans(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), Options{MaxPending: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	plans := useAll(t, db)
	if len(plans) < 20 {
		t.Fatalf("%d statements were looked at: the test has lost its way", len(plans))
	}
	for statement, plan := range plans {
		if strings.HasSuffix(statement, "ORDER BY id DESC LIMIT 1") {
			continue // a scan of one row
		}
		for _, step := range plan {
			index := strings.Contains(step, "USING INDEX sync_jobs_") || strings.Contains(step, "USING COVERING INDEX sync_jobs_")
			switch {
			case strings.Contains(step, "TEMP B-TREE") && !small(statement),
				strings.HasPrefix(step, "SCAN sync_jobs") && !index,
				strings.HasPrefix(step, "SCAN j ") && !index:
				t.Errorf("%s\n  in\n%s\n  of\n%s", step, strings.Join(plan, "\n"), statement)
			}
		}
	}
}

// TestPlansOfLooks holds that what failed is listed and counted by its index, however
// many have completed, and that no job is looked at to count it but what runs or failed.
func TestPlansOfLooks(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	failed, args := listed(jobs.Filter{Status: jobs.Failed})
	for _, look := range []struct {
		statement string
		args      []any
		want      int // uses of the index
	}{{failed, args, 1}, {statsQuery, nil, 2}} {
		rows, err := db.readers.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+look.statement, look.args...)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var plan []string
		for rows.Next() {
			var step string
			if err := rows.Scan(new(int), new(int), new(int), &step); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, step)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		all := strings.Join(plan, "\n")
		if got := strings.Count(all, "INDEX sync_jobs_unsuccessful (status=?)"); got != look.want {
			t.Errorf("%d steps use the index, want %d:\n%s\nof\n%s", got, look.want, all, look.statement)
		}
		if scans := strings.Count(all, "SCAN sync_jobs") - strings.Count(all, "SCAN sync_jobs USING COVERING INDEX sync_jobs_running"); scans > 0 || strings.Contains(all, "TEMP B-TREE") {
			t.Errorf("more is read, or sorted, than is asked for:\n%s\nof\n%s", all, look.statement)
		}
	}
}

// small says that a statement sorts only what a fleet holds at a time.
func small(statement string) bool { return strings.Contains(statement, "DISTINCT lease_owner") }

// useAll calls every method of the engine once and explains what it prepared.
func useAll(t *testing.T, db *DB) map[string][]string {
	t.Helper()
	ctx := t.Context()
	joined, err := db.Join(ctx, jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	s := joined.(*seat)
	n := jobs.New{Type: "A", Payload: []byte(`1`)}
	unique := n
	unique.Unique.Key = "k"
	delayed := n
	delayed.Delay = time.Millisecond
	want := jobs.Want{Types: []string{"A", "B"}, Pools: []jobs.Pool{{Queues: []string{"default", "mail"}, Free: 10}},
		TTL: time.Minute, Limit: jobs.Limits{MaxAttempts: 3}}
	_, errEnqueue := db.Enqueue(ctx, n, n, unique, delayed)
	turn, errTurn := s.Turn(ctx, storetest.Ask(nil, want))
	if len(turn.Claimed) < 3 {
		t.Fatalf("claimed %d", len(turn.Claimed))
	}
	errPolicies := errors.Join( // which change what a claim says
		db.ChangePolicy(ctx, jobs.OfType, "A", func(p *jobs.Policy) { p.MaxRunning = 9 }),
		db.ChangePolicy(ctx, jobs.OfQueue, "default", func(p *jobs.Policy) { p.MaxStarts = jobs.Rate{N: 9, Per: time.Hour} }))
	_, errAgain := db.Enqueue(ctx, n)
	_, errOut := s.Turn(ctx, storetest.Ask([]jobs.Outcome{
		{Ref: turn.Claimed[0].Ref, Status: jobs.Completed},
		{Ref: turn.Claimed[1].Ref, Status: jobs.Pending, Error: "x"},
		{Ref: jobs.Ref{ID: 99}, Status: jobs.Completed},
	}, want))
	_, errRenew := s.Renew(ctx, time.Minute, []jobs.Holding{{Ref: turn.Claimed[2].Ref, Progress: &jobs.Progress{}}})
	_, errLost := s.Lost(ctx, nil)
	_, errLeft := s.AnyLeft(ctx, want)
	held, errLead := s.Acquire(ctx, "leader", time.Minute)
	row := jobs.ScheduleRow{StoredSchedule: jobs.StoredSchedule{Name: "s", Spec: "@every 1s", Missed: jobs.MissedSkip}, NextAt: 1}
	errBring := s.Bring(ctx, held, row)
	errTick := s.Tick(ctx, held, jobs.Due{Name: "s", At: row.NextAt.Time(), Next: time.Now()}, n)
	_, _, errReap := s.Reap(ctx)
	errCall := s.lastCall(ctx, []jobs.Ref{{ID: 99, Token: 1}})
	errDead := db.writer.do(ctx, func(tx *tx) error {
		_, err := tx.giveBack(jobs.EndedStuck, stuckNow, int64(99), int64(1), tx.mono)
		if err == nil {
			_, err = tx.bury(99)
		}
		return err
	})
	var errChange error
	for _, verb := range []jobs.Verb{jobs.Prioritize, jobs.Cancel, jobs.Retry, jobs.Delete} {
		for _, filter := range []jobs.Filter{{IDs: []int64{1, 2}}, {Type: "A", EndedBefore: time.Now()}, {Queue: "mail"}} {
			_, err := db.Change(ctx, filter, jobs.Change{Verb: verb})
			errChange = errors.Join(errChange, err)
		}
	}
	if err := errors.Join(errChange, errEnqueue, errPolicies, errAgain, errTurn, errOut, errRenew, errLost, errLeft, errLead, errBring, errTick, errReap, errCall, errDead); err != nil {
		t.Fatal(err)
	}

	statements := []string{candidatesOf(jobs.Retry), candidatesOf(jobs.Cancel)}
	collect := func(c *conn) {
		for statement := range c.stmts {
			if !strings.HasPrefix(statement, "PRAGMA") {
				statements = append(statements, statement)
			}
		}
	}
	plans := make(map[string][]string)
	err = errors.Join(
		db.writer.do(ctx, func(tx *tx) error { collect(tx.conn); return nil }),
		db.read(func(c *conn) error {
			collect(c)
			for _, statement := range statements {
				err := c.query("EXPLAIN QUERY PLAN "+statement, func(s *sqlite3.Stmt) error {
					plans[statement] = append(plans[statement], s.ColumnText(3))
					return nil
				})
				if err != nil {
					return err
				}
			}
			return nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	return plans
}
