package bucket_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"database/sql"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// tables is what an engine gives, on a file of its own.
type tables struct{ db *sql.DB }

func (t tables) Read() *sql.DB { return t.db }

func (t tables) Write(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// clock is where every test's time stands still.
var clock = time.Unix(1_800_000_000, 250_000_000)

// home is a peer under test: identity, log and blobs.
type home struct {
	bucket.Author
	tables tables
	dir    string
	self   bucket.PeerID
}

func identity(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func peerOf(key ed25519.PrivateKey) bucket.PeerID {
	return bucket.PeerIDOf(key.Public().(ed25519.PublicKey))
}

func newHome(t *testing.T, name string) *home {
	t.Helper()
	dir := t.TempDir()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, "test.db")+"?_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	_, err = db.Exec(`
		CREATE TABLE sync_bucket_log (
			bucket_id TEXT NOT NULL, height INTEGER NOT NULL, link TEXT NOT NULL, previous TEXT,
			name TEXT NOT NULL, author TEXT NOT NULL, applied_at REAL NOT NULL, pins_complete_at REAL,
			UNIQUE (bucket_id, link)) STRICT;
		CREATE INDEX sync_bucket_log_height ON sync_bucket_log (bucket_id, height)`)
	if err != nil {
		t.Fatal(err)
	}
	key := identity(name)
	h := &home{tables: tables{db}, dir: dir, self: peerOf(key)}
	h.Author = bucket.Author{
		Log:      bucket.NewLog(h.tables, func() time.Time { return clock }),
		Blobs:    blob.Open(filepath.Join(dir, "blobs")),
		Identity: key,
	}
	return h
}

// apply appends a version that this home made.
func (h *home) apply(t *testing.T, v *bucket.Version, err error) *bucket.Manifest {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	err = h.tables.Write(t.Context(), func(tx *sql.Tx) error { return h.Log.AppendVersion(t.Context(), tx, v) })
	if err != nil {
		t.Fatal(err)
	}
	return v.Manifest
}

// create makes a bucket.
func (h *home) create(t *testing.T, name string) *bucket.Manifest {
	t.Helper()
	v, err := h.Create(name)
	return h.apply(t, v, err)
}

// share shares a bucket.
func (h *home) share(t *testing.T, id bucket.ID, peer bucket.PeerID, role bucket.Role) *bucket.Manifest {
	t.Helper()
	v, err := h.Share(t.Context(), id, peer, role)
	return h.apply(t, v, err)
}

// receive gives this home versions of another's, blobs and log, as a sync
// would; blobs false leaves out all but the manifests.
func (h *home) receive(t *testing.T, from *home, blobs bool, versions ...*bucket.Manifest) {
	t.Helper()
	batch := h.Blobs.NewBatch()
	defer batch.Discard()
	for _, m := range versions {
		if _, err := batch.Put(blob.DagCBOR, m.Bytes()); err != nil {
			t.Fatal(err)
		}
		if !blobs {
			continue
		}
		for _, c := range append(pinList(t, from, m), pins(t, from, m)...) {
			data, err := from.Blobs.Get(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := batch.Receive(c, bytes.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := batch.Commit(); err != nil {
		t.Fatal(err)
	}
	err := h.tables.Write(t.Context(), func(tx *sql.Tx) error { return h.Log.Append(t.Context(), tx, versions...) })
	if err != nil {
		t.Fatal(err)
	}
}

// commit writes files into a folder and commits it. A name that ends in "/" is
// a folder, content that starts with "->" a symbolic link's target.
func (h *home) commit(t *testing.T, id bucket.ID, dir string, files map[string]string) *bucket.Version {
	t.Helper()
	write(t, dir, files)
	v, err := h.Commit(t.Context(), id, dir)
	h.apply(t, v, err)
	return v
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if name[len(name)-1] == '/' {
			if err := os.MkdirAll(p, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if len(content) > 2 && content[:2] == "->" {
			err = os.Symlink(content[2:], p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
