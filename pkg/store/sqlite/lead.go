package sqlite

import (
	"context"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/lease"
)

// leaseRow is a row of sync_leases; the zero value: there is none.
type leaseRow struct {
	owner, token, expires int64
	alive                 bool // the owner's process
}

func (s *seat) leaseRow(c *conn, name string) (row leaseRow, err error) {
	var owner member
	err = c.query(`SELECT owner, token, expires_at, seat_file, boot FROM sync_leases JOIN sync_workers ON id = owner WHERE name = ?`,
		func(s *sqlite3.Stmt) error {
			row.owner, row.token, row.expires = s.ColumnInt64(0), s.ColumnInt64(1), s.ColumnInt64(2)
			owner = member{row.owner, s.ColumnInt64(3), s.ColumnText(4)}
			return nil
		}, name)
	if err == nil && row.owner != 0 {
		row.alive, err = s.db.seated(owner)
	}
	return row, err
}

// Acquire implements lease.Store. A lease is free when nobody has it, when it
// has ended, and when its holder is dead. Asking for one that another holds is
// a read.
func (s *seat) Acquire(ctx context.Context, name string, ttl time.Duration) (lease.Held, error) {
	var row leaseRow
	err := s.db.read(func(c *conn) (err error) { row, err = s.leaseRow(c, name); return err })
	if err != nil {
		return lease.Held{}, wrapError("acquire", err)
	}
	if row.owner != s.id && row.alive && row.expires > s.db.clock.Now() {
		return lease.Held{}, lease.ErrHeld
	}
	held := lease.Held{Name: name}
	err = s.db.writer.do(ctx, func(t *tx) (err error) {
		held.Token, err = t.number(`UPDATE sync_leases SET expires_at = ? WHERE name = ? AND owner = ? RETURNING token`,
			t.mono+ttl.Milliseconds(), name, s.id)
		if err != nil || held.Token != 0 {
			return err
		}
		// Only from the holder that was seen to be dead or late.
		held.Token, err = t.number(`INSERT INTO sync_leases (name, owner, token, expires_at, acquired_at) VALUES (?1, ?2, 1, ?3, ?4)
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, token = token + 1,
				expires_at = excluded.expires_at, acquired_at = excluded.acquired_at
			WHERE owner IS NULL OR expires_at <= ?5 OR (owner = ?6 AND token = ?7 AND ?8)
				OR NOT EXISTS (SELECT 1 FROM sync_workers WHERE id = owner)
			RETURNING token`,
			name, s.id, t.mono+ttl.Milliseconds(), t.now, t.mono, row.owner, row.token, row.owner != 0 && !row.alive)
		return err
	})
	if err == nil && held.Token == 0 {
		err = lease.ErrHeld
	}
	return held, wrapError("acquire", err)
}

// Release implements lease.Store.
func (s *seat) Release(ctx context.Context, held lease.Held) error {
	err := s.db.writer.do(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE sync_leases SET owner = NULL WHERE name = ? AND owner = ? AND token = ?`, held.Name, s.id, held.Token)
		if err == nil && n == 0 && !t.again {
			err = refusal{lease.ErrLost}
		}
		return err
	})
	return wrapError("release", err)
}
