package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// seat is a worker's place in the fleet: a row of sync_workers, and a lock on
// the byte of that number for as long as the process lives.
type seat struct {
	db      *DB
	id      int64
	file    *seatFile // its lock is the seat
	watcher *watcher
	reaper  reaper
	offset  float64 // of the wall clock to the kernel's, at the last look; s
	closing sync.Once
}

var _ jobs.Seat = (*seat)(nil)

// Join implements jobs.Store.
func (db *DB) Join(ctx context.Context, who jobs.Info) (_ jobs.Seat, err error) {
	s := &seat{db: db}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("take a seat: %w", err), s.close())
		}
	}()
	if s.file, err = openSeatFile(db.path); err != nil {
		return nil, err
	}
	types, _ := json.Marshal(who.Types) // strings: no error
	queues, _ := json.Marshal(who.Queues)
	err = db.writer.do(ctx, func(t *tx) error {
		if s.id != 0 { // an earlier try's: its row was rolled back, or is a dead worker's now
			if err := s.file.Give(s.id); err != nil {
				return err
			}
		}
		_, err := t.exec(`INSERT INTO sync_workers (host, pid, concurrency, types, queues, listen, started_at, seat_file, boot)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`, who.Host, who.PID, who.Concurrency, string(types), string(queues),
			null(who.Listen), t.now, inode(s.file), db.boot)
		if err != nil {
			return err
		}
		// Locked before the row commits: a row with a free byte is a dead worker's.
		s.id = t.LastInsertRowID()
		if err := s.file.Take(s.id); err != nil {
			return err
		}
		for jobType, p := range who.Policies {
			if err := t.putPolicy(policyOf{jobs.OfType, jobType, byHandler}, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if who.Guard != nil {
		if err := who.Guard(s.file.File()); err != nil {
			return nil, err
		}
	}
	s.watcher = watch(db)
	s.reaper.suspects = make(map[jobs.Ref]time.Time)
	db.seats.Lock()
	defer db.seats.Unlock()
	if db.alive.Err() != nil { // Close may have been through them
		return nil, db.closed()
	}
	db.seats.all = append(db.seats.all, s)
	return s, nil
}

// ID implements jobs.Seat.
func (s *seat) ID() int64 { return s.id }

// Changes implements jobs.Seat.
func (s *seat) Changes() <-chan struct{} { return s.watcher.changes }

// Leave implements jobs.Seat.
func (s *seat) Leave(ctx context.Context) error {
	err := s.db.writer.do(ctx, func(t *tx) error {
		// Given back, not failed: that the worker ends is no fault of theirs.
		_, err := t.pend(`UPDATE sync_jobs SET status = 'pending', due = 1, run_at = min(run_at, ?), attempts = attempts - 1, lease_expires_at = NULL
			WHERE status = 'running' AND lease_owner = ?`, t.now, s.id)
		if err != nil {
			return err
		}
		_, err = t.bury(s.id)
		return err
	})
	return wrapError("leave", errors.Join(err, s.close()))
}

// close lets the seat fall free. It may be called more than once.
func (s *seat) close() (err error) {
	s.closing.Do(func() {
		if s.watcher != nil {
			s.watcher.close()
		}
		if s.file != nil {
			err = s.file.Close()
		}
	})
	return err
}

// member is a worker of the fleet.
type member struct {
	id, seatFile int64
	boot         string
}

// seated says whether the worker's process, or one that guards its children,
// lives. No process outlives its kernel. Where its seat was taken in another
// file (somebody replaced it) there is no telling: then only the lease counts.
func (db *DB) seated(m member) (bool, error) {
	switch {
	case m.boot != db.boot:
		return false, nil
	case m.seatFile != inode(db.probe):
		return true, nil
	}
	return db.probe.Held(m.id)
}

func inode(f *seatFile) int64 { return int64(f.info.Sys().(*syscall.Stat_t).Ino) }

// members are the workers that have a row, or that somebody has deleted the row
// of while they held jobs: their seats tell whether they live all the same.
func (db *DB) members(c *conn) (list []member, err error) {
	err = c.query(`SELECT id, seat_file, boot FROM sync_workers
		UNION ALL SELECT DISTINCT lease_owner, ?, ? FROM sync_jobs
			WHERE status = 'running' AND lease_owner NOT IN (SELECT id FROM sync_workers)`,
		func(s *sqlite3.Stmt) error {
			list = append(list, member{s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnText(2)})
			return nil
		}, inode(db.probe), db.boot)
	return list, err
}
