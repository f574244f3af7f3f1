package sqlite

import "context"

// Stuck implements jobs.Seat.
func (s *seat) Stuck(ctx context.Context, handlers int) error {
	err := s.db.writer.do(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE sync_workers SET stuck = ? WHERE id = ?`, handlers, s.id)
		return err
	})
	return wrapError("tell of stuck handlers", err)
}
