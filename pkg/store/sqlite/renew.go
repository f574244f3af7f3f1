package sqlite

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Renew implements jobs.Seat.
func (s *seat) Renew(ctx context.Context, ttl time.Duration, holding []jobs.Holding) (lost []jobs.Ref, err error) {
	held := make([]jobs.Ref, len(holding))
	for i, h := range holding {
		held[i] = h.Ref
	}
	refs := refsOf(held)
	err = s.db.writer.do(ctx, func(t *tx) error {
		ours := make(map[jobs.Ref]bool)
		// Only what is held: a job that went astray (a claim whose answer was
		// lost, a row that somebody set to running) is to be reaped.
		err := t.query(`UPDATE sync_jobs SET lease_expires_at = ?1 WHERE status = 'running' AND lease_owner = ?2
			AND (id, lease_token) IN (SELECT CAST(key AS INTEGER), value FROM json_each(?3)) RETURNING id, lease_token`,
			refsInto(ours), t.mono+ttl.Milliseconds(), s.id, refs)
		if err != nil {
			return err
		}
		lost = missing(ours, holding)
		for _, h := range holding {
			if h.Progress == nil || !ours[h.Ref] {
				continue
			}
			progress, _ := json.Marshal(h.Progress) // numbers and a string: no error
			if _, err := t.exec(`UPDATE sync_jobs SET progress = ? WHERE id = ? AND status = 'running' AND lease_token = ?`,
				progress, h.ID, h.Token); err != nil {
				return err
			}
		}
		return nil
	})
	return lost, wrapError("renew", err)
}

// Lost implements jobs.Seat.
func (s *seat) Lost(_ context.Context, holding []jobs.Holding) (lost []jobs.Ref, err error) {
	ours := make(map[jobs.Ref]bool)
	err = s.db.read(func(c *conn) error {
		return c.query(`SELECT id, lease_token FROM sync_jobs WHERE status = 'running' AND lease_owner = ?`, refsInto(ours), s.id)
	})
	if err != nil {
		return nil, wrapError("look for lost jobs", err)
	}
	return missing(ours, holding), nil
}

// refsOf is a list of attempts as JSON, {"id":token, …}, to be bound.
func refsOf(list []jobs.Ref) []byte {
	text := []byte{'{'}
	for i, ref := range list {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(strconv.AppendInt(append(text, '"'), ref.ID, 10), `":`...)
		text = strconv.AppendInt(text, ref.Token, 10)
	}
	return append(text, '}')
}

func refsInto(set map[jobs.Ref]bool) func(*sqlite3.Stmt) error {
	return func(s *sqlite3.Stmt) error {
		set[jobs.Ref{ID: s.ColumnInt64(0), Token: s.ColumnInt64(1)}] = true
		return nil
	}
}

func missing(ours map[jobs.Ref]bool, holding []jobs.Holding) (lost []jobs.Ref) {
	for _, h := range holding {
		if !ours[h.Ref] {
			lost = append(lost, h.Ref)
		}
	}
	return lost
}

// Stuck implements jobs.Seat.
func (s *seat) Stuck(ctx context.Context, handlers int) error {
	err := s.db.writer.do(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE sync_workers SET stuck = ? WHERE id = ?`, handlers, s.id)
		return err
	})
	return wrapError("tell of stuck handlers", err)
}
