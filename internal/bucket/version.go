package bucket

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"maps"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
)

// Version is a version made here. Its blobs, the manifest among them, are
// durable; the bucket has it once Log.AppendVersion is committed.
type Version struct {
	Manifest  *Manifest
	Unchanged bool // Manifest is the head: there is nothing to append
	Complete  bool // every pinned blob is here
	Stats     Stats
	Added     blob.Added // what was not in the blobs before
}

// Stats counts what a version holds. Bytes are those of the files.
type Stats struct {
	Files    int   `json:"files"`
	Folders  int   `json:"folders"`
	Symlinks int   `json:"symlinks"`
	Bytes    int64 `json:"bytes"`
}

// Author makes versions in the name of an identity.
type Author struct {
	Log      *Log
	Blobs    *blob.Store
	Identity ed25519.PrivateKey
}

func (a *Author) self() PeerID { return PeerIDOf(a.Identity.Public().(ed25519.PublicKey)) }

// Create makes the genesis of a new bucket: an empty folder with one owner.
func (a *Author) Create(name string) (*Version, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	key, nonce := newKey(), make([]byte, nonceSize)
	rand.Read(nonce)
	m := &Manifest{
		Format: manifestFormat,
		Nonce:  nonce,
		Bucket: deriveID(a.Identity.Public().(ed25519.PublicKey), nonce),
		Name:   name,
		Shares: map[PeerID]Share{a.self(): {Role: Owner}},
	}
	wrapped, err := key.wrap(a.self())
	if err != nil {
		return nil, err
	}
	m.Keys = map[PeerID][]byte{a.self(): wrapped}

	batch := a.Blobs.NewBatch()
	defer batch.Discard()
	if err := writeContent(batch, key, m, nil); err != nil {
		return nil, err
	}
	return a.sign(batch, &Version{Manifest: m, Complete: true})
}

// Share makes the version that gives a peer a role, or another one than it had.
// It keeps the content. ErrUnknownBucket, ErrNotOwner.
func (a *Author) Share(ctx context.Context, id ID, peer PeerID, role Role) (*Version, error) {
	entry, head, key, err := a.head(ctx, id)
	if err != nil {
		return nil, err
	}
	v := &Version{Manifest: head, Complete: !entry.PinsCompleteAt.IsZero()}
	if head.Shares[peer].Role == role {
		v.Unchanged = true
		return v, nil
	}
	if peer == a.self() {
		return nil, fmt.Errorf("share %s: we are its owner and stay it", head.Name)
	}
	m := successor(head)
	m.Shares[peer] = Share{Role: role}
	delete(m.Keys, peer)
	if role == Owner {
		if m.Keys[peer], err = key.wrap(peer); err != nil {
			return nil, err
		}
	}
	v.Manifest = m
	batch := a.Blobs.NewBatch()
	defer batch.Discard()
	return a.sign(batch, v)
}

// Commit makes the version that holds the folder dir as it is now. It changes
// nothing in it. A folder equal to the head is Unchanged; blobs that had gone
// missing are written again all the same. ErrUnknownBucket, ErrNotOwner, or
// ErrUnfit with the path that can't be committed; then nothing is kept.
func (a *Author) Commit(ctx context.Context, id ID, dir string) (*Version, error) {
	_, head, key, err := a.head(ctx, id)
	if err != nil {
		return nil, err
	}
	batch := a.Blobs.NewBatch()
	defer batch.Discard()
	entries, err := readFolder(ctx, dir, key, batch)
	if err != nil {
		return nil, err
	}
	m := successor(head)
	if err := writeContent(batch, key, m, entries); err != nil {
		return nil, err
	}
	v := &Version{Manifest: m, Complete: true, Stats: statsOf(entries)}
	if m.Tree == head.Tree && m.Pins == head.Pins {
		v.Manifest, v.Unchanged = head, true
		v.Added = batch.Added()
		return v, batch.Commit()
	}
	return a.sign(batch, v)
}

// head returns a bucket's head and key, for a new version on top of it.
func (a *Author) head(ctx context.Context, id ID) (Entry, *Manifest, Key, error) {
	entry, err := a.Log.Head(ctx, id)
	if err != nil {
		return Entry{}, nil, Key{}, err
	}
	m, err := LoadManifest(a.Blobs, entry.Link)
	if err != nil {
		return Entry{}, nil, Key{}, err
	}
	if !m.Owns(a.self()) {
		return Entry{}, nil, Key{}, fmt.Errorf("%s: %w", m.Name, ErrNotOwner)
	}
	key, err := m.KeyFor(a.Identity)
	return entry, m, key, err
}

// successor is what follows head, unsigned, with equal content and shares.
func successor(head *Manifest) *Manifest {
	m := *head
	m.Nonce, m.Signature, m.raw, m.link = nil, nil, nil, cid.Undef
	m.Height, m.Previous = head.Height+1, Link{head.Link()}
	m.Shares, m.Keys = maps.Clone(head.Shares), maps.Clone(head.Keys)
	return &m
}

// writeContent puts the tree of entries and its pin list into the batch, and
// their links into the manifest.
func writeContent(batch *blob.Batch, key Key, m *Manifest, entries []TreeEntry) (err error) {
	pins := map[cid.Cid]bool{}
	if m.Tree.Cid, err = writeTree(batch, key, entries, pins); err != nil {
		return err
	}
	m.Pins.Cid, err = writePins(batch, pins)
	return err
}

// sign finishes a version and makes its blobs durable.
func (a *Author) sign(batch *blob.Batch, v *Version) (*Version, error) {
	if err := v.Manifest.Sign(a.Identity); err != nil {
		return nil, err
	}
	if _, err := batch.Put(blob.DagCBOR, v.Manifest.Bytes()); err != nil {
		return nil, err
	}
	v.Added = batch.Added()
	if err := batch.Commit(); err != nil {
		return nil, err
	}
	return v, nil
}
