package peer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// ErrUnknownPeer is returned for a peer that is not in the address book.
var ErrUnknownPeer = errors.New("unknown peer")

// Peer is who to call and where.
type Peer struct {
	ID  bucket.PeerID
	URL string // https://host:port
}

// Entry is one row of the address book.
type Entry struct {
	Peer
	Offers    bool      // may bring buckets that we don't have
	AddedAt   time.Time // set once, kept when the peer is added again
	LastSeen  time.Time // zero: never reached
	LastError string    // of the last contact; empty when that went well
}

// Book is the address book and the allow-list: the rows of sync_peers.
type Book struct {
	tables jobs.Tables
	now    func() time.Time
}

// NewBook returns the book in tables. now is the clock for added_at and
// last_seen; nil means time.Now.
func NewBook(tables jobs.Tables, now func() time.Time) *Book {
	if now == nil {
		now = time.Now
	}
	return &Book{tables: tables, now: now}
}

// Add puts a peer into the book, or gives one that is there a new URL and a
// new word on offers. The URL is https://host:port and nothing more. The home's
// own ID, self, is refused; zero: it has none.
func (b *Book) Add(ctx context.Context, self, id bucket.PeerID, rawURL string, offers bool) error {
	// An ID of another make than ParsePeerID's would be a row nobody can use.
	if _, err := bucket.ParsePeerID(string(id)); err != nil {
		return fmt.Errorf("add peer: %w", err)
	}
	if id == self {
		return fmt.Errorf("add peer: %s is this home itself", id)
	}
	u, err := parseURL(rawURL)
	if err != nil {
		return fmt.Errorf("add peer: %w", err)
	}
	_, err = b.exec(ctx, `INSERT INTO sync_peers (peer_id, url, offers, added_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (peer_id) DO UPDATE SET url = excluded.url, offers = excluded.offers`,
		string(id), u, offers, float64(jobs.SecondsOf(b.now())))
	if err != nil {
		return fmt.Errorf("add peer: %w", err)
	}
	return nil
}

// Remove takes a peer out of the book: from now on it is a stranger. It
// returns ErrUnknownPeer when the peer was not there.
func (b *Book) Remove(ctx context.Context, id bucket.PeerID) error {
	n, err := b.exec(ctx, `DELETE FROM sync_peers WHERE peer_id = $1`, string(id))
	if err == nil && n == 0 {
		err = ErrUnknownPeer
	}
	if err != nil {
		return fmt.Errorf("remove peer %s: %w", id, err)
	}
	return nil
}

// Seen notes that a peer was reached, and clears its last error. To spare a
// commit a contact, it writes only when the note is older than a minute or
// there is an error to clear. A peer that is not in the book is left alone.
func (b *Book) Seen(ctx context.Context, id bucket.PeerID) error {
	now := float64(jobs.SecondsOf(b.now()))
	_, err := b.exec(ctx, `UPDATE sync_peers SET last_seen = $1, last_error = NULL WHERE peer_id = $2
		AND (last_error IS NOT NULL OR last_seen IS NULL OR last_seen NOT BETWEEN $3 AND $4)`,
		now, string(id), now-60, now+60)
	if err != nil {
		return fmt.Errorf("note peer %s as seen: %w", id, err)
	}
	return nil
}

// Failed notes why the last contact with a peer failed, at most 500 bytes of
// it; the same reason twice is written once. A peer that is not in the book is
// left alone.
func (b *Book) Failed(ctx context.Context, id bucket.PeerID, cause error) error {
	why := oneLine(cause.Error(), 500)
	_, err := b.exec(ctx, `UPDATE sync_peers SET last_error = $1 WHERE peer_id = $2
		AND (last_error IS NULL OR last_error <> $1)`, why, string(id))
	if err != nil {
		return fmt.Errorf("note the failure of peer %s: %w", id, err)
	}
	return nil
}

// exec runs one statement as one transaction and returns its row count.
func (b *Book) exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = b.tables.Write(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, query, args...)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}
