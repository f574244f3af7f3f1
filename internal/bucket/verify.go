package bucket

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
)

// Report says what Verify looked at.
type Report struct {
	Blobs  int   // pinned blobs, all present and whole
	Bytes  int64 // theirs
	Opened bool  // we have the key: every file was decrypted and compared with its hash
	Stats  Stats // of the tree, if Opened
}

// DamageError names the blobs that a version needs and that are not here.
type DamageError struct {
	Missing, Corrupt []cid.Cid
}

func (e *DamageError) Error() string {
	var parts []string
	for _, bad := range []struct {
		what string
		cids []cid.Cid
	}{{"missing", e.Missing}, {"corrupt", e.Corrupt}} {
		if len(bad.cids) == 0 {
			continue
		}
		const names = 10 // more would not help anybody
		var list []string
		for _, c := range bad.cids[:min(names, len(bad.cids))] {
			list = append(list, c.String())
		}
		if len(bad.cids) > names {
			list = append(list, fmt.Sprintf("and %d more", len(bad.cids)-names))
		}
		parts = append(parts, fmt.Sprintf("%d blobs %s: %s", len(bad.cids), bad.what, strings.Join(list, ", ")))
	}
	return strings.Join(parts, "; ")
}

// Verify reads every blob of version m. An owner's check goes on to decrypt the
// tree and every file, and to compare the pin list with them. It returns a
// *DamageError if blobs are missing or corrupt; the corrupt ones are set aside,
// to be fetched again.
func Verify(ctx context.Context, blobs *blob.Store, identity ed25519.PrivateKey, m *Manifest) (Report, error) {
	var report Report
	key, err := m.KeyFor(identity)
	if report.Opened = err == nil; err != nil && !errors.Is(err, ErrNoKey) {
		return Report{}, err
	}
	pins, err := Pins(blobs, m.Pins.Cid)
	if err != nil {
		return Report{}, err
	}
	var damage DamageError
	for _, c := range pins {
		if err := context.Cause(ctx); err != nil {
			return Report{}, err
		}
		data, err := blobs.Get(c)
		switch {
		case errors.Is(err, blob.ErrNotFound):
			damage.Missing = append(damage.Missing, c)
		case errors.Is(err, blob.ErrCorrupt):
			damage.Corrupt = append(damage.Corrupt, c)
		case err != nil:
			return Report{}, err
		}
		report.Blobs++
		report.Bytes += int64(len(data))
	}
	if len(damage.Missing)+len(damage.Corrupt) > 0 {
		return Report{}, &damage
	}
	if report.Opened {
		report.Stats, err = verifyTree(ctx, blobs, key, m, pins)
	}
	return report, err
}

func verifyTree(ctx context.Context, blobs *blob.Store, key Key, m *Manifest, pins []cid.Cid) (Stats, error) {
	needed := map[cid.Cid]bool{}
	entries, err := readTree(blobs, key, m.Tree.Cid, needed)
	if err != nil {
		return Stats{}, err
	}
	if !slices.Equal(pins, sortedCIDs(needed)) {
		return Stats{}, fmt.Errorf("%w: it is not the list of the tree's blobs", ErrBadPins)
	}
	for _, e := range entries {
		if e.Kind == File {
			if err := copyFile(ctx, io.Discard, blobs, key, e); err != nil {
				return Stats{}, err
			}
		}
	}
	return statsOf(entries), nil
}
