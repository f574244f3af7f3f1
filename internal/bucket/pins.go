package bucket

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
)

// A pin list names every blob of a version but the list itself and the
// manifest: the tree's index, its pages, and the chunks. It is not sealed, as a
// mirror fetches by it. To fetch one: the blob that Manifest.Pins names; the
// pages that PinPages finds in it; the blobs that Pins then finds.

// PinPages returns the pages that a pin list's index names, or ErrBadPins.
func PinPages(index []byte) ([]cid.Cid, error) {
	pages, err := pagesOf(index)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPins, err)
	}
	return pages, nil
}

// pinsOf returns the blobs that a page of a pin list names, ascending, each once
// and at least one, or ErrBadPins.
func pinsOf(page []byte) ([]cid.Cid, error) {
	pins, err := linksOf(page)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPins, err)
	}
	if len(pins) == 0 {
		return nil, fmt.Errorf("%w: an empty page", ErrBadPins)
	}
	for i := 1; i < len(pins); i++ {
		if compareCIDs(pins[i-1], pins[i]) >= 0 {
			return nil, fmt.Errorf("%w: not sorted", ErrBadPins)
		}
	}
	return pins, nil
}

// Pins returns the whole pin list from the blobs: ErrBadPins, or package blob's
// ErrNotFound or ErrCorrupt where a part of the list itself is.
func Pins(blobs *blob.Store, link cid.Cid) ([]cid.Cid, error) {
	index, err := blobs.Get(link)
	if err != nil {
		return nil, fmt.Errorf("pin list: %w", err)
	}
	pages, err := PinPages(index)
	if err != nil {
		return nil, err
	}
	var all []cid.Cid
	for _, c := range pages {
		data, err := blobs.Get(c)
		if err != nil {
			return nil, fmt.Errorf("pin list: %w", err)
		}
		pins, err := pinsOf(data)
		if err != nil {
			return nil, err
		}
		if len(all) > 0 && compareCIDs(all[len(all)-1], pins[0]) >= 0 {
			return nil, fmt.Errorf("%w: pages not sorted", ErrBadPins)
		}
		all = append(all, pins...)
	}
	return all, nil
}

// PinnedBy returns the versions in the log whose pin list that is and whose
// blobs are not all known to be here, newest first: what a complete download
// completes. A share reuses its predecessor's list, so there may be several.
func PinnedBy(ctx context.Context, log *Log, blobs *blob.Store, id ID, pins cid.Cid) ([]Entry, error) {
	entries, err := log.Entries(ctx, id)
	if err != nil {
		return nil, err
	}
	var found []Entry
	for _, e := range slices.Backward(entries) {
		if !e.PinsCompleteAt.IsZero() {
			continue
		}
		m, err := LoadManifest(blobs, e.Link)
		if err != nil {
			return nil, err
		}
		if m.Pins.Cid == pins {
			found = append(found, e)
		}
	}
	return found, nil
}

// writePins stores the list of a set of blobs and returns its link.
func writePins(batch *blob.Batch, set map[cid.Cid]bool) (cid.Cid, error) {
	p := pager{put: func(data []byte, _ bool) (cid.Cid, error) { return batch.Put(blob.DagCBOR, data) }}
	for _, c := range slices.SortedFunc(maps.Keys(set), compareCIDs) {
		if err := p.add(c.KeyString(), Link{c}); err != nil {
			return cid.Undef, fmt.Errorf("write pin list: %w", err)
		}
	}
	return p.finish()
}

// compareCIDs orders by the bytes of the CIDs.
func compareCIDs(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) }
