package sqlite

import (
	"context"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

// Schedules implements jobs.Seat.
func (s *seat) Schedules(ctx context.Context) ([]jobs.ScheduleRow, error) { return s.db.Schedules(ctx) }

// leads is what a statement's WHERE says for it to have an effect only under the
// leader's token; its parameters come last.
const leads = `EXISTS (SELECT 1 FROM sync_leases WHERE name = ? AND owner = ? AND token = ? AND expires_at > ?)`

// whyNot is the error of a leader's statement that changed nothing.
func (s *seat) whyNot(t *tx, held lease.Held) error {
	leading, err := t.exists(`SELECT 1 WHERE `+leads, held.Name, s.id, held.Token, t.mono)
	switch {
	case err != nil:
		return err
	case leading:
		return refusal{jobs.ErrChanged}
	}
	return refusal{lease.ErrLost}
}

// Bring implements jobs.Seat.
func (s *seat) Bring(ctx context.Context, held lease.Held, row jobs.ScheduleRow) error {
	err := s.db.writer.do(ctx, func(t *tx) error {
		n, err := t.exec(`INSERT INTO sync_schedules (name, next_at, spec, zone, missed) SELECT ?, ?, ?, ?, ? WHERE `+leads+`
			ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at, spec = excluded.spec, zone = excluded.zone,
				missed = excluded.missed WHERE job_type IS NULL`,
			row.Name, float64(row.NextAt), row.Spec, row.Zone, string(row.Missed), held.Name, s.id, held.Token, t.mono)
		if err == nil && n == 0 {
			err = s.whyNot(t, held)
		}
		return err
	})
	return wrapError("bring schedule", err)
}

// Tick implements jobs.Seat.
func (s *seat) Tick(ctx context.Context, held lease.Held, due jobs.Due, batch ...jobs.New) error {
	next := float64(jobs.SecondsOf(due.Next))
	err := s.db.writer.do(ctx, func(t *tx) error {
		if t.again {
			moved, err := t.exists(`SELECT 1 FROM sync_schedules WHERE name = ? AND next_at = ?`, due.Name, next)
			if err != nil || moved {
				return err
			}
		}
		// In microseconds: what another program wrote may have more digits than
		// jobs.Due can carry.
		n, err := t.exec(`UPDATE sync_schedules SET next_at = ?, last_at = coalesce(nullif(?, 0.0), last_at)
			WHERE name = ? AND NOT paused AND CAST(max(-1e11, min(next_at, 1e11)) * 1e6 + 0.5 AS INTEGER) = CAST(? * 1e6 + 0.5 AS INTEGER) AND `+leads,
			next, float64(jobs.SecondsOf(due.Last)), due.Name, float64(jobs.SecondsOf(due.At)), held.Name, s.id, held.Token, t.mono)
		if err != nil {
			return err
		}
		if n == 0 {
			return s.whyNot(t, held)
		}
		_, err = t.enqueue(batch)
		return err
	})
	return wrapError("tick", err)
}
