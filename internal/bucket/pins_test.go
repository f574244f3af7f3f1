package bucket_test

import (
	"fmt"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/bucket"
)

// pinList is the blobs of a version's pin list itself, as a fetcher walks it.
func pinList(t *testing.T, h *home, m *bucket.Manifest) []cid.Cid {
	t.Helper()
	index, err := h.Blobs.Get(m.Pins.Cid)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := bucket.PinPages(index)
	if err != nil {
		t.Fatal(err)
	}
	return append([]cid.Cid{m.Pins.Cid}, pages...)
}

func pins(t *testing.T, h *home, m *bucket.Manifest) []cid.Cid {
	t.Helper()
	all, err := bucket.Pins(h.Blobs, m.Pins.Cid)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Proves that what a version newly brings is what changed: of 1,000 files one
// changes, and a chunk, a page of the tree, both indexes, the manifest and the
// pages of the pin list where three pins went and three came are all that is
// new.
func TestOnlyWhatChangedIsNew(t *testing.T) {
	h := newHome(t, "owner")
	id := h.create(t, "big").Bucket
	files := map[string]string{}
	for i := range 1000 {
		files[fmt.Sprintf("d%02d/file-%04d", i%50, i)] = fmt.Sprint("content ", i)
	}
	dir := t.TempDir()
	first := h.commit(t, id, dir, files)
	if n := len(pins(t, h, first.Manifest)); n < 1002 {
		t.Fatalf("%d pins", n)
	}
	second := h.commit(t, id, dir, map[string]string{"d07/file-0007": "changed"})
	old := map[cid.Cid]bool{}
	for _, c := range append(pins(t, h, first.Manifest), pinList(t, h, first.Manifest)...) {
		old[c] = true
	}
	fresh := 0
	for _, c := range append(pins(t, h, second.Manifest), pinList(t, h, second.Manifest)...) {
		if !old[c] {
			fresh++
		}
	}
	if fresh < 5 || fresh > 4+6 {
		t.Errorf("%d new blobs for one changed file", fresh)
	}
	if got := second.Added.Blobs; got != fresh+1 { // and the manifest
		t.Errorf("%d blobs written, want %d", got, fresh+1)
	}
	_, err := bucket.Verify(t.Context(), h.Blobs, h.Identity, second.Manifest)
	if err != nil {
		t.Error(err)
	}
}
