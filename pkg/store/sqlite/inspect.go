package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shoal-project/shoal/pkg/jobs"
)

const rowColumns = `id, job_type, queue, status, priority, attempts, coalesce(max_attempts, 0), coalesce(timeout, 0),
	created_at, run_at, coalesce(started_at, 0), coalesce(completed_at, 0), coalesce(unique_key, ''),
	coalesce(lease_owner, 0), lease_token, coalesce(lease_expires_at, 0), coalesce(error, ''), payload, meta, result, progress`

// Jobs implements jobs.Inspector.
func (db *DB) Jobs(ctx context.Context, f jobs.Filter) ([]jobs.Row, error) {
	query, args := listed(f)
	rows, err := db.readers.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, wrapError("list jobs", err)
	}
	defer rows.Close()
	var list []jobs.Row
	for rows.Next() {
		row, err := db.scanRow(rows)
		if err != nil {
			return nil, wrapError("list jobs", err)
		}
		list = append(list, row)
	}
	return list, wrapError("list jobs", rows.Err())
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
func (db *DB) Job(ctx context.Context, id int64) (jobs.Row, []jobs.Attempt, error) {
	row, err := db.scanRow(db.readers.QueryRowContext(ctx, `SELECT `+rowColumns+` FROM sync_jobs WHERE id = ?`, id))
	if errors.Is(err, sql.ErrNoRows) {
		return row, nil, fmt.Errorf("job %d: %w", id, jobs.ErrNotFound)
	}
	if err != nil {
		return row, nil, wrapError("show job", err)
	}
	rows, err := db.readers.QueryContext(ctx, `SELECT attempt, lease_token, worker_id, coalesce(host, ''), coalesce(pid, 0),
		started_at, ended_at, ending, error, coalesce(rejected, '') FROM sync_job_errors WHERE job_id = ? ORDER BY lease_token`, id)
	if err != nil {
		return row, nil, wrapError("show job", err)
	}
	defer rows.Close()
	var history []jobs.Attempt
	for rows.Next() {
		var a jobs.Attempt
		err := rows.Scan(&a.Attempt, &a.Token, &a.Worker, &a.Host, &a.PID, &a.StartedAt, &a.EndedAt, &a.Ending, &a.Error, &a.Rejected)
		if err != nil {
			return row, nil, wrapError("show job", err)
		}
		history = append(history, a)
	}
	return row, history, wrapError("show job", rows.Err())
}

func (db *DB) scanRow(from interface{ Scan(...any) error }) (r jobs.Row, err error) {
	var meta, result, progress sql.NullString
	var expires int64
	err = from.Scan(&r.ID, &r.Type, &r.Queue, &r.Status, &r.Priority, &r.Attempts, &r.MaxAttempts, &r.Timeout,
		&r.CreatedAt, &r.RunAt, &r.StartedAt, &r.CompletedAt, &r.UniqueKey,
		&r.LeaseOwner, &r.LeaseToken, &expires, &r.Error, &r.Payload, &meta, &result, &progress)
	if err != nil {
		return r, err
	}
	if r.Status == jobs.Running {
		r.LeaseLeft = float64(expires-db.clock.Now()) / 1000
	}
	// They are ours to write, but others can.
	if json.Valid([]byte(meta.String)) {
		r.Meta = json.RawMessage(meta.String)
	}
	if json.Valid([]byte(result.String)) {
		r.Result = json.RawMessage(result.String)
	}
	if err := json.Unmarshal([]byte(progress.String), &r.Progress); err != nil {
		r.Progress = nil
	}
	return r, nil
}

// Workers implements jobs.Inspector. The rows of dead workers that nobody has
// reaped yet are left out.
func (db *DB) Workers(ctx context.Context) ([]jobs.WorkerRow, error) {
	rows, err := db.readers.QueryContext(ctx, `SELECT id, host, pid, concurrency, types, queues, coalesce(listen, ''), started_at, stuck, seat_file, boot,
		(SELECT count(*) FROM sync_jobs WHERE status = 'running' AND lease_owner = w.id),
		EXISTS (SELECT 1 FROM sync_leases WHERE name = 'leader' AND owner = w.id)
		FROM sync_workers w ORDER BY id`)
	if err != nil {
		return nil, wrapError("list workers", err)
	}
	defer rows.Close()
	var list []jobs.WorkerRow
	for rows.Next() {
		var w jobs.WorkerRow
		var types, queues string
		var m member
		if err := rows.Scan(&w.ID, &w.Host, &w.PID, &w.Concurrency, &types, &queues, &w.Listen, &w.StartedAt, &w.Stuck, &m.seatFile, &m.boot, &w.Running, &w.Leader); err != nil {
			return nil, wrapError("list workers", err)
		}
		if err := errors.Join(json.Unmarshal([]byte(types), &w.Types), json.Unmarshal([]byte(queues), &w.Queues)); err != nil {
			return nil, wrapError("list workers", err)
		}
		m.id = w.ID
		if alive, err := db.seated(m); err != nil {
			return nil, wrapError("list workers", err)
		} else if alive {
			list = append(list, w)
		}
	}
	return list, wrapError("list workers", rows.Err())
}
