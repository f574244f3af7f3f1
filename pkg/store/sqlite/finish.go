package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

// finish writes an attempt's outcome, if the attempt still holds the job.
func (t *tx) finish(o jobs.Outcome) (accepted bool, err error) {
	if o.Status == jobs.Completed {
		var did map[jobs.Ref]bool
		did, err = t.complete([]jobs.Ref{o.Ref}, o.Result)
		accepted = did[o.Ref]
	} else {
		accepted, err = t.end(o)
	}
	if err == nil && !accepted && t.again {
		return wasAccepted(t.conn, o)
	}
	return accepted, err
}

// finishAll is finish for all, and returns those that were not accepted. What a
// busy worker says most, that a job is completed and no more, is one statement for
// all of them.
func (s *seat) finishAll(t *tx, outcomes []jobs.Outcome) (rejected []jobs.Outcome, err error) {
	var plain []jobs.Ref
	for _, o := range outcomes {
		if o.Status == jobs.Completed && o.Result == nil {
			plain = append(plain, o.Ref)
		}
	}
	accepted, err := t.complete(plain, nil)
	if broken(err) {
		return nil, err
	}
	if len(accepted) == len(outcomes) { // as a rule
		return nil, nil
	}
	for _, o := range outcomes {
		yes := accepted[o.Ref]
		delete(accepted, o.Ref) // at most once
		if !yes {
			if yes, err = t.finish(o); broken(err) {
				return nil, err
			}
			if err != nil {
				// Others are not to wait for it; its lease will end.
				s.db.log.Error("outcome can't be written", zap.Int64("job", o.ID), zap.Error(err))
			}
		}
		if !yes {
			rejected = append(rejected, o)
		}
	}
	return rejected, nil
}

// complete completes the jobs of attempts that still hold them, all with the same
// result, and returns which did.
func (t *tx) complete(refs []jobs.Ref, result []byte) (accepted map[jobs.Ref]bool, err error) {
	if len(refs) == 0 {
		return nil, nil
	}
	held := refsOf(refs)
	n, err := t.exec(`UPDATE sync_jobs SET
			status = 'completed', completed_at = ?1, error = NULL, result = ?2, lease_expires_at = NULL, progress = NULL,
			unique_key = iif(unique_for = 'forever', unique_key, NULL)
		FROM (SELECT CAST(key AS INTEGER) AS job, value AS token FROM json_each(?3))
		WHERE id = job AND status = 'running' AND lease_token = token`, t.now, result, held)
	accepted = make(map[jobs.Ref]bool, len(refs))
	switch {
	case err != nil || n == 0:
		return nil, err
	case n == int64(len(refs)): // as a rule; to have the statement return them costs a fifth more
		for _, ref := range refs {
			accepted[ref] = true
		}
		return accepted, nil
	}
	// What this transaction has completed has its time.
	return accepted, t.query(`SELECT j.id, j.lease_token FROM json_each(?1) AS held CROSS JOIN sync_jobs AS j
		WHERE j.id = CAST(held.key AS INTEGER) AND j.lease_token = held.value AND j.status = 'completed' AND j.completed_at = ?2`,
		refsInto(accepted), held, t.now)
}

// end writes the outcome of an attempt that did not complete its job, if it still
// holds it.
func (t *tx) end(o jobs.Outcome) (accepted bool, err error) {
	if !o.Uncounted {
		if err := t.noteEndings(jobs.EndedFailed, `?2`, `id = ?3 AND lease_token = ?4`, o.Error, o.ID, o.Token); err != nil {
			return false, err
		}
	}
	if o.Status == jobs.Pending {
		return t.pend(`UPDATE sync_jobs SET
				status = 'pending', run_at = iif(?, min(run_at, ?), ?), due = ?, attempts = attempts - ?, error = ?, lease_expires_at = NULL
			WHERE id = ? AND status = 'running' AND lease_token = ?`,
			o.Delay == jobs.KeepDue, t.now, t.now+o.Delay.Seconds(), o.Delay <= 0, o.Uncounted, null(o.Error), o.ID, o.Token)
	}
	n, err := t.exec(`UPDATE sync_jobs SET
			status = ?, completed_at = ?, error = ?, lease_expires_at = NULL, progress = NULL,
			unique_key = iif(unique_for = 'forever', unique_key, NULL)
		WHERE id = ? AND status = 'running' AND lease_token = ?`,
		string(o.Status), t.now, null(o.Error), o.ID, o.Token)
	return n == 1, err
}

// pend runs an UPDATE that has running jobs wait again, and says whether there were any.
// They are counted when it has not failed: finishAll goes on after an error.
func (t *tx) pend(update string, args ...any) (some bool, err error) {
	var waiting []arm
	err = t.query(update+` RETURNING queue, job_type`, func(s *sqlite3.Stmt) error {
		waiting = append(waiting, arm{s.ColumnText(0), s.ColumnText(1)})
		return nil
	}, args...)
	if err != nil {
		return false, err
	}
	for _, of := range waiting {
		t.count(of.queue, of.jobType, 0, 1)
	}
	return len(waiting) > 0, nil
}

// reject adds an outcome that came too late to the history of its attempt.
func (t *tx) reject(o jobs.Outcome) error {
	_, err := t.exec(`UPDATE sync_job_errors SET rejected = ? WHERE job_id = ? AND lease_token = ?`,
		string(o.Status), o.ID, o.Token)
	return err
}

// wasAccepted proves an outcome whose commit failed: the job has ended, or waits
// again, under our token still. Where somebody else made it wait (a reaper),
// the outcome would have said the same.
func wasAccepted(c *conn, o jobs.Outcome) (bool, error) {
	return c.exists(`SELECT 1 FROM sync_jobs WHERE id = ? AND lease_token = ? AND status = ?`, o.ID, o.Token, string(o.Status))
}

// noteEndings adds a row of history for each running attempt that meets the condition
// and ends now without completing. A job keeps its last 100. why and condition are SQL,
// with parameters from ?2 on; condition must begin with a column of sync_jobs, before
// which the alias is put.
func (t *tx) noteEndings(ending jobs.Ending, why, condition string, args ...any) error {
	var long []int64
	err := t.query(fmt.Sprintf(`INSERT OR REPLACE INTO sync_job_errors (job_id, lease_token, attempt, worker_id, host, pid, started_at, ended_at, ending, error)
		SELECT j.id, j.lease_token, j.attempts, j.lease_owner, w.host, w.pid, coalesce(j.started_at, j.created_at), ?1, '%s', %s
		FROM sync_jobs j LEFT JOIN sync_workers w ON w.id = j.lease_owner
		WHERE j.status = 'running' AND j.%s RETURNING job_id, lease_token`, ending, why, condition), func(s *sqlite3.Stmt) error {
		if s.ColumnInt64(1) > 100 {
			long = append(long, s.ColumnInt64(0))
		}
		return nil
	}, append([]any{t.now}, args...)...)
	for _, id := range long {
		if err == nil {
			_, err = t.exec(`DELETE FROM sync_job_errors WHERE job_id = ?1 AND lease_token < (SELECT lease_token FROM sync_job_errors
				WHERE job_id = ?1 ORDER BY lease_token DESC LIMIT 1 OFFSET 99)`, id)
		}
	}
	return err
}

// Finish implements jobs.Seat.
func (s *seat) Finish(ctx context.Context, o jobs.Outcome, write func(*sql.Tx) error, follow ...jobs.New) error {
	refused := false // a context that ended with ErrLost is no refusal
	err := s.db.inTx(ctx, func(t *tx) error {
		accepted, err := t.finish(o)
		if refused = err == nil && !accepted; refused {
			err = lease.ErrLost
		}
		return err
	}, write, follow)
	switch {
	case refused:
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // it has ended with the lease
		defer cancel()
		err = errors.Join(err, s.db.writer.do(ctx, func(t *tx) error { return t.reject(o) }))
	case errors.Is(err, jobs.ErrUnknown):
		var yes bool
		e := s.db.read(func(c *conn) (err error) { yes, err = wasAccepted(c, o); return err })
		if e == nil && yes {
			err = s.db.stillThere()
		}
	}
	return wrapError("finish", err)
}
