package sqlite

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Turn implements jobs.Seat.
func (s *seat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	outcomes, want := ask()
	var claims []claim
	if len(outcomes) == 0 {
		claims = claimsOf(want)
		var work bool
		var next time.Duration
		err := s.db.read(func(c *conn) (err error) {
			work, next, err = s.peek(c, claims)
			return err
		})
		if err != nil || !work {
			return jobs.Turn{Next: next}, wrapError("turn", err)
		}
	}
	var turn jobs.Turn
	var made []jobs.Claimed // by the last try that came to its end
	err := s.db.writer.do(ctx, func(t *tx) error {
		turn = jobs.Turn{}
		if !t.again { // else Turn may have returned, and what was said is to be proven
			outcomes, want = ask()
			claims = claimsOf(want)
		}
		rejected, err := s.finishAll(t, outcomes)
		if err != nil {
			return err
		}
		for _, o := range rejected {
			turn.Rejected = append(turn.Rejected, o.Ref)
			if err := t.reject(o); err != nil {
				return err
			}
		}
		if t.again {
			if turn.Claimed, err = s.stillHeld(t, made); err != nil || len(turn.Claimed) > 0 {
				return err // some are: the commit that failed has happened
			}
		}
		if len(claims) == 0 {
			return nil
		}
		if turn.Next, err = t.promote(claims); err != nil {
			return err
		}
		all, gates, err := readGates(t.conn, claims, t.now)
		if err != nil {
			return err
		}
		for _, c := range claims {
			if err := s.claimPool(t, c, want, all, gates, &turn.Claimed); err != nil {
				return err
			}
		}
		if err := t.noteStarts(gates); err != nil {
			return err
		}
		turn.Next = sooner(turn.Next, gates.wait(t.now))
		made = turn.Claimed
		return nil
	})
	if err != nil {
		return jobs.Turn{}, wrapError("turn", err)
	}
	slices.SortFunc(turn.Claimed, byOrder)
	return turn, nil
}

// Delayed jobs are promoted a bite at a time: all that have come due, if that is
// possible before others have waited long enough for the write lock. Of a larger
// backlog each turn from then on promotes as many as it may claim, until there was
// nothing to promote for a while.
const (
	promoteBite = 100
	promoteTime = 10 * time.Millisecond
	promoteRest = time.Second
)

// promote marks the pending jobs whose time has come as due, which is what a
// claim sees, and returns nextDue of the others. It orders nothing: a backlog of a
// million delayed jobs costs the claim one look at an index.
func (t *tx) promote(claims []claim) (next time.Duration, err error) {
	var enough, promoted int64
	for _, c := range claims {
		enough += int64(c.free)
	}
	start := time.Now()
	backlog := start.Sub(t.promoted) < promoteRest
	for {
		next, due, err := nextDue(t.conn, t.now)
		if err != nil || !due {
			return next, err
		}
		n, err := t.exec(`UPDATE sync_jobs SET due = 1 WHERE id IN (
			SELECT id FROM sync_jobs WHERE status = 'pending' AND due = 0 AND run_at <= ? ORDER BY run_at LIMIT ? + 0)`, // a sum: see bestFirst
			t.now, promoteBite)
		if err != nil {
			return 0, err
		}
		promoted += n
		t.promoted = time.Now()
		if t.promoted.Sub(start) > promoteTime || backlog && promoted >= enough {
			return next, nil // the next turn goes on
		}
	}
}

// nextDue is how long until the earliest delayed job is due, 0 if there is none,
// and whether it is due already: then it counts as a moment away.
func nextDue(c *conn, now float64) (wait time.Duration, due bool, err error) {
	err = c.query(`SELECT run_at FROM sync_jobs WHERE status = 'pending' AND due = 0 ORDER BY run_at LIMIT 1`,
		func(s *sqlite3.Stmt) error {
			at := s.ColumnFloat(0)
			wait, due = max(seconds(at-now), time.Millisecond), at <= now
			return nil
		})
	return wait, due, err
}

// peek says whether a claim would find something, or a promotion.
func (s *seat) peek(c *conn, claims []claim) (work bool, next time.Duration, err error) {
	now := s.db.now()
	_, gates, err := readGates(c, claims, now)
	if err != nil {
		return false, 0, err
	}
	for _, claim := range claims {
		work, err := c.exists(claim.best, append([]any{now, 1}, claim.args(gates)...)...)
		if err != nil || work {
			return work, 0, err
		}
	}
	next, work, err = nextDue(c, now)
	return work, sooner(next, gates.wait(now)), err
}

// sooner is the earlier of two waits, where 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// stillHeld is which of the attempts this worker holds, now.
func (s *seat) stillHeld(t *tx, claimed []jobs.Claimed) (held []jobs.Claimed, err error) {
	for _, c := range claimed {
		yes, err := t.exists(`SELECT 1 FROM sync_jobs WHERE id = ? AND status = 'running' AND lease_token = ? AND lease_owner = ?`,
			c.ID, c.Token, s.id)
		if err != nil {
			return nil, err
		}
		if yes {
			held = append(held, c)
		}
	}
	return held, nil
}

// AnyLeft implements jobs.Seat.
func (s *seat) AnyLeft(_ context.Context, want jobs.Want) (left bool, err error) {
	var queues []string
	for _, p := range want.Pools {
		queues = append(queues, p.Queues...)
	}
	var arms []string
	for _, status := range []string{`'running'`, `'pending' AND due = 1`, `'pending' AND due = 0`} {
		arms = append(arms, `SELECT 1 FROM sync_jobs WHERE status = `+status+`
			AND queue IN (SELECT value FROM json_each(?1)) AND job_type IN (SELECT value FROM json_each(?2))`)
	}
	err = s.db.read(func(c *conn) error {
		all, err := readPolicies(c)
		if err != nil {
			return err
		}
		// What is paused is not this worker's to do.
		queueList, _ := json.Marshal(slices.DeleteFunc(queues, func(q string) bool { return all[policyOf{jobs.OfQueue, q, byOperator}].Paused })) // strings: no error
		typeList, _ := json.Marshal(slices.DeleteFunc(slices.Clone(want.Types), func(t string) bool { return all[policyOf{jobs.OfType, t, byOperator}].Paused }))
		left, err = c.exists(strings.Join(arms, " UNION ALL ")+` LIMIT 1`, queueList, typeList)
		return err
	})
	return left, wrapError("left", err)
}
