package sqlite

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

const rowColumns = `id, job_type, queue, status, priority, attempts, max_attempts, timeout, created_at, run_at, started_at, completed_at,
	unique_key, lease_owner, lease_token, lease_expires_at, error, payload, meta, result, progress`

// Jobs implements jobs.Inspector.
func (db *DB) Jobs(ctx context.Context, f jobs.Filter) (list []jobs.Row, err error) {
	query, args := listed(f)
	err = db.browse(ctx, func(c *conn) error {
		return c.query(query, func(s *sqlite3.Stmt) error { list = append(list, db.row(s)); return nil }, args...)
	})
	return list, wrapError("list jobs", err)
}

// listed is the query for the jobs that the filter lets through, and its parameters.
func listed(f jobs.Filter) (query string, args []any) {
	query, args = `SELECT `+rowColumns+` FROM sync_jobs WHERE `+match, matchArgs(f)
	if f.Status == jobs.Failed || f.Status == jobs.Cancelled {
		query += ` AND status = '` + string(f.Status) + `'` // which has an index
	}
	if f.IDs != nil {
		ids, _ := json.Marshal(f.IDs) // numbers: no error
		query += ` AND id IN (SELECT value FROM json_each(?5))`
		args = append(args, string(ids))
	}
	return query + ` ORDER BY id DESC LIMIT ?`, append(args, cmp.Or(f.Limit, 100))
}

// Job implements jobs.Inspector.
func (db *DB) Job(ctx context.Context, id int64) (row jobs.Row, history []jobs.Attempt, err error) {
	err = db.browse(ctx, func(c *conn) error {
		err := c.query(`SELECT `+rowColumns+` FROM sync_jobs WHERE id = ?`, func(s *sqlite3.Stmt) error { row = db.row(s); return nil }, id)
		if err != nil {
			return err
		}
		return c.query(`SELECT attempt, lease_token, worker_id, host, pid, started_at, ended_at, ending, error, rejected
			FROM sync_job_errors WHERE job_id = ? ORDER BY lease_token`, func(s *sqlite3.Stmt) error {
			history = append(history, jobs.Attempt{
				Attempt: s.ColumnInt(0), Token: s.ColumnInt64(1), Worker: s.ColumnInt64(2), Host: s.ColumnText(3), PID: s.ColumnInt(4),
				StartedAt: jobs.Seconds(s.ColumnFloat(5)), EndedAt: jobs.Seconds(s.ColumnFloat(6)),
				Ending: jobs.Ending(s.ColumnText(7)), Error: s.ColumnText(8), Rejected: jobs.Status(s.ColumnText(9)),
			})
			return nil
		}, id)
	})
	if err == nil && row.Status == "" {
		return row, nil, fmt.Errorf("job %d: %w", id, jobs.ErrNotFound)
	}
	return row, history, wrapError("show job", err)
}

// row is the job of rowColumns.
func (db *DB) row(s *sqlite3.Stmt) jobs.Row {
	r := jobs.Row{
		ID: s.ColumnInt64(0), Type: s.ColumnText(1), Queue: s.ColumnText(2), Status: jobs.Status(s.ColumnText(3)),
		Priority: s.ColumnInt(4), Attempts: s.ColumnInt(5), MaxAttempts: s.ColumnInt(6), Timeout: s.ColumnFloat(7),
		CreatedAt: jobs.Seconds(s.ColumnFloat(8)), RunAt: jobs.Seconds(s.ColumnFloat(9)),
		StartedAt: jobs.Seconds(s.ColumnFloat(10)), CompletedAt: jobs.Seconds(s.ColumnFloat(11)),
		UniqueKey: s.ColumnText(12), LeaseOwner: s.ColumnInt64(13), LeaseToken: s.ColumnInt64(14),
		Error: s.ColumnText(16), Payload: s.ColumnText(17), Meta: jsonOf(s, 18), Result: jsonOf(s, 19),
	}
	if r.Status == jobs.Running {
		r.LeaseLeft = float64(s.ColumnInt64(15)-db.clock.Now()) / 1000
	}
	if err := json.Unmarshal(s.ColumnRawText(20), &r.Progress); err != nil {
		r.Progress = nil
	}
	return r
}

// jsonOf is the JSON in a column, nil where it is none: it is ours to write, but others
// can.
func jsonOf(s *sqlite3.Stmt, column int) json.RawMessage {
	if text := s.ColumnText(column); json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return nil
}

// Workers implements jobs.Inspector. The rows of dead workers that nobody has
// reaped yet are left out.
func (db *DB) Workers(ctx context.Context) (list []jobs.WorkerRow, err error) {
	err = db.browse(ctx, func(c *conn) error {
		return c.query(`SELECT id, seat_file, boot, host, pid, concurrency, types, queues, listen, started_at, stuck,
			(SELECT count(*) FROM sync_jobs WHERE status = 'running' AND lease_owner = w.id),
			EXISTS (SELECT 1 FROM sync_leases WHERE name = 'leader' AND owner = w.id)
			FROM sync_workers w ORDER BY id`, func(s *sqlite3.Stmt) error {
			w := jobs.WorkerRow{
				ID: s.ColumnInt64(0), Host: s.ColumnText(3), PID: s.ColumnInt(4), Concurrency: s.ColumnInt(5), Listen: s.ColumnText(8),
				StartedAt: jobs.Seconds(s.ColumnFloat(9)), Stuck: s.ColumnInt(10), Running: s.ColumnInt(11), Leader: s.ColumnBool(12),
			}
			err := errors.Join(json.Unmarshal(s.ColumnRawText(6), &w.Types), json.Unmarshal(s.ColumnRawText(7), &w.Queues))
			if err != nil {
				return err
			}
			alive, err := db.seated(member{w.ID, s.ColumnInt64(1), s.ColumnText(2)})
			if alive {
				list = append(list, w)
			}
			return err
		})
	})
	return list, wrapError("list workers", err)
}
