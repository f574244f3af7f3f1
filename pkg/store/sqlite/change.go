package sqlite

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// A bite is one transaction of a change. It holds the write lock for about
// biteTime, its commit included, however large the rows are; then others have
// biteGap to come in, as SQLite's waiting processes stand in no queue.
const (
	biteTime = 15 * time.Millisecond
	biteGap  = 5 * time.Millisecond
)

// candidateLimit bounds what is read at a time, with biteTime: a long read would
// keep the -wal file from being copied back.
const candidateLimit = 5000

// match is a jobs.Filter without its ids as SQL, for matchArgs.
const match = `(?1 = '' OR job_type = ?1) AND (?2 = '' OR queue = ?2) AND (?3 = '' OR status = ?3)
	AND (?4 IS NULL OR status IN ('completed', 'failed', 'cancelled') AND completed_at < ?4)`

func matchArgs(f jobs.Filter) []any {
	var ended any
	if !f.EndedBefore.IsZero() {
		ended = float64(jobs.SecondsOf(f.EndedBefore))
	}
	return []any{f.Type, f.Queue, string(f.Status), ended}
}

// allowed is what jobs.Verb.Allows says.
func allowed(v jobs.Verb) string {
	if v.Allows(jobs.Completed) {
		return `status <> 'running'`
	}
	return `status IN ('pending', 'running')`
}

// changing is a change under way.
type changing struct {
	db      *DB
	filter  jobs.Filter
	change  jobs.Change
	time    time.Duration // for the statements of the next bite
	changed jobs.Changed
}

// Change implements jobs.Operator.
func (db *DB) Change(ctx context.Context, f jobs.Filter, c jobs.Change) (jobs.Changed, error) {
	if err := c.Check(f); err != nil {
		return jobs.Changed{}, wrapError("change", err)
	}
	g := &changing{db: db, filter: f, change: c, time: biteTime / 5}
	if f.IDs != nil {
		ids := slices.Clone(f.IDs)
		slices.Sort(ids)
		err := g.all(ctx, slices.Compact(ids))
		return g.changed, wrapError(string(c.Verb), err)
	}
	var last int64 // what is enqueued from now on is not meant
	err := db.readers.QueryRowContext(ctx, `SELECT coalesce(max(id), 0) FROM sync_jobs`).Scan(&last)
	for after := int64(math.MinInt64); err == nil && after < last; {
		var ids []int64
		if ids, after, err = g.candidates(ctx, after, last); err == nil {
			err = g.all(ctx, ids)
		}
	}
	return g.changed, wrapError(string(c.Verb), err)
}

// candidates reads on from the id after: which of the next jobs are meant, and
// how far it came.
func (g *changing) candidates(ctx context.Context, after, last int64) (ids []int64, came int64, err error) {
	rows, err := g.db.readers.QueryContext(ctx, candidatesOf(g.change.Verb), append(matchArgs(g.filter), after, last, candidateLimit)...)
	if err != nil {
		return nil, after, err
	}
	defer rows.Close()
	n := 0
	for start := time.Now(); rows.Next(); {
		var id int64
		var meant bool
		if err := rows.Scan(&id, &meant); err != nil {
			return nil, after, err
		}
		if n, came = n+1, id; meant {
			ids = append(ids, id)
		}
		if time.Since(start) > biteTime {
			return ids, came, nil
		}
	}
	if n < candidateLimit {
		came = last
	}
	return ids, came, rows.Err()
}

func candidatesOf(v jobs.Verb) string {
	return `SELECT id, coalesce(` + allowed(v) + ` AND ` + match + `, 0) FROM sync_jobs
		WHERE id > ?5 AND id <= ?6 ORDER BY id LIMIT ?7`
}

// all changes those of the jobs that are still meant.
func (g *changing) all(ctx context.Context, ids []int64) error {
	for len(ids) > 0 {
		looked, err := g.bite(ctx, ids)
		if err != nil {
			return err
		}
		if g.change.Report != nil {
			g.change.Report(g.changed.Count)
		}
		if ids = ids[looked:]; len(ids) == 0 {
			break
		}
		select {
		case <-time.After(biteGap):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// bite changes as many of the jobs, one or more, as there is time for, and says
// of how many it looked at.
func (g *changing) bite(ctx context.Context, ids []int64) (looked int, err error) {
	b := &bite{changing: g, ids: ids}
	if err := g.db.writer.do(ctx, b.run); err != nil {
		return 0, err
	}
	// The commit is slow where the rows are large, which the statements' time alone
	// does not tell.
	if time.Since(b.began) > biteTime {
		g.time = max(g.time/2, time.Millisecond)
	} else {
		g.time = min(g.time*5/4, biteTime*3/5)
	}
	g.changed.Count += int64(len(b.changed))
	if g.filter.IDs != nil {
		g.changed.IDs = append(g.changed.IDs, b.changed...)
	}
	return b.looked, nil
}

// bite is one operation of the writer.
type bite struct {
	*changing
	ids     []int64
	looked  int // how many of them it came to
	changed []int64
	at      float64 // when it changed them
	began   time.Time
}

func (b *bite) run(t *tx) error {
	if t.again && len(b.changed) > 0 {
		done, err := b.happened(t, b.changed[0])
		if err != nil || done {
			return err
		}
	}
	b.began, b.at, b.looked, b.changed = time.Now(), t.now, 0, nil
	for ; b.looked < len(b.ids) && (b.looked == 0 || time.Since(b.began) < b.time); b.looked++ {
		id := b.ids[b.looked]
		n, err := b.one(t, id)
		if err != nil {
			return fmt.Errorf("job %d: %w", id, err)
		}
		if n == 1 {
			b.changed = append(b.changed, id)
		}
	}
	return nil
}

// one changes the job if it is meant still.
func (b *bite) one(t *tx, id int64) (n int64, err error) {
	var of arm
	var pending int64
	const before = `queue, job_type, status = 'pending'`
	was := func(s *sqlite3.Stmt) error {
		of, pending = arm{s.ColumnText(0), s.ColumnText(1)}, s.ColumnInt64(2)
		return nil
	}
	if b.change.Verb == jobs.Retry || b.change.Verb == jobs.Cancel {
		if err := t.query(`SELECT `+before+` FROM sync_jobs WHERE id = ?`, was, id); err != nil {
			return 0, err
		}
	}
	args := append(matchArgs(b.filter), id)
	where := ` WHERE id = ?5 AND ` + allowed(b.change.Verb) + ` AND ` + match
	switch b.change.Verb {
	case jobs.Retry:
		// One that is due already keeps its place.
		if n, err = t.exec(`UPDATE sync_jobs SET
				status = 'pending', run_at = iif(status = 'pending', min(run_at, ?6), ?6), due = 1,
				max_attempts = max(max_attempts, attempts + 1), completed_at = NULL, result = NULL`+where, append(args, t.now)...); n == 1 {
			t.count(of.queue, of.jobType, 0, 1-pending)
		}
	case jobs.Cancel:
		if n, err = t.exec(`UPDATE sync_jobs SET
				status = 'cancelled', completed_at = ?6, due = 0, lease_expires_at = NULL, progress = NULL,
				unique_key = iif(unique_for = 'forever', unique_key, NULL)`+where, append(args, t.now)...); n == 1 {
			t.count(of.queue, of.jobType, 0, -pending)
		}
	case jobs.Delete:
		err = t.query(`DELETE FROM sync_jobs`+where+` RETURNING `+before, was, args...)
		if n = t.Changes(); err == nil && n == 1 {
			t.count(of.queue, of.jobType, -1, -pending)
			_, err = t.exec(`DELETE FROM sync_job_errors WHERE job_id = ?`, id)
		}
	default:
		n, err = t.exec(`UPDATE sync_jobs SET priority = ?6`+where, append(args, b.change.Priority)...)
	}
	return n, err
}

// happened proves a bite whose commit failed by one of the jobs that it changed.
// What can't be proven is done again: a job that was made pending and has failed
// since is made due once more, and a priority is what it was.
func (b *bite) happened(t *tx, id int64) (bool, error) {
	switch b.change.Verb {
	case jobs.Retry:
		return t.exists(`SELECT 1 FROM sync_jobs WHERE id = ? AND run_at = ?`, id, b.at)
	case jobs.Cancel:
		return t.exists(`SELECT 1 FROM sync_jobs WHERE id = ? AND status = 'cancelled' AND completed_at = ?`, id, b.at)
	case jobs.Delete:
		there, err := t.exists(`SELECT 1 FROM sync_jobs WHERE id = ?`, id)
		return !there, err
	default:
		return false, nil
	}
}
