package peer

import (
	"context"
	"errors"
	"fmt"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// minPrefix is how much of a peer ID a person must give.
const minPrefix = 6

const selectEntries = `SELECT peer_id, url, offers, added_at, coalesce(last_seen, 0), coalesce(last_error, '') FROM sync_peers `

// Get returns a peer's entry, or ErrUnknownPeer.
func (b *Book) Get(ctx context.Context, id bucket.PeerID) (Entry, error) {
	es, err := b.query(ctx, selectEntries+`WHERE peer_id = $1`, string(id))
	if err == nil && len(es) == 0 {
		err = ErrUnknownPeer
	}
	if err != nil {
		return Entry{}, fmt.Errorf("look up peer %s: %w", id, err)
	}
	return es[0], nil
}

// List returns all peers, the first added first.
func (b *Book) List(ctx context.Context) ([]Entry, error) {
	es, err := b.query(ctx, selectEntries+`ORDER BY added_at, peer_id`)
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	return es, nil
}

// Find returns the one peer whose ID starts with s, of which a person gives at
// least 6 characters. It returns ErrUnknownPeer when there is none, and another
// error when there are several.
func (b *Book) Find(ctx context.Context, s string) (Entry, error) {
	if len(s) < minPrefix {
		return Entry{}, fmt.Errorf("find peer %q: give at least %d characters of its ID", s, minPrefix)
	}
	es, err := b.query(ctx, selectEntries+`WHERE substr(peer_id, 1, $1) = $2 LIMIT 2`, len(s), s)
	switch {
	case err != nil:
	case len(es) == 0:
		err = ErrUnknownPeer
	case len(es) > 1:
		err = errors.New("several peers' IDs start so: give more of it")
	default:
		return es[0], nil
	}
	return Entry{}, fmt.Errorf("find peer %q: %w", s, err)
}

func (b *Book) query(ctx context.Context, query string, args ...any) ([]Entry, error) {
	rows, err := b.tables.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var es []Entry
	for rows.Next() {
		var (
			e           Entry
			id          string
			added, seen jobs.Seconds
		)
		if err := rows.Scan(&id, &e.URL, &e.Offers, &added, &seen, &e.LastError); err != nil {
			return nil, err
		}
		if e.ID, err = bucket.ParsePeerID(id); err != nil {
			return nil, fmt.Errorf("sync_peers: %w", err)
		}
		e.AddedAt, e.LastSeen = added.Time(), seen.Time()
		es = append(es, e)
	}
	return es, rows.Err()
}
