package handlers

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// Home is what the handlers of one home share. Its identity is made when the
// first of them needs it: a fleet that only runs other job types has none.
type Home struct {
	Blobs *blob.Store
	Log   *bucket.Log
	Book  *peer.Book

	dir    string
	ensure func() error // makes dir if it is not there
	store  Store

	mu    sync.Mutex
	ident peer.Identity // after open
	calls *peer.Client  // after open
}

// Store is what the handlers need of the queue.
type Store interface {
	jobs.Store
	jobs.Tables
}

// NewHome is the home in dir, whose queue is store. Nothing is made yet; ensure
// is called before the first thing is.
func NewHome(dir string, store Store, ensure func() error) *Home {
	return &Home{
		Blobs: blob.Open(filepath.Join(dir, "blobs")),
		Log:   bucket.NewLog(store, nil),
		Book:  peer.NewBook(store, nil),
		dir:   dir, store: store, ensure: ensure,
	}
}

// Identity is the home's; it is made if there is none.
func (h *Home) Identity() (peer.Identity, error) {
	err := h.open()
	return h.ident, err
}

// open readies ident and calls. Whoever uses one of them calls it first; for
// Answer that was the server's maker, by Identity.
func (h *Home) open() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls != nil {
		return nil
	}
	if err := h.ensure(); err != nil {
		return err
	}
	ident, _, err := peer.EnsureIdentity(h.dir)
	if err != nil {
		return err
	}
	calls, err := peer.NewClient(peer.ClientOptions{Identity: ident})
	if err != nil {
		return err
	}
	h.ident, h.calls = ident, calls
	return nil
}

// head is where a bucket stands here: its newest version and that manifest.
func (h *Home) head(ctx context.Context, id bucket.ID) (bucket.Entry, *bucket.Manifest, error) {
	entry, err := h.Log.Head(ctx, id)
	if err != nil {
		return entry, nil, err
	}
	m, err := h.manifest(ctx, entry)
	return entry, m, err
}

// manifest reads a version's manifest. One that has rotted or gone is fetched
// again from whoever has it: its link says what it must be.
func (h *Home) manifest(ctx context.Context, entry bucket.Entry) (*bucket.Manifest, error) {
	m, err := bucket.LoadManifest(h.Blobs, entry.Link)
	if err == nil || (!errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrCorrupt)) {
		return m, err
	}
	lost := fmt.Errorf("version %d of bucket %s: %w", entry.Height, entry.Bucket, err)
	if err := h.open(); err != nil {
		return nil, errors.Join(lost, err)
	}
	peers, err := h.Book.List(ctx)
	if err != nil {
		return nil, errors.Join(lost, err)
	}
	for _, p := range peers {
		batch := h.Blobs.NewBatch()
		_, err := h.calls.Fetch(ctx, p.Peer, entry.Link, batch)
		if err == nil {
			err = batch.Commit()
		}
		batch.Discard()
		if err == nil {
			return bucket.LoadManifest(h.Blobs, entry.Link)
		}
	}
	return nil, lost
}

// sharers are those in a version's shares but ourselves; first, who is one of
// them, before the others.
func (h *Home) sharers(m *bucket.Manifest, first bucket.PeerID) []bucket.PeerID {
	list := []bucket.PeerID{first}
	for _, id := range sortedShares(m) {
		if id != h.ident.ID() && id != first {
			list = append(list, id)
		}
	}
	return list
}

// sources are those of the peers that the address book knows; ErrUnreachable
// if it knows none.
func (h *Home) sources(ctx context.Context, ids []bucket.PeerID) ([]peer.Peer, error) {
	var list []peer.Peer
	for _, id := range ids {
		entry, err := h.Book.Get(ctx, id)
		switch {
		case errors.Is(err, peer.ErrUnknownPeer):
		case err != nil:
			return nil, err
		default:
			list = append(list, entry.Peer)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: none of the %d sources is in the address book", peer.ErrUnreachable, len(ids))
	}
	return list, nil
}

// note writes in the address book how a call to a peer went. The book is for
// people: that it could not be written is no reason to fail.
func (h *Home) note(ctx context.Context, p peer.Peer, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err == nil {
		_ = h.Book.Seen(ctx, p.ID)
	} else {
		_ = h.Book.Failed(ctx, p.ID, err)
	}
}
