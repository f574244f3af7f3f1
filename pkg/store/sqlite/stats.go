package sqlite

import (
	"cmp"
	"context"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// counts is what there is of each status, by queue and type where it is unfinished. It
// is one statement, so that all of it is of one moment. What has completed is the rest:
// SQLite counts all rows of a table much faster than some, where the count is all that
// is asked. What is due lies in its index by queue and type: to walk from each pair to
// the next and count its run takes half of what GROUP BY does, for hundreds of pairs, as
// a fleet may handle. The delayed and the running lie in theirs by time and by worker:
// GROUP BY would sort them.
const counts = `
	WITH queues(q) AS (
		SELECT min(queue) FROM sync_jobs WHERE status = 'pending' AND due = 1
		UNION ALL SELECT (SELECT min(queue) FROM sync_jobs WHERE status = 'pending' AND due = 1 AND queue > q)
			FROM queues WHERE q IS NOT NULL),
	pairs(q, t) AS (
		SELECT q, (SELECT min(job_type) FROM sync_jobs WHERE status = 'pending' AND due = 1 AND queue = q)
			FROM queues WHERE q IS NOT NULL
		UNION ALL SELECT q, (SELECT min(job_type) FROM sync_jobs WHERE status = 'pending' AND due = 1 AND queue = q AND job_type > t)
			FROM pairs WHERE t IS NOT NULL)
	SELECT 'all', '', '', (SELECT count(*) FROM sync_jobs)
	UNION ALL SELECT 'failed', '', '', count(*) FROM sync_jobs WHERE status = 'failed'
	UNION ALL SELECT 'cancelled', '', '', count(*) FROM sync_jobs WHERE status = 'cancelled'
	UNION ALL SELECT 'rejected', '', '', count(*) FROM sync_job_errors WHERE rejected IS NOT NULL
	UNION ALL SELECT 'pending', q, t, (SELECT count(*) FROM sync_jobs WHERE status = 'pending' AND due = 1 AND queue = q AND job_type = t)
		FROM pairs WHERE t IS NOT NULL
	UNION ALL SELECT 'pending', queue, job_type, 1 FROM sync_jobs WHERE status = 'pending' AND due = 0
	UNION ALL SELECT 'running', queue, job_type, 1 FROM sync_jobs WHERE status = 'running'`

// Stats implements jobs.Inspector.
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
	all, err := db.count(ctx, &s, unfinished)
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
	s.Completed = all - s.Failed - s.Cancelled - s.Pending - s.Running
	return s, nil
}

// count runs counts: it fills in s and unfinished, and returns how many jobs there are.
func (db *DB) count(ctx context.Context, s *jobs.Stats, unfinished tally) (all int64, err error) {
	err = db.browse(ctx, func(c *conn) error {
		var of *jobs.TypeStats // of the last row; as a rule of the next one, too
		return c.query(counts, func(row *sqlite3.Stmt) error {
			n := row.ColumnInt64(3)
			switch string(row.ColumnRawText(0)) {
			case "all":
				all = n
			case "failed":
				s.Failed = n
			case "cancelled":
				s.Cancelled = n
			case "rejected":
				s.Rejected = n
			case "pending":
				of = unfinished.of(of, row)
				of.Pending += n
			case "running":
				of = unfinished.of(of, row)
				of.Running += n
			}
			return nil
		})
	})
	return all, err
}

// tally is the counts of unfinished jobs.
type tally map[arm]*jobs.TypeStats

// of is what the row is of: last, perhaps.
func (t tally) of(last *jobs.TypeStats, row *sqlite3.Stmt) *jobs.TypeStats {
	queue, jobType := row.ColumnRawText(1), row.ColumnRawText(2)
	if last != nil && string(queue) == last.Queue && string(jobType) == last.Type {
		return last
	}
	key := arm{string(queue), string(jobType)}
	if t[key] == nil {
		t[key] = &jobs.TypeStats{Type: key.jobType, Queue: key.queue}
	}
	return t[key]
}
