package handlers

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestDownloadProgress: what is done comes to the total and never past it,
// though the pin list's own blobs are fetched besides.
func TestDownloadProgress(t *testing.T) {
	from, to := newPeerHome(t), newPeerHome(t)
	author := &bucket.Author{Log: from.Log, Blobs: from.Blobs, Identity: from.ident.Key()}
	v, err := author.Create("docs")
	if err != nil {
		t.Fatal(err)
	}
	err = from.Book.Add(t.Context(), from.ident.ID(), to.ident.ID(), "https://127.0.0.1:1", false)
	if err != nil {
		t.Fatal(err)
	}

	f := &fetcher{home: to, sources: []peer.Peer{serve(t, from)}, busy: make(map[bucket.PeerID]int)}
	var done, total int64
	err = f.all(t.Context(), v.Manifest.Pins.Cid, func(d, of int64, _ string) { done, total = d, of })
	if err != nil {
		t.Fatal(err)
	}
	pins, err := bucket.Pins(to.Blobs, v.Manifest.Pins.Cid)
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(len(pins)); done != n || total != n {
		t.Errorf("%d of %d are done at the end; want %d", done, total, n)
	}
	if f.fetched <= len(pins) {
		t.Errorf("%d blobs fetched; the list of %d has some of its own", f.fetched, len(pins))
	}
}

// TestDownloadWithALostManifest: a version whose manifest has rotted is no reason
// not to fetch another's blobs; the manifest is fetched again, too.
func TestDownloadWithALostManifest(t *testing.T) {
	from, to := newPeerHome(t), newPeerHome(t)
	author := &bucket.Author{Log: from.Log, Blobs: from.Blobs, Identity: from.ident.Key()}
	first, err := author.Create("docs")
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, from, first.Manifest)
	second, err := author.Share(t.Context(), first.Manifest.Bucket, to.ident.ID(), bucket.Mirror)
	if err != nil {
		t.Fatal(err)
	}
	appendTo(t, from, second.Manifest)
	appendTo(t, to, first.Manifest, second.Manifest) // and neither's manifest is here
	err = from.Book.Add(t.Context(), from.ident.ID(), to.ident.ID(), "https://127.0.0.1:1", false)
	if err != nil {
		t.Fatal(err)
	}
	at := serve(t, from)
	if err := to.Book.Add(t.Context(), to.ident.ID(), at.ID, at.URL, false); err != nil {
		t.Fatal(err)
	}

	n, err := downloadJob(second.Manifest, []bucket.PeerID{at.ID})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := to.store.Enqueue(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	w := jobs.NewWorker(to.store, jobs.WorkerOptions{Concurrency: 1, UntilEmpty: true, MaxAttempts: 1})
	Register(w, to, "DownloadPins")
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	versions, err := to.Log.Entries(t.Context(), second.Manifest.Bucket)
	if err != nil || len(versions) != 2 {
		t.Fatalf("%d versions, %v", len(versions), err)
	}
	for _, v := range versions {
		if v.PinsCompleteAt.IsZero() {
			t.Errorf("version %d is not complete", v.Height)
		}
	}
}

func appendTo(t *testing.T, h *Home, versions ...*bucket.Manifest) {
	t.Helper()
	err := h.store.Write(t.Context(), func(tx *sql.Tx) error { return h.Log.Append(t.Context(), tx, versions...) })
	if err != nil {
		t.Fatal(err)
	}
}

// newPeerHome is a home with an identity, in a folder and a database of its own.
func newPeerHome(t *testing.T) *Home {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(t.Context(), filepath.Join(dir, "shoal.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	h := NewHome(dir, db, func() error { return os.MkdirAll(dir, 0o700) })
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	return h
}

// serve answers the home's peers until the test ends.
func serve(t *testing.T, h *Home) peer.Peer {
	t.Helper()
	server, err := peer.NewServer(peer.Options{Identity: h.ident, Book: h.Book, Blobs: h.Blobs, Log: h.Log, Ping: h.Answer})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := peer.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return peer.Peer{ID: h.ident.ID(), URL: "https://" + ln.Addr().String()}
}
