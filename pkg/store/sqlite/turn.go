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
		all, err := readPolicies(t.conn)
		if err != nil {
			return err
		}
		gates, err := gatesOf(t.conn, all, t.now)
		if err != nil {
			return err
		}
		for _, c := range claims {
			if err := s.claimAll(t, c, want, all, gates, &turn.Claimed); err != nil {
				return err
			}
		}
		if err := t.noteStarts(gates); err != nil {
			return err
		}
		turn.Next, err = nextDue(t.conn, t.now)
		turn.Next = sooner(turn.Next, gates.opens(t.now))
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
// takes are a union of unions. ?1 is the time, ?2 the limit; from ?3 on stand the
// arms' queues and types.
type claim struct {
	best string
	arms []arm
	free int
}

type arm struct{ queue, jobType string }

// open binds the arms: NULL for the queue of one that a gate has closed.
func (c claim) open(gates gates) (args []any) {
	for _, a := range c.arms {
		if gates.open(a.jobType, a.queue) {
			args = append(args, a.queue, a.jobType)
		} else {
			args = append(args, nil, a.jobType)
		}
	}
	return args
}

const armColumns = `id, priority, run_at`

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
				c.arms = append(c.arms, arm{queue, jobType})
				arms = append(arms, fmt.Sprintf(`SELECT `+armColumns+` FROM sync_jobs
					WHERE status = 'pending' AND due = 1 AND queue = ?%d AND job_type = ?%d AND run_at <= ?1`, 2*len(c.arms)+1, 2*len(c.arms)+2))
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
	all, err := readPolicies(c)
	if err != nil {
		return false, 0, err
	}
	gates, err := gatesOf(c, all, now)
	if err != nil {
		return false, 0, err
	}
	for _, claim := range claims {
		err := c.query(claim.best, found, append([]any{now, 1}, claim.open(gates)...)...)
		if err != nil || work {
			return work, 0, err
		}
	}
	err = c.query(`SELECT 1 FROM sync_jobs WHERE status = 'pending' AND due = 0 AND run_at <= ? LIMIT 1`, found, now)
	if err != nil || work {
		return work, 0, err
	}
	next, err = nextDue(c, now)
	return false, sooner(next, gates.opens(now)), err
}

// sooner is the earlier of two waits, where 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// claimAll takes jobs for one pool, in one statement where nothing bounds them.
// Else it takes the best up to where a gate closes, and goes on without that
// gate's arms: what is taken is always the best of what may be.
func (s *seat) claimAll(t *tx, c claim, want jobs.Want, all policies, gates gates, into *[]jobs.Claimed) error {
	for free, more := c.free, true; more; {
		n, args := free, c.open(gates)
		more = false
		if len(gates) > 0 {
			var err error
			if n, more, err = c.upToGate(t.conn, gates, free, t.now, args); err != nil || n == 0 {
				return err
			}
		}
		before := len(*into)
		if err := s.claim(t, c, n, args, want, all, into); err != nil {
			return err
		}
		claimed := (*into)[before:]
		for i, j := range claimed {
			gates.pass(j.Type, j.Queue)
			claimed[i].Retry = all.retry(j.Type, j.Queue)
		}
		free -= n
	}
	return nil
}

// upToGate is how many of the best jobs may be taken before a gate closes that
// the next one would have to pass.
func (c claim) upToGate(conn *conn, gates gates, free int, now float64, args []any) (n int, closes bool, err error) {
	passing := gates.copy()
	typed := strings.ReplaceAll(c.best, armColumns, armColumns+", job_type, queue")
	err = conn.query(typed, func(s *sqlite3.Stmt) error {
		jobType, queue := s.ColumnText(3), s.ColumnText(4)
		if closes = closes || !passing.open(jobType, queue); !closes {
			passing.pass(jobType, queue)
			n++
		}
		return nil
	}, append([]any{now, free}, args...)...)
	return n, closes, err
}

// claim takes the n best jobs of a pool's arms. What the job does not name itself
// (attempts, timeout) is stored with its first claim, so that the reaper knows it too.
func (s *seat) claim(t *tx, c claim, best int, arms []any, want jobs.Want, all policies, into *[]jobs.Claimed) error {
	n := len(arms) + 3
	attempts, timeout := "max_attempts", "timeout"
	if len(all) > 0 {
		attempts, timeout = inClaim(attempts), inClaim(timeout)
	}
	sql := fmt.Sprintf(`UPDATE sync_jobs SET
			status = 'running', attempts = attempts + 1, started_at = ?1, due = 0, error = NULL, progress = NULL,
			lease_owner = ?%d, lease_token = lease_token + 1, lease_expires_at = ?%d,
			max_attempts = coalesce(%s, ?%d), timeout = coalesce(%s, ?%d),
			unique_key = iif(unique_for = 'pending', NULL, unique_key)
		WHERE id IN (SELECT id FROM (%s)) AND status = 'pending'
		RETURNING id, lease_token, job_type, queue, payload, priority, attempts, max_attempts, timeout, created_at, run_at, meta`,
		n, n+1, attempts, n+2, timeout, n+3, c.best)
	args := append([]any{t.now, best}, arms...)
	args = append(args, s.id, t.mono+want.TTL.Milliseconds(), want.Limit.MaxAttempts, want.Limit.Timeout.Seconds())
	db := s.db
	return t.query(sql, func(s *sqlite3.Stmt) error {
		c := jobs.Claimed{
			Ref:  jobs.Ref{ID: s.ColumnInt64(0), Token: s.ColumnInt64(1)},
			Type: s.ColumnText(2), Queue: s.ColumnText(3), Payload: s.ColumnBlob(4, nil),
			Priority: s.ColumnInt(5), Attempt: s.ColumnInt(6), MaxAttempts: s.ColumnInt(7),
			Timeout:   seconds(s.ColumnFloat(8)),
			CreatedAt: jobs.Seconds(s.ColumnFloat(9)).Time(), RunAt: jobs.Seconds(s.ColumnFloat(10)).Time(),
		}
		if s.ColumnType(11) != sqlite3.NULL && json.Unmarshal(s.ColumnRawText(11), &c.Meta) != nil {
			// Anybody may write it, and the job is worth more.
			db.log.Warn("meta is no JSON object of strings: taken for none", zap.Int64("job", c.ID))
			c.Meta = nil
		}
		*into = append(*into, c)
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
