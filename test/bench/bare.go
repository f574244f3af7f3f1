package main

import (
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// The bare loop's three statements. They touch the columns and the indexes that
// Shoal's do, and each word on a job is fenced by its token. The limit is a sum, as
// SQLite plans a statement anew each time that a bare parameter there is bound.
const (
	bareFinish = `UPDATE sync_jobs SET status = 'completed', completed_at = ?, lease_expires_at = NULL
		WHERE id = ? AND status = 'running' AND lease_token = ?`
	bareClaim = `UPDATE sync_jobs SET status = 'running', attempts = attempts + 1, started_at = ?1, due = 0,
			lease_owner = ?2, lease_token = lease_token + 1, lease_expires_at = CAST(?1 * 1000 AS INTEGER) + 30000
		WHERE id IN (SELECT id FROM sync_jobs
			WHERE status = 'pending' AND due = 1 AND queue = 'default' AND job_type = ?3 AND run_at <= ?1
			ORDER BY priority DESC, run_at, id LIMIT ?4 + 0)
		RETURNING id, lease_token, payload`
)

// bare is how fast SQLite can be made to go: one goroutine that finishes what it
// claimed last and claims for all slots, in one durable transaction after the
// other, with prepared statements and nothing around them: no handlers, no
// leases that anybody renews, no history, no wake-up.
func bare(r role, s stage, conn *sqlite3.Conn) (report, error) {
	finish, _, err := conn.PrepareFlags(bareFinish, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return report{}, err
	}
	defer finish.Close()
	claim, _, err := conn.PrepareFlags(bareClaim, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return report{}, err
	}
	defer claim.Close()

	if err := s.begin(); err != nil {
		return report{}, err
	}
	var out report
	out.Begin = time.Now()
	type held struct{ id, token int64 }
	var jobs []held
	for {
		now := float64(time.Now().UnixMicro()) / 1e6
		if err := conn.Exec(`BEGIN IMMEDIATE`); err != nil {
			return report{}, err
		}
		for _, j := range jobs {
			err := step(finish, nil, now, j.id, j.token)
			if err == nil && conn.Changes() != 1 {
				err = fmt.Errorf("job %d was not held", j.id)
			}
			if err != nil {
				return report{}, err
			}
		}
		done := len(jobs)
		jobs = jobs[:0]
		err := step(claim, func(s *sqlite3.Stmt) {
			jobs = append(jobs, held{s.ColumnInt64(0), s.ColumnInt64(1)})
			_ = s.ColumnBlob(2, nil)
		}, now, int64(r.Number), noop, int64(r.Slots))
		if err == nil {
			err = conn.Exec(`COMMIT`)
		}
		if err != nil {
			return report{}, err
		}
		out.Jobs += done
		out.End = time.Now()
		if len(jobs) == 0 {
			return out, nil
		}
	}
}
