package bucket_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

func TestLog(t *testing.T) {
	ctx := t.Context()
	h := newHome(t, "owner")
	var all []*bucket.Manifest
	all = append(all, h.create(t, "b"))
	id := all[0].Bucket
	for _, who := range []string{"x", "y", "z"} {
		all = append(all, h.share(t, id, peerOf(identity(who)), bucket.Mirror))
	}

	head, err := h.Log.Head(ctx, id)
	want := bucket.Entry{
		Bucket: id, Height: 3, Link: all[3].Link(), Previous: all[2].Link(), Name: "b",
		Author: h.self, AppliedAt: clock, PinsCompleteAt: clock,
	}
	same := cmp.Comparer(func(a, b cid.Cid) bool { return a == b })
	if diff := cmp.Diff(want, head, same); err != nil || diff != "" {
		t.Errorf("head: %v\n%s", err, diff)
	}
	if _, err := h.Log.Head(ctx, bucket.ID{}); !errors.Is(err, bucket.ErrUnknownBucket) {
		t.Errorf("no bucket: %v", err)
	}

	link := func(i int) cid.Cid { return all[i].Link() }
	for _, tc := range []struct {
		from  int64
		to    cid.Cid
		limit int
		want  []cid.Cid
	}{
		{0, link(3), 100, []cid.Cid{link(0), link(1), link(2), link(3)}},
		{2, link(3), 100, []cid.Cid{link(2), link(3)}},
		{0, link(2), 2, []cid.Cid{link(0), link(1)}},
		{3, link(2), 100, nil},
		{0, blob.Sum(blob.Raw, nil), 100, nil},
	} {
		got, err := h.Log.Links(ctx, id, tc.from, tc.to, tc.limit)
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("links %d to %s: %v, %v", tc.from, tc.to, got, err)
		}
	}

	if got, err := h.Log.Find(ctx, "b"); err != nil || got.Link != link(3) {
		t.Errorf("by name: %v", err)
	}
	if got, err := h.Log.Find(ctx, id.String()); err != nil || got.Link != link(3) {
		t.Errorf("by id: %v", err)
	}
	if _, err := h.Log.Find(ctx, "c"); !errors.Is(err, bucket.ErrUnknownBucket) {
		t.Errorf("unknown: %v", err)
	}
	twin := h.create(t, "b").Bucket
	_, err = h.Log.Find(ctx, "b")
	if !errors.Is(err, bucket.ErrAmbiguous) || !strings.Contains(err.Error(), id.String()) || !strings.Contains(err.Error(), twin.String()) {
		t.Errorf("two of a name: %v", err)
	}
	if heads, err := h.Log.Heads(ctx); err != nil || len(heads) != 2 {
		t.Errorf("heads: %+v, %v", heads, err)
	}
	if ok, err := h.Log.Contains(ctx, id, link(1)); !ok || err != nil {
		t.Error("it does not know its own", err)
	}
	if ok, _ := h.Log.Contains(ctx, twin, link(1)); ok {
		t.Error("another bucket's version")
	}
}

// Proves that an append is idempotent, refuses gaps and forks by its own
// statement, and leaves nothing behind when it fails.
func TestAppend(t *testing.T) {
	ctx := t.Context()
	a, b := newHome(t, "owner"), newHome(t, "other")
	var all []*bucket.Manifest
	all = append(all, a.create(t, "b"))
	id := all[0].Bucket
	for _, who := range []string{"x", "y"} {
		all = append(all, a.share(t, id, peerOf(identity(who)), bucket.Mirror))
	}
	fork := draft(all[1])
	fork.Name = "forked"
	signed(t, fork, identity("owner"))

	appendTo := func(h *home, versions ...*bucket.Manifest) error {
		return h.tables.Write(ctx, func(tx *sql.Tx) error { return h.Log.Append(ctx, tx, versions...) })
	}
	count := func() int {
		rows, err := b.Log.Entries(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		return len(rows)
	}
	if err := appendTo(b, all[1]); !errors.Is(err, bucket.ErrGap) || count() != 0 {
		t.Errorf("without the genesis: %v", err)
	}
	if err := appendTo(b, all[0], all[2]); !errors.Is(err, bucket.ErrGap) || count() != 0 {
		t.Errorf("with a gap: %v, %d rows", err, count())
	}
	for range 2 {
		if err := appendTo(b, all...); err != nil || count() != 3 {
			t.Fatalf("%v, %d rows", err, count())
		}
	}
	if err := appendTo(b, all[0], fork); !errors.Is(err, bucket.ErrDiverged) || count() != 3 {
		t.Errorf("a fork: %v", err)
	}

	// Versions that came from a peer are not complete until said so, once.
	if e, err := b.Log.Head(ctx, id); err != nil || !e.PinsCompleteAt.IsZero() {
		t.Errorf("complete without a blob: %+v, %v", e, err)
	}
	b.receive(t, a, true, all...)
	load := func(_ context.Context, e bucket.Entry) (*bucket.Manifest, error) {
		return bucket.LoadManifest(b.Blobs, e.Link)
	}
	incomplete, err := bucket.PinnedBy(ctx, b.Log, load, id, all[2].Pins.Cid)
	if err != nil || len(incomplete) != 3 || incomplete[0].Link != all[2].Link() {
		t.Fatalf("pinned by %+v, %v", incomplete, err)
	}
	complete := func(ctx context.Context, link cid.Cid) {
		t.Helper()
		if err := b.tables.Write(ctx, func(tx *sql.Tx) error { return b.Log.PinsComplete(ctx, tx, id, link) }); err != nil {
			t.Fatal(err)
		}
	}
	complete(ctx, all[2].Link())
	complete(ctx, all[2].Link())
	if e, err := b.Log.Head(ctx, id); err != nil || !e.PinsCompleteAt.Equal(clock) {
		t.Errorf("not complete: %+v, %v", e, err)
	}
	if incomplete, err := bucket.PinnedBy(ctx, b.Log, load, id, all[2].Pins.Cid); err != nil || len(incomplete) != 2 {
		t.Errorf("pinned by %+v, %v", incomplete, err)
	}
}
