package sqlite

import (
	"cmp"
	"context"
	"slices"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// statsQuery is what there is of each status, by queue and type where it is unfinished. It
// is one statement, so that all of it is of one moment. What has completed is the rest.
// The running lie in their index by worker: GROUP BY would sort them.
const statsQuery = `
	SELECT 'jobs', queue, job_type, jobs, pending FROM sync_counts
	UNION ALL SELECT 'running', queue, job_type, 1, 0 FROM sync_jobs WHERE status = 'running'
	UNION ALL SELECT 'failed', '', '', count(*), 0 FROM sync_jobs WHERE status = 'failed'
	UNION ALL SELECT 'cancelled', '', '', count(*), 0 FROM sync_jobs WHERE status = 'cancelled'
	UNION ALL SELECT 'rejected', '', '', count(*), 0 FROM sync_job_errors WHERE rejected IS NOT NULL`

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
	all, err := db.readStats(ctx, &s, unfinished)
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

// readStats fills in s and unfinished, and returns how many jobs there are.
func (db *DB) readStats(ctx context.Context, s *jobs.Stats, unfinished tally) (all int64, err error) {
	err = db.browse(ctx, func(c *conn) error {
		return c.query(statsQuery, func(row *sqlite3.Stmt) error {
			n := row.ColumnInt64(3)
			switch row.ColumnText(0) {
			case "jobs":
				all += n
				if pending := row.ColumnInt64(4); pending > 0 {
					unfinished.of(row).Pending = pending
				}
			case "running":
				unfinished.of(row).Running++
			case "failed":
				s.Failed = n
			case "cancelled":
				s.Cancelled = n
			case "rejected":
				s.Rejected = n
			}
			return nil
		})
	})
	return all, err
}

// tally is the counts of unfinished jobs.
type tally map[arm]*jobs.TypeStats

// of is what the row is of.
func (t tally) of(row *sqlite3.Stmt) *jobs.TypeStats {
	key := arm{row.ColumnText(1), row.ColumnText(2)}
	if t[key] == nil {
		t[key] = &jobs.TypeStats{Type: key.jobType, Queue: key.queue}
	}
	return t[key]
}
