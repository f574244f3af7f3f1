package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Schedules implements jobs.Inspector.
func (db *DB) Schedules(context.Context) (list []jobs.ScheduleRow, err error) {
	err = db.read(func(c *conn) (err error) { list, err = c.schedules(`ORDER BY name`); return err })
	return list, wrapError("list schedules", err)
}

// schedules are the rows that the rest of the statement asks for.
func (c *conn) schedules(where string, args ...any) (list []jobs.ScheduleRow, err error) {
	err = c.query(`SELECT name, spec, zone, missed, paused, job_type, payload, queue, priority,
		max(-1e11, min(next_at, 1e11)), last_at FROM sync_schedules `+where, // as far as Seconds.Time goes
		func(s *sqlite3.Stmt) error {
			list = append(list, jobs.ScheduleRow{
				StoredSchedule: jobs.StoredSchedule{
					Name: s.ColumnText(0), Spec: s.ColumnText(1), Zone: s.ColumnText(2), Missed: jobs.Missed(s.ColumnText(3)),
					Type: s.ColumnText(5), Payload: s.ColumnText(6), Queue: s.ColumnText(7), Priority: s.ColumnInt(8),
				},
				Paused: s.ColumnBool(4), NextAt: jobs.Seconds(s.ColumnFloat(9)), LastAt: jobs.Seconds(s.ColumnFloat(10)),
			})
			return nil
		}, args...)
	return list, err
}

// schedule is the row of one, or jobs.ErrNoSchedule.
func (c *conn) schedule(name string) (jobs.ScheduleRow, error) {
	found, err := c.schedules(`WHERE name = ?`, name)
	switch {
	case err != nil:
		return jobs.ScheduleRow{}, err
	case len(found) == 0:
		return jobs.ScheduleRow{}, fmt.Errorf("schedule %s: %w", name, jobs.ErrNoSchedule)
	}
	return found[0], nil
}

// PutSchedule implements jobs.Operator.
func (db *DB) PutSchedule(ctx context.Context, s jobs.StoredSchedule) (replaced bool, err error) {
	if err := s.Check(); err != nil {
		return false, err
	}
	s.Zone = cmp.Or(s.Zone, "UTC")
	spec, err := jobs.ParseSpec(s.Spec, s.Zone)
	if err != nil {
		return false, err
	}
	var n int64
	err = db.writer.do(ctx, func(t *tx) error {
		now := jobs.Seconds(t.now).Time()
		next := spec.First(now)
		row, err := t.schedule(s.Name)
		switch {
		case err == nil && row.Spec == s.Spec && row.Zone == s.Zone:
			next = row.NextAt.Time()
		case err == nil:
			next = spec.Next(now, now)
		case !errors.Is(err, jobs.ErrNoSchedule):
			return err
		}
		if !t.again {
			replaced = err == nil
		}
		n, err = t.exec(`INSERT INTO sync_schedules (name, next_at, spec, zone, missed, job_type, payload, queue, priority)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at, spec = excluded.spec, zone = excluded.zone,
				missed = excluded.missed, job_type = excluded.job_type, payload = excluded.payload,
				queue = excluded.queue, priority = excluded.priority
			WHERE job_type IS NOT NULL`,
			s.Name, float64(jobs.SecondsOf(next)), s.Spec, s.Zone, string(cmp.Or(s.Missed, jobs.MissedSkip)),
			s.Type, string(s.Job().Payload), cmp.Or(s.Queue, jobs.DefaultQueue), s.Priority)
		return err
	})
	if err == nil && n == 0 {
		return false, fmt.Errorf("schedule %s is brought by a program: choose another name", s.Name)
	}
	return replaced, wrapError("add schedule", err)
}

// RemoveSchedule implements jobs.Operator.
func (db *DB) RemoveSchedule(ctx context.Context, name string) error {
	removed := false
	err := db.writer.do(ctx, func(t *tx) error {
		n, err := t.exec(`DELETE FROM sync_schedules WHERE name = ?`, name)
		removed = t.again && removed || n == 1
		return err
	})
	if err == nil && !removed {
		return fmt.Errorf("schedule %s: %w", name, jobs.ErrNoSchedule)
	}
	return wrapError("remove schedule", err)
}

// PauseSchedule implements jobs.Operator.
func (db *DB) PauseSchedule(ctx context.Context, name string, paused bool) error {
	err := db.writer.do(ctx, func(t *tx) error {
		row, err := t.schedule(name)
		if errors.Is(err, jobs.ErrNoSchedule) {
			return refusal{err}
		}
		if err != nil || row.Paused == paused {
			return err
		}
		next := row.NextAt
		if !paused {
			// A spec that another program wrote wrongly is the leader's trouble.
			if spec, err := jobs.ParseSpec(row.Spec, row.Zone); err == nil {
				next = jobs.SecondsOf(spec.Next(next.Time(), jobs.Seconds(t.now).Time()))
			}
		}
		_, err = t.exec(`UPDATE sync_schedules SET paused = ?, next_at = ? WHERE name = ?`, paused, float64(next), name)
		return err
	})
	return wrapError("pause schedule", err)
}

// RunSchedule implements jobs.Operator.
func (db *DB) RunSchedule(ctx context.Context, name string) (int64, error) {
	var row jobs.ScheduleRow
	err := db.read(func(c *conn) (err error) { row, err = c.schedule(name); return err })
	if err != nil {
		return 0, wrapError("run schedule", err)
	}
	if row.Type != "" {
		added, err := db.Enqueue(ctx, row.Job())
		if err != nil {
			return 0, err
		}
		return added[0].ID, nil
	}
	if row.Paused {
		return 0, fmt.Errorf("schedule %s is paused, and only the leader can make a program's jobs: resume it first", name)
	}
	err = db.writer.do(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE sync_schedules SET next_at = ? WHERE name = ? AND job_type IS NULL AND NOT paused`, t.now, name)
		if err == nil && n == 0 {
			err = refusal{fmt.Errorf("schedule %s was changed meanwhile: look, and try again", name)}
		}
		return err
	})
	return 0, wrapError("run schedule", err)
}
