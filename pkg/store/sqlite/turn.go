package sqlite

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Turn implements jobs.Seat.
func (s *seat) Turn(ctx context.Context, outcomes []jobs.Outcome, want jobs.Want) (jobs.Turn, error) {
	claims := s.claims(want)
	if len(outcomes) == 0 {
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
	err := s.db.writer.do(ctx, func(t *tx) error {
		before := turn.Claimed
		turn = jobs.Turn{}
		for _, o := range outcomes {
			accepted, err := s.finish(t, o)
			if err != nil && broken(err) {
				return err
			}
			if err != nil {
				// Others are not to wait for it; its lease will end.
				s.db.log.Error("outcome can't be written", zap.Int64("job", o.ID), zap.Error(err))
			}
			if !accepted {
				turn.Rejected = append(turn.Rejected, o.Ref)
				if err := t.reject(o); err != nil {
					return err
				}
			}
		}
		if t.again {
			for _, c := range before {
				holds, err := s.holds(t, c.Ref)
				if err != nil {
					return err
				}
				if holds {
					turn.Claimed = append(turn.Claimed, c)
				}
			}
			if len(turn.Claimed) > 0 { // the commit that failed has happened
				return nil
			}
		}
		if len(claims) == 0 {
			return nil
		}
		if err := t.promote(); err != nil {
			return err
		}
		for _, c := range claims {
			if err := s.claim(t, c, want, &turn.Claimed); err != nil {
				return err
			}
		}
		var err error
		turn.Next, err = nextDue(t.conn, t.now)
		return err
	})
	if err != nil {
		return jobs.Turn{}, wrapError("turn", err)
	}
	slices.SortFunc(turn.Claimed, byOrder)
	return turn, nil
}

// byOrder is the order of claims: RETURNING gives rows in none.
func byOrder(a, b jobs.Claimed) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.RunAt.Compare(b.RunAt), cmp.Compare(a.ID, b.ID))
}

// A bite of delayed jobs is promoted at a time, until all that have come due
// are or until others have waited long enough for the write lock.
const (
	promoteBite = 1000
	promoteTime = 25 * time.Millisecond
)

// promote marks the pending jobs whose time has come as due, which is what a
// claim sees. It orders nothing: a backlog of a million delayed jobs costs the
// claim one look at an index.
func (t *tx) promote() error {
	for start := time.Now(); time.Since(start) < promoteTime; {
		n, err := t.exec(`UPDATE sync_jobs SET due = 1 WHERE id IN (
			SELECT id FROM sync_jobs WHERE status = 'pending' AND due = 0 AND run_at <= ? ORDER BY run_at LIMIT ?)`,
			t.now, promoteBite)
		if err != nil || n < promoteBite {
			return err
		}
	}
	return nil
}

// nextDue is how long until the earliest delayed job is due; 0: there is none.
// One that is due already counts as a moment away.
func nextDue(c *conn, now float64) (wait time.Duration, err error) {
	err = c.query(`SELECT run_at FROM sync_jobs WHERE status = 'pending' AND due = 0 ORDER BY run_at LIMIT 1`,
		func(s *sqlite3.Stmt) error {
			wait = max(seconds(s.ColumnFloat(0)-now), time.Millisecond)
			return nil
		})
	return wait, err
}

// maxArms bounds the arms of one union: SQLite compiles them one inside the
// other, and they fill its stack.
const maxArms = 50

// claim is what a pool's claim asks for, as SQL: one arm for each queue and
// type, as each has its run of the index, and ORDER BY and LIMIT on their union
// itself, which SQLite then merges instead of sorting. More arms than one union
// takes are a union of unions. ?1 is the time, ?2 the limit.
type claim struct {
	best string
	args []any // from ?3 on
	free int
}

const bestFirst = ` ORDER BY priority DESC, run_at, id LIMIT ?2`

func (s *seat) claims(want jobs.Want) (claims []claim) {
	for _, p := range want.Pools {
		if p.Free == 0 {
			continue
		}
		c := claim{free: p.Free}
		var arms []string
		for _, queue := range p.Queues {
			for _, jobType := range want.Types {
				c.args = append(c.args, queue, jobType)
				arms = append(arms, fmt.Sprintf(`SELECT id, priority, run_at FROM sync_jobs
					WHERE status = 'pending' AND due = 1 AND queue = ?%d AND job_type = ?%d AND run_at <= ?1`, len(c.args)+1, len(c.args)+2))
			}
		}
		var unions []string
		for some := range slices.Chunk(arms, maxArms) {
			unions = append(unions, strings.Join(some, " UNION ALL ")+bestFirst)
		}
		if c.best = unions[0]; len(unions) > 1 {
			c.best = `SELECT * FROM (` + strings.Join(unions, `) UNION ALL SELECT * FROM (`) + `)` + bestFirst
		}
		claims = append(claims, c)
	}
	return claims
}

// peek says whether a claim would find something, or a promotion.
func (s *seat) peek(c *conn, claims []claim) (work bool, next time.Duration, err error) {
	now := s.db.now()
	found := func(*sqlite3.Stmt) error { work = true; return nil }
	for _, claim := range claims {
		err := c.query(claim.best, found, append([]any{now, 1}, claim.args...)...)
		if err != nil || work {
			return work, 0, err
		}
	}
	err = c.query(`SELECT 1 FROM sync_jobs WHERE status = 'pending' AND due = 0 AND run_at <= ? LIMIT 1`, found, now)
	if err != nil || work {
		return work, 0, err
	}
	next, err = nextDue(c, now)
	return false, next, err
}

// claim takes jobs for one pool. What the job does not name itself (attempts,
// timeout) is stored with its first claim, so that the reaper knows it too.
func (s *seat) claim(t *tx, c claim, want jobs.Want, into *[]jobs.Claimed) error {
	n := len(c.args) + 3
	sql := fmt.Sprintf(`UPDATE sync_jobs SET
			status = 'running', attempts = attempts + 1, started_at = ?1, due = 0, error = NULL, progress = NULL,
			lease_owner = ?%d, lease_token = lease_token + 1, lease_expires_at = ?%d,
			max_attempts = coalesce(max_attempts, ?%d), timeout = coalesce(timeout, ?%d),
			unique_key = iif(unique_for = 'pending', NULL, unique_key)
		WHERE id IN (SELECT id FROM (%s)) AND status = 'pending'
		RETURNING id, lease_token, job_type, queue, payload, priority, attempts, max_attempts, timeout, created_at, run_at`,
		n, n+1, n+2, n+3, c.best)
	args := append([]any{t.now, c.free}, c.args...)
	args = append(args, s.id, t.mono+want.TTL.Milliseconds(), want.Limit.MaxAttempts, want.Limit.Timeout.Seconds())
	return t.query(sql, func(s *sqlite3.Stmt) error {
		*into = append(*into, jobs.Claimed{
			Ref:  jobs.Ref{ID: s.ColumnInt64(0), Token: s.ColumnInt64(1)},
			Type: s.ColumnText(2), Queue: s.ColumnText(3), Payload: s.ColumnBlob(4, nil),
			Priority: s.ColumnInt(5), Attempt: s.ColumnInt(6), MaxAttempts: s.ColumnInt(7),
			Timeout:   seconds(s.ColumnFloat(8)),
			CreatedAt: jobs.Seconds(s.ColumnFloat(9)).Time(), RunAt: jobs.Seconds(s.ColumnFloat(10)).Time(),
		})
		return nil
	}, args...)
}

// holds says whether the attempt is this worker's, now.
func (s *seat) holds(t *tx, ref jobs.Ref) (holds bool, err error) {
	err = t.query(`SELECT 1 FROM sync_jobs WHERE id = ? AND status = 'running' AND lease_token = ? AND lease_owner = ?`,
		func(*sqlite3.Stmt) error { holds = true; return nil }, ref.ID, ref.Token, s.id)
	return holds, err
}

// Left implements jobs.Seat.
func (s *seat) Left(_ context.Context, want jobs.Want) (left bool, err error) {
	var queues []string
	for _, p := range want.Pools {
		queues = append(queues, p.Queues...)
	}
	queueList, _ := json.Marshal(queues) // strings: no error
	typeList, _ := json.Marshal(want.Types)
	var arms []string
	for _, status := range []string{`'running'`, `'pending' AND due = 1`, `'pending' AND due = 0`} {
		arms = append(arms, `SELECT 1 FROM sync_jobs WHERE status = `+status+`
			AND queue IN (SELECT value FROM json_each(?1)) AND job_type IN (SELECT value FROM json_each(?2))`)
	}
	err = s.db.read(func(c *conn) error {
		return c.query(strings.Join(arms, " UNION ALL ")+` LIMIT 1`,
			func(*sqlite3.Stmt) error { left = true; return nil }, queueList, typeList)
	})
	return left, wrapError("left", err)
}

// seconds is a duration in seconds; what is longer than some 30 years is that
// long: anybody may write such numbers.
func seconds(s float64) time.Duration {
	return time.Duration(max(-1e9, min(s, 1e9)) * float64(time.Second))
}

func wrapError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
