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

// addPins appends the blobs that a page of a pin list names to those before it:
// all ascending, each once, and at least one of the page, or ErrBadPins.
func addPins(pins []cid.Cid, page []byte) ([]cid.Cid, error) {
	links, err := linksOf(page)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadPins, err)
	}
	if len(links) == 0 {
		return nil, fmt.Errorf("%w: an empty page", ErrBadPins)
	}
	for _, c := range links {
		if len(pins) > 0 && compareCIDs(pins[len(pins)-1], c) >= 0 {
			return nil, fmt.Errorf("%w: not sorted", ErrBadPins)
		}
		pins = append(pins, c)
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
	var pins []cid.Cid
	for _, c := range pages {
		data, err := blobs.Get(c)
		if err != nil {
			return nil, fmt.Errorf("pin list: %w", err)
		}
		if pins, err = addPins(pins, data); err != nil {
			return nil, err
		}
	}
	return pins, nil
}

// PinnedBy returns the versions in the log whose pin list that is and whose
// blobs are not all known to be here, newest first: what a complete download
// completes. A share reuses its predecessor's list, so there may be several.
func PinnedBy(ctx context.Context, log *Log, load func(context.Context, Entry) (*Manifest, error), id ID, pins cid.Cid) ([]Entry, error) {
	entries, err := log.Entries(ctx, id)
	if err != nil {
		return nil, err
	}
	var found []Entry
	for _, e := range slices.Backward(entries) {
		if !e.PinsCompleteAt.IsZero() {
			continue
		}
		m, err := load(ctx, e)
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
	for _, c := range sortedCIDs(set) {
		if err := p.add(c.KeyString(), Link{c}); err != nil {
			return cid.Undef, fmt.Errorf("write pin list: %w", err)
		}
	}
	return p.finish()
}

func sortedCIDs(set map[cid.Cid]bool) []cid.Cid {
	return slices.SortedFunc(maps.Keys(set), compareCIDs)
}

// compareCIDs orders by the bytes of the CIDs.
func compareCIDs(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) }
