package sqlite

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// countAll counts what is not counted by queue and type. What has completed is the
// rest of all: SQLite counts all rows of a table much faster than some.
const countAll = `SELECT
	(SELECT count(*) FROM sync_jobs),
	(SELECT count(*) FROM sync_jobs WHERE status = 'failed'),
	(SELECT count(*) FROM sync_jobs WHERE status = 'cancelled'),
	(SELECT count(*) FROM sync_job_errors WHERE rejected IS NOT NULL)`

// What is due lies in its index by queue and type: to look each pair up and count its
// run takes half of what GROUP BY does.
const (
	firstDue = `SELECT queue, job_type FROM sync_jobs WHERE status = 'pending' AND due = 1
		ORDER BY queue, job_type LIMIT 1`
	dueAfter = `SELECT queue, job_type FROM sync_jobs WHERE status = 'pending' AND due = 1 AND queue = ?1 AND job_type > ?2
		UNION ALL SELECT queue, job_type FROM sync_jobs WHERE status = 'pending' AND due = 1 AND queue > ?1
		ORDER BY queue, job_type LIMIT 1` // a row value's comparison would read all of the pair before
	countDue = `SELECT count(*) FROM sync_jobs WHERE status = 'pending' AND due = 1 AND queue = ? AND job_type = ?`
)

// These lie in theirs by time, or by worker: GROUP BY would sort them.
const (
	allDelayed = `SELECT queue, job_type FROM sync_jobs WHERE status = 'pending' AND due = 0`
	allRunning = `SELECT queue, job_type FROM sync_jobs WHERE status = 'running'`
)

// Stats implements jobs.Inspector. What it counts is of one moment.
func (db *DB) Stats(ctx context.Context) (s jobs.Stats, err error) {
	workers, err := db.Workers(ctx)
	if err != nil {
		return s, err
	}
	s.WALBytes = db.walBytes()
	for _, w := range workers {
		s.Workers++
		s.Stuck += int64(w.Stuck)
		if w.Leader {
			s.Leader = w.ID
		}
	}
	unfinished := make(tally)
	err = db.inspect(ctx, func(c *conn) error {
		err := c.query(countAll, func(row *sqlite3.Stmt) error {
			s.Completed, s.Failed, s.Cancelled, s.Rejected = row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2), row.ColumnInt64(3)
			return nil
		})
		if err != nil {
			return err
		}
		if err := unfinished.due(c); err != nil {
			return err
		}
		if err := unfinished.each(c, allDelayed, func(of *jobs.TypeStats) { of.Pending++ }); err != nil {
			return err
		}
		return unfinished.each(c, allRunning, func(of *jobs.TypeStats) { of.Running++ })
	})
	if err != nil {
		return jobs.Stats{}, wrapError("stats", err)
	}
	s.Types = []jobs.TypeStats{}
	for _, t := range unfinished {
		s.Pending += t.Pending
		s.Running += t.Running
		t.Handled = slices.ContainsFunc(workers, func(w jobs.WorkerRow) bool { return w.Handles(t.Type, t.Queue) })
		s.Types = append(s.Types, *t)
	}
	slices.SortFunc(s.Types, func(a, b jobs.TypeStats) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Queue, b.Queue))
	})
	s.Completed -= s.Failed + s.Cancelled + s.Pending + s.Running
	return s, nil
}

// inspect has look read in one transaction. Where it takes long, nobody waits for it:
// the connection is one of those for people.
func (db *DB) inspect(ctx context.Context, look func(*conn) error) error {
	pooled, err := db.readers.Conn(ctx)
	if err != nil {
		return err
	}
	defer pooled.Close()
	return pooled.Raw(func(raw any) (err error) {
		c := wrap(raw.(driver.Conn).Raw())
		defer func() { err = errors.Join(err, c.forget()) }()
		if err := c.Exec(`BEGIN`); err != nil {
			return err
		}
		defer c.rollback()
		before := c.SetInterrupt(ctx)
		defer c.SetInterrupt(before)
		return look(c)
	})
}

// tally is the counts of unfinished jobs.
type tally map[arm]*jobs.TypeStats

func (t tally) of(a arm) *jobs.TypeStats {
	if t[a] == nil {
		t[a] = &jobs.TypeStats{Type: a.jobType, Queue: a.queue}
	}
	return t[a]
}

// due counts the jobs that are due.
func (t tally) due(c *conn) error {
	for next, args := firstDue, []any(nil); ; next = dueAfter {
		var of *jobs.TypeStats
		err := c.query(next, func(row *sqlite3.Stmt) error {
			of = t.of(arm{row.ColumnText(0), row.ColumnText(1)})
			return nil
		}, args...)
		if err != nil || of == nil {
			return err
		}
		args = []any{of.Queue, of.Type}
		if err := c.query(countDue, func(row *sqlite3.Stmt) error { of.Pending = row.ColumnInt64(0); return nil }, args...); err != nil {
			return err
		}
	}
}

// each has count count each job of a statement that returns queues and types.
func (t tally) each(c *conn, sql string, count func(*jobs.TypeStats)) error {
	var of *jobs.TypeStats // as a rule the next one's, too
	return c.query(sql, func(row *sqlite3.Stmt) error {
		queue, jobType := row.ColumnRawText(0), row.ColumnRawText(1)
		if of == nil || string(queue) != of.Queue || string(jobType) != of.Type {
			of = t.of(arm{string(queue), string(jobType)})
		}
		count(of)
		return nil
	})
}
