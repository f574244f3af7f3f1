package bucket_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/bucket"
)

func blobPath(h *home, c cid.Cid) string {
	s := c.String()
	return filepath.Join(h.dir, "blobs", s[len(s)-3:len(s)-1], s)
}

// Proves what a mirror can do and can't: it holds and verifies every blob, and
// can neither export nor commit nor find a file's name or content on its disk.
func TestMirror(t *testing.T) {
	a, b := newHome(t, "owner"), newHome(t, "mirror")
	genesis := a.create(t, "b")
	shared := a.share(t, genesis.Bucket, b.self, bucket.Mirror)
	v := a.commit(t, genesis.Bucket, t.TempDir(), map[string]string{"secret-name/plan.txt": "secret-content", "secret-link": "->secret-name"})
	b.receive(t, a, true, genesis, shared, v.Manifest)

	report, err := bucket.Verify(t.Context(), b.Blobs, b.Identity, v.Manifest)
	if err != nil || report.Opened || report.Blobs != len(pins(t, a, v.Manifest)) || report.Bytes == 0 {
		t.Errorf("Verify = %+v, %v", report, err)
	}
	out := filepath.Join(t.TempDir(), "out")
	_, err = bucket.Export(t.Context(), b.Blobs, b.Identity, v.Manifest, out)
	if !errors.Is(err, bucket.ErrNoKey) || !strings.Contains(err.Error(), "we are a mirror of b") {
		t.Errorf("a mirror exports: %v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was exported")
	}
	if _, err := b.Commit(t.Context(), genesis.Bucket, t.TempDir()); !errors.Is(err, bucket.ErrNotOwner) {
		t.Errorf("a mirror commits: %v", err)
	}
	if _, err := b.Share(t.Context(), genesis.Bucket, peerOf(identity("x")), bucket.Mirror); !errors.Is(err, bucket.ErrNotOwner) {
		t.Errorf("a mirror shares: %v", err)
	}
	if _, err := v.Manifest.KeyFor(identity("x")); !errors.Is(err, bucket.ErrNoKey) {
		t.Errorf("a stranger's key: %v", err)
	}
	err = filepath.WalkDir(b.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if bytes.Contains(data, []byte("secret")) || strings.Contains(p, "secret") {
			t.Errorf("%s tells", p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Proves that an owner who was added later reads everything and commits on top,
// that a former owner who became a mirror does not, and that an owner can't lock
// itself out.
func TestSecondOwner(t *testing.T) {
	ctx := t.Context()
	a, b := newHome(t, "owner"), newHome(t, "second")
	genesis := a.create(t, "b")
	first := a.commit(t, genesis.Bucket, t.TempDir(), map[string]string{"f": "one"}).Manifest
	shared := a.share(t, genesis.Bucket, b.self, bucket.Owner)
	if shared.Tree != first.Tree || shared.Pins != first.Pins || shared.Height != 2 {
		t.Errorf("sharing changed the content: %+v", shared)
	}
	b.receive(t, a, true, genesis, first, shared)
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := bucket.Export(ctx, b.Blobs, b.Identity, shared, dir); err != nil {
		t.Fatal(err)
	}
	next := b.commit(t, genesis.Bucket, dir, map[string]string{"g": "two"})
	index, err := b.Blobs.Get(next.Manifest.Pins.Cid)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := bucket.PinPages(index)
	if err != nil {
		t.Fatal(err)
	}
	// A block, its folder's page and index, the manifest, the pin list's index and its
	// pages: where those are cut is chance, and the first may be the one before.
	if n := next.Added.Blobs; next.Manifest.AuthorID() != b.self || n < 5 || n > 5+len(pages) {
		t.Errorf("by %s, %+v with %d pages of pins", next.Manifest.AuthorID(), next.Added, len(pages))
	}
	a.receive(t, b, true, next.Manifest)
	demoted := a.share(t, genesis.Bucket, b.self, bucket.Mirror)
	if _, err := demoted.KeyFor(b.Identity); !errors.Is(err, bucket.ErrNoKey) || demoted.Owns(b.self) {
		t.Errorf("still an owner: %v", err)
	}
	if v, err := a.Share(ctx, genesis.Bucket, b.self, bucket.Mirror); err != nil || !v.Unchanged {
		t.Errorf("shared once more: %+v, %v", v, err)
	}
	if _, err := a.Share(ctx, genesis.Bucket, a.self, bucket.Mirror); err == nil {
		t.Error("the owner locked itself out")
	}
}

func TestDamageIsNamed(t *testing.T) {
	ctx := t.Context()
	h := newHome(t, "owner")
	id := h.create(t, "b").Bucket
	dir := t.TempDir()
	v := h.commit(t, id, dir, map[string]string{"a": "one", "b": "two", "c": "three"})
	all := pins(t, h, v.Manifest)
	missing, corrupt := all[0], all[1]
	if err := errors.Join(os.Remove(blobPath(h, missing)), os.WriteFile(blobPath(h, corrupt), []byte("rot"), 0o600)); err != nil {
		t.Fatal(err)
	}

	_, err := bucket.Verify(ctx, h.Blobs, h.Identity, v.Manifest)
	var damage *bucket.DamageError
	if !errors.As(err, &damage) || len(damage.Missing) != 1 || damage.Missing[0] != missing ||
		len(damage.Corrupt) != 1 || damage.Corrupt[0] != corrupt ||
		!strings.Contains(err.Error(), missing.String()) || !strings.Contains(err.Error(), corrupt.String()) {
		t.Fatalf("Verify: %v", err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := bucket.Export(ctx, h.Blobs, h.Identity, v.Manifest, out); err == nil ||
		!strings.Contains(err.Error(), missing.String()) && !strings.Contains(err.Error(), corrupt.String()) {
		t.Errorf("Export: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(out)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// The folder still has it all: committing it again, unchanged, heals.
	again, err := h.Commit(ctx, id, dir)
	if err != nil || !again.Unchanged || again.Added.Blobs != 2 {
		t.Fatalf("healing: %+v, %v", again, err)
	}
	if _, err := bucket.Verify(ctx, h.Blobs, h.Identity, v.Manifest); err != nil {
		t.Error(err)
	}
}
