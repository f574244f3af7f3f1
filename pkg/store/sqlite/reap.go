package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// An ended lease is looked at for grace before its job is taken, from a moment at
// which the file could be written to: whoever only waited for the write lock, or
// for room on the disk, renews first (lease.Keep tries more often than that). A
// look comes every 250 ms: the second one after the first finds it over.
const grace = 400 * time.Millisecond

// stallGrace is what is given after the file or this process has stood still, or
// has just begun: then all of a fleet have to renew at once, and perhaps on a full
// machine.
const stallGrace = 2 * time.Second

// reaper is what a seat remembers between its looks at the others.
type reaper struct {
	suspects map[jobs.Ref]time.Time // leases that have ended, and since when the file says so
	last     time.Time              // of the last look
	paused   time.Time              // when all graces last began anew: see pause
	moving   time.Time              // of the last look that saw the file move: not locked, or something committed
	version  uint32                 // commits() at the last look, if the write lock was held then; else 0
	fleet    []member               // as lookAround last read it
	idle     uint32                 // commits() then, if no job was running: while it stays, nothing changes; else 0
}

// Reap implements jobs.Seat. It is called by one goroutine.
//
// A dead worker is one whose byte is free: that can't be undone, as a number is
// never given again, so its jobs go back at once. A held byte with an ended
// lease is a stopped or a stuck one.
func (s *seat) Reap(ctx context.Context) (reaped []jobs.Reaped, calm bool, err error) {
	if err := s.db.stillThere(); err != nil {
		return nil, false, err
	}
	began := time.Now()
	if failed := wrapError("follow the wall clock", s.followClock(ctx)); failed != nil {
		// No reason to leave the dead unburied.
		defer func() { err = errors.Join(err, failed) }()
	}
	if time.Since(began) > grace/4 {
		s.reaper.pause(time.Now()) // it may have waited for the write lock
	}
	version, err := s.db.commits()
	if err != nil {
		return nil, false, wrapError("look for the dead", err)
	}
	expired := make(map[jobs.Ref]bool)
	if version == 0 || version != s.reaper.idle { // else all is as it was
		if err := s.lookAround(version, expired); err != nil {
			return nil, false, wrapError("look for the dead", err)
		}
	}
	var dead []member
	for _, m := range s.reaper.fleet {
		alive, err := s.db.seated(m)
		if err != nil {
			return nil, false, wrapError("look for the dead", err)
		}
		if !alive {
			dead = append(dead, m)
		}
	}
	locked, now := s.db.locked(), time.Now()
	stuck, fresh := s.reaper.ripe(expired, locked, version, now)
	if now.Sub(s.reaper.moving) > stallWarning {
		s.db.nameHolder() // also a worker that has nothing to write is to say who holds it up
	}
	if len(dead) > 0 || len(stuck) > 0 {
		if reaped, err = s.take(ctx, dead, stuck); err != nil {
			s.reaper.pause(time.Now()) // who could not be reaped could not renew either
			return nil, false, wrapError("reap", err)
		}
	}
	// Without the watcher nobody would tell what comes.
	calm = s.reaper.idle != 0 && !locked && !s.watcher.deaf()
	return reaped, calm, wrapError("reap", s.lastCall(ctx, fresh))
}

// lookAround reads who is of the fleet, and which leases have ended.
func (s *seat) lookAround(version uint32, expired map[jobs.Ref]bool) error {
	s.reaper.idle = 0
	return s.db.read(func(c *conn) (err error) {
		if _, err := s.db.checkSchema(c); err != nil {
			return err
		}
		if s.reaper.fleet, err = s.db.members(c); err != nil {
			return err
		}
		busy, err := c.exists(`SELECT 1 FROM sync_jobs WHERE status = 'running' LIMIT 1`)
		if err != nil {
			return err
		}
		if !busy {
			s.reaper.idle = version
			return nil
		}
		return c.query(`SELECT id, lease_token FROM sync_jobs WHERE status = 'running' AND coalesce(lease_expires_at, 0) <= ?`,
			refsInto(expired), s.db.clock.Now())
	})
}

// take gives back what the dead held, and the jobs of stuck attempts.
func (s *seat) take(ctx context.Context, dead []member, stuck []jobs.Ref) (reaped []jobs.Reaped, err error) {
	err = s.db.writer.do(ctx, func(t *tx) error {
		reaped = nil
		for _, m := range dead {
			back, err := t.bury(m.id)
			if err != nil {
				return err
			}
			reaped = append(reaped, back...)
		}
		for _, ref := range stuck {
			back, err := t.giveBack(jobs.EndedStuck, stuckNow, ref.ID, ref.Token, t.mono)
			if err != nil {
				return err
			}
			reaped = append(reaped, back...)
		}
		return nil
	})
	return reaped, err
}

// lastCall begins the grace of leases that have ended, by a write that says no
// more than that: their end is now. Whoever can write it knows that the holders
// can write too. On a full disk it fails, and behind a process that sits on the
// write lock it is given up: the next Reap calls again.
func (s *seat) lastCall(ctx context.Context, ended []jobs.Ref) error {
	if len(ended) == 0 {
		return nil
	}
	refs := refsOf(ended)
	short, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := s.db.writer.do(short, func(t *tx) error {
		_, err := t.exec(`UPDATE sync_jobs SET lease_expires_at = ?1 WHERE status = 'running' AND coalesce(lease_expires_at, 0) <= ?1
			AND (id, lease_token) IN (SELECT CAST(key AS INTEGER), value FROM json_each(?2))`, t.mono, refs)
		return err
	})
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = nil
		}
		return err
	}
	for _, ref := range ended {
		s.reaper.suspects[ref] = time.Now()
	}
	return nil
}

// pause begins all graces anew: the file has stood still, or may have.
func (r *reaper) pause(now time.Time) {
	clear(r.suspects)
	r.paused = now
}

// ripe returns those of the ended leases that have been known for long enough,
// and those that the file is to be told of. While the file stands still (one
// process sits on the write lock), or after this process did, nothing ripens:
// the others could not renew, or not be seen to.
func (r *reaper) ripe(expired map[jobs.Ref]bool, locked bool, version uint32, now time.Time) (stuck, fresh []jobs.Ref) {
	still := locked && r.version == version
	if still || now.Sub(r.last) > 2*grace { // so is the first look of all: who is new can't know
		r.pause(now)
	}
	if !still {
		r.moving = now
	}
	r.last, r.version = now, 0
	if locked {
		r.version = version
	}
	for ref := range r.suspects {
		if !expired[ref] {
			delete(r.suspects, ref)
		}
	}
	for ref := range expired {
		since, known := r.suspects[ref]
		switch {
		case known && now.Sub(since) >= grace && now.Sub(r.paused) >= stallGrace:
			stuck = append(stuck, ref)
		case !known && !still: // else the file can't be told
			fresh = append(fresh, ref)
		}
	}
	return stuck, fresh
}

// stuckNow is a stuck attempt's condition, for giveBack.
const stuckNow = `id = ?2 AND lease_token = ?3 AND coalesce(lease_expires_at, 0) <= ?4`

// bury removes a worker that is dead or leaves, and gives back what it held.
func (t *tx) bury(id int64) ([]jobs.Reaped, error) {
	reaped, err := t.giveBack(jobs.EndedDied, `lease_owner = ?2`, id)
	if err != nil {
		return nil, err
	}
	if _, err := t.exec(`UPDATE sync_leases SET owner = NULL WHERE owner = ?`, id); err != nil {
		return nil, err
	}
	_, err = t.exec(`DELETE FROM sync_workers WHERE id = ?`, id)
	return reaped, err
}

// giveBack ends the attempts of running jobs that meet the condition, whose
// parameters begin at ?2: they go back to pending, due at once and in their old
// place, as a backlog that came after them would make them wait again; or they
// end as failed when the attempts are used up. The history says what became of
// the worker.
func (t *tx) giveBack(ending jobs.Ending, condition string, args ...any) (reaped []jobs.Reaped, err error) {
	what := map[jobs.Ending]string{jobs.EndedDied: "died", jobs.EndedStuck: "did not renew its lease"}[ending]
	const again = `attempts < coalesce(max_attempts, attempts + 1)`
	why := `(SELECT printf('worker %d%s ` + what + ` (attempt %d of %s)', j.lease_owner,
		coalesce((SELECT printf(' (%s, pid %d)', host, pid) FROM sync_workers WHERE id = j.lease_owner), ''),
		j.attempts, coalesce(j.max_attempts, '?')))`
	if err := t.noteEndings(ending, why, condition, args...); err != nil {
		return nil, err
	}
	err = t.query(fmt.Sprintf(`UPDATE sync_jobs AS j SET
			status = iif(%[1]s, 'pending', 'failed'), due = %[1]s, error = %[2]s,
			completed_at = iif(%[1]s, NULL, ?1), run_at = iif(%[1]s, min(run_at, ?1), run_at),
			unique_key = iif(%[1]s OR unique_for = 'forever', unique_key, NULL),
			lease_expires_at = NULL, progress = NULL
		WHERE j.status = 'running' AND j.%[3]s
		RETURNING id, lease_token, lease_owner, error, status, job_type, queue, attempts, coalesce(max_attempts, 0)`, again, why, condition),
		func(s *sqlite3.Stmt) error {
			r := jobs.Reaped{
				Ref:    jobs.Ref{ID: s.ColumnInt64(0), Token: s.ColumnInt64(1)},
				Worker: s.ColumnInt64(2), Reason: s.ColumnText(3), Failed: s.ColumnText(4) == string(jobs.Failed),
				Type: s.ColumnText(5), Queue: s.ColumnText(6), Attempt: s.ColumnInt(7), MaxAttempts: s.ColumnInt(8),
			}
			if !r.Failed {
				t.count(r.Queue, r.Type, 0, 1)
			}
			reaped = append(reaped, r)
			return nil
		}, append([]any{t.now}, args...)...)
	return reaped, err
}
