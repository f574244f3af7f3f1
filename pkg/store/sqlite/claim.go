package sqlite

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/jobs"
)

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
	now  int // the first of those get slots that are free now: nothing with gates is claimed beyond them
}

type arm struct{ queue, jobType string }

// armQuery is one arm, by the numbers of its parameters.
const armQuery = `SELECT id, priority, run_at FROM sync_jobs
	WHERE status = 'pending' AND due = 1 AND queue = ?%d AND job_type = ?%d AND run_at <= ?1`

// args binds the arms: NULL for the queue of one that a gate has closed.
func (c claim) args(gates gates) (args []any) {
	for _, a := range c.arms {
		if gates.of(a.jobType, a.queue).room() > 0 {
			args = append(args, a.queue, a.jobType)
		} else {
			args = append(args, nil, a.jobType)
		}
	}
	return args
}

// The limit is a sum, as SQLite plans a statement anew each time that a bare
// parameter there is bound.
const bestFirst = ` ORDER BY priority DESC, run_at, id LIMIT ?2 + 0`

func claimsOf(want jobs.Want) (claims []claim) {
	for _, p := range want.Pools {
		if p.Free == 0 {
			continue
		}
		c := claim{free: p.Free, now: p.Free - p.Ahead}
		var arms []string
		for _, queue := range p.Queues {
			for _, jobType := range want.Types {
				c.arms = append(c.arms, arm{queue, jobType})
				arms = append(arms, fmt.Sprintf(armQuery, 2*len(c.arms)+1, 2*len(c.arms)+2))
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

// claimPool claims jobs for one pool: the best there are or, where there are gates,
// the best that pass them.
func (s *seat) claimPool(t *tx, c claim, want jobs.Want, all policies, gates gates, into *[]jobs.Claimed) error {
	if len(gates) == 0 {
		*into = slices.Grow(*into, min(c.free, 100)) // a busy worker gets as many
		return s.claim(t, c.best, append([]any{t.now, c.free}, c.args(nil)...), want, all, into)
	}
	ids, err := c.passing(t.conn, gates, t.now)
	if err != nil || len(ids) == 0 {
		return err
	}
	list, _ := json.Marshal(ids) // numbers: no error
	return s.claim(t, `SELECT value AS id FROM json_each(?2)`, []any{t.now, list}, want, all, into)
}

// candidate is a job that could be claimed.
type candidate struct {
	id       int64
	priority int64
	runAt    float64
	gates    gates
}

// passing has the best jobs pass the gates, as many as there are slots. Of each
// arm it looks at no more than could pass, and then at all of them, best first.
func (c claim) passing(conn *conn, gates gates, now float64) (ids []int64, err error) {
	var list []candidate
	for _, a := range c.arms {
		of := gates.of(a.jobType, a.queue)
		room := min(c.free, of.room())
		if room == 0 {
			continue
		}
		err := conn.query(fmt.Sprintf(armQuery, 3, 4)+bestFirst, func(s *sqlite3.Stmt) error {
			list = append(list, candidate{s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnFloat(2), of})
			return nil
		}, now, room, a.queue, a.jobType)
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.runAt, b.runAt), cmp.Compare(a.id, b.id))
	})
	for _, j := range list {
		if len(ids) == c.free || len(j.gates) > 0 && (len(ids) >= c.now || j.gates.room() == 0) {
			continue
		}
		j.gates.pass()
		ids = append(ids, j.id)
	}
	return ids, nil
}

// claim claims the jobs whose ids the query best returns; args are its parameters,
// of which ?1 is the time. What a job does not name itself (attempts, timeout) is
// stored with its first claim, so that the reaper knows it too.
func (s *seat) claim(t *tx, best string, args []any, want jobs.Want, all policies, into *[]jobs.Claimed) error {
	n := len(args) + 1
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
		n, n+1, attempts, n+2, timeout, n+3, best)
	args = append(args, s.id, t.mono+want.TTL.Milliseconds(), want.Limit.MaxAttempts, want.Limit.Timeout.Seconds())
	db := s.db
	var jobType, queue string // as most are the same, they are copied when they differ
	return t.query(sql, func(s *sqlite3.Stmt) error {
		if b := s.ColumnRawText(2); jobType != string(b) {
			jobType = string(b)
		}
		if b := s.ColumnRawText(3); queue != string(b) {
			queue = string(b)
		}
		c := jobs.Claimed{
			Ref:  jobs.Ref{ID: s.ColumnInt64(0), Token: s.ColumnInt64(1)},
			Type: jobType, Queue: queue, Payload: s.ColumnBlob(4, nil),
			Priority: s.ColumnInt(5), Attempt: s.ColumnInt(6), MaxAttempts: s.ColumnInt(7),
			Timeout:   seconds(s.ColumnFloat(8)),
			CreatedAt: jobs.Seconds(s.ColumnFloat(9)).Time(), RunAt: jobs.Seconds(s.ColumnFloat(10)).Time(),
		}
		if s.ColumnType(11) != sqlite3.NULL && json.Unmarshal(s.ColumnRawText(11), &c.Meta) != nil {
			// Anybody may write it, and the job is worth more.
			db.log.Warn("meta is no JSON object of strings: taken for none", zap.Int64("job", c.ID))
			c.Meta = nil
		}
		if len(all) > 0 {
			c.Retry = all.retry(c.Type, c.Queue)
		}
		*into = append(*into, c)
		t.count(queue, jobType, 0, -1)
		return nil
	}, args...)
}

// byOrder is the order of claims: RETURNING gives rows in none.
func byOrder(a, b jobs.Claimed) int {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.RunAt.Compare(b.RunAt), cmp.Compare(a.ID, b.ID))
}
