package sqlite

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"
)

// Wall clocks step. A step forward only makes delayed jobs due early; after a
// step back they would wait for as long as the step was. What was written
// before it is known by its own times: created or last started in the future.

// clockSlack is how far wall clocks may differ before it counts as a step, in
// seconds.
const clockSlack = 1

// followClock moves what was written before a step back of the wall clock. It
// knows of one by the kernel's clock since the last call, or, at the first, by
// the newest job's time and the newest start's. A step counts as followed only
// when all could be moved.
func (s *seat) followClock(ctx context.Context) error {
	offset := func() float64 { return s.db.now() - float64(s.db.clock.Now())/1000 }
	at := offset()
	back := at < s.offset-clockSlack
	if s.offset == 0 {
		var newest float64
		err := s.db.read(func(c *conn) error {
			err := c.query(`SELECT created_at FROM sync_jobs ORDER BY id DESC LIMIT 1`,
				func(s *sqlite3.Stmt) error { newest = s.ColumnFloat(0); return nil })
			if err != nil {
				return err
			}
			return c.query(`SELECT max(at) FROM sync_starts`,
				func(s *sqlite3.Stmt) error { newest = max(newest, s.ColumnFloat(0)); return nil })
		})
		if err != nil {
			return err
		}
		back = newest > s.db.now()+clockSlack
	}
	if back {
		if err := s.rewind(ctx); err != nil {
			return err
		}
	}
	s.offset = max(at, offset()) // another step forward may have come meanwhile
	return nil
}

// rewindBite is how many jobs are moved in one transaction.
const rewindBite = 500

// rewindStarts has the starts that lie ahead count from now on, once.
func (t *tx) rewindStarts() error {
	_, err := t.exec(`INSERT INTO sync_starts (kind, name, at, n)
		SELECT kind, name, ?1, sum(n) FROM sync_starts WHERE at > ?1 + ?2 GROUP BY kind, name
		ON CONFLICT (kind, name, at) DO UPDATE SET n = n + excluded.n`, t.now, clockSlack)
	if err == nil {
		_, err = t.exec(`DELETE FROM sync_starts WHERE at > ?1 + ?2`, t.now, clockSlack)
	}
	return err
}

// rewind moves the jobs from the clock's former future back by as much as they
// are ahead, and their times with them: who comes second finds nothing. Those that
// run are moved too, as they are to keep their place if they are given back.
//
// The engine reads the wall clock after it got the write lock. So a
// transaction comes first: after it, whoever had read the former time (and was
// stopped with it, perhaps) has written it. The newest job is moved last, as the
// first look of a worker goes by it.
func (s *seat) rewind(ctx context.Context) error {
	if err := s.db.writer.do(ctx, (*tx).rewindStarts); err != nil {
		return err
	}
	const ahead = `max(created_at, coalesce(started_at, 0)) - ?1`
	var ids []int64
	err := s.db.browse(ctx, func(c *conn) error {
		return c.query(`
			SELECT id FROM sync_jobs WHERE status = 'pending' AND due = 0 AND `+ahead+` > ?2
			UNION ALL SELECT id FROM sync_jobs WHERE status = 'pending' AND due = 1 AND `+ahead+` > ?2
			UNION ALL SELECT id FROM sync_jobs WHERE status = 'running' AND `+ahead+` > ?2 ORDER BY id`,
			func(s *sqlite3.Stmt) error { ids = append(ids, s.ColumnInt64(0)); return nil }, s.db.now(), clockSlack)
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(ids, rewindBite) {
		bite, _ := json.Marshal(some) // numbers: no error
		err := s.db.writer.do(ctx, func(t *tx) error {
			_, err := t.exec(`UPDATE sync_jobs SET run_at = run_at - (`+ahead+`), due = 0,
					created_at = min(created_at, ?1), started_at = min(started_at, ?1)
				WHERE id IN (SELECT value FROM json_each(?3)) AND status IN ('pending', 'running') AND `+ahead+` > ?2`,
				t.now, clockSlack, bite)
			return err
		})
		if err != nil {
			return err
		}
	}
	if len(ids) > 0 {
		s.db.log.Warn("the wall clock went back: delayed jobs were moved with it",
			zap.Int("jobs", len(ids)), zap.Time("now", s.db.opts.Now().Truncate(time.Second)))
	}
	return nil
}
