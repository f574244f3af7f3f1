package bucket

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Append adds believed versions, oldest first, inside the caller's transaction.
// One that is there is no error. ErrDiverged: another version has its height;
// ErrGap: its predecessor is not there. After an error the caller rolls back.
func (l *Log) Append(ctx context.Context, tx *sql.Tx, versions ...*Manifest) error {
	for _, m := range versions {
		if err := l.append(ctx, tx, m, false); err != nil {
			return err
		}
	}
	return nil
}

// AppendVersion adds a version that was made here, inside the caller's
// transaction. ErrHeadMoved: the bucket has got another version since; make it
// again.
func (l *Log) AppendVersion(ctx context.Context, tx *sql.Tx, v *Version) error {
	err := l.append(ctx, tx, v.Manifest, v.Complete)
	if errors.Is(err, ErrDiverged) {
		return fmt.Errorf("%s: %w", v.Manifest.Name, ErrHeadMoved)
	}
	return err
}

// append inserts a version on top of its predecessor, where nothing else stands
// on it. Both conditions are the statement's own, so that no writer can come in
// between.
func (l *Log) append(ctx context.Context, tx *sql.Tx, m *Manifest, complete bool) error {
	var previous, completeAt any
	if m.Previous.Defined() {
		previous = m.Previous.String()
	}
	now := float64(jobs.SecondsOf(l.now()))
	if complete {
		completeAt = now
	}
	res, err := tx.ExecContext(ctx, `
		INSERT INTO sync_bucket_log (`+entryColumns+`)
		SELECT $1, $2, $3, $4, $5, $6, $7, $8
		WHERE NOT EXISTS (SELECT 1 FROM sync_bucket_log WHERE bucket_id = $1 AND height = $2)
		  AND ($2 = 0 OR EXISTS (SELECT 1 FROM sync_bucket_log WHERE bucket_id = $1 AND height = $2 - 1 AND link = $4))
		ON CONFLICT (bucket_id, link) DO NOTHING`,
		m.Bucket.String(), m.Height, m.Link().String(), previous, m.Name, string(m.AuthorID()), now, completeAt)
	if err != nil {
		return fmt.Errorf("append version: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return fmt.Errorf("append version: %w", err)
	}
	if n == 1 {
		return nil
	}
	return l.whyNot(ctx, tx, m)
}

// whyNot says why a version was not inserted; nil: it was there.
func (l *Log) whyNot(ctx context.Context, tx *sql.Tx, m *Manifest) error {
	var there string
	err := tx.QueryRowContext(ctx,
		`SELECT link FROM sync_bucket_log WHERE bucket_id = $1 AND height = $2`,
		m.Bucket.String(), m.Height).Scan(&there)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("append version %d of %s: %w", m.Height, m.Name, ErrGap)
	case err != nil:
		return fmt.Errorf("append version: %w", err)
	case there != m.Link().String():
		return fmt.Errorf("append version %d of %s: %w: %s", m.Height, m.Name, ErrDiverged, there)
	}
	return nil
}

// PinsIncomplete notes, inside the caller's transaction, that blobs which a
// version pins are missing here, or were found to be corrupt.
func (l *Log) PinsIncomplete(ctx context.Context, tx *sql.Tx, id ID, link cid.Cid) error {
	_, err := tx.ExecContext(ctx, `UPDATE sync_bucket_log SET pins_complete_at = NULL WHERE bucket_id = $1 AND link = $2`,
		id.String(), link.String())
	if err != nil {
		return fmt.Errorf("note missing pins: %w", err)
	}
	return nil
}

// PinsComplete notes, inside the caller's transaction, that all blobs which a
// version pins are here. The first time is kept.
func (l *Log) PinsComplete(ctx context.Context, tx *sql.Tx, id ID, link cid.Cid) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE sync_bucket_log SET pins_complete_at = $1
		WHERE bucket_id = $2 AND link = $3 AND pins_complete_at IS NULL`,
		float64(jobs.SecondsOf(l.now())), id.String(), link.String())
	if err != nil {
		return fmt.Errorf("note complete pins: %w", err)
	}
	return nil
}
