package peer_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// tables is one database file with the tables that peers need.
type tables struct {
	db    *sql.DB
	watch *sql.Conn // sees what others commit
}

func newTables(t *testing.T) tables {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), "peer.db")+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=synchronous(off)")
	must(t, err)
	_, err = db.Exec(`
		CREATE TABLE sync_peers (
			peer_id TEXT PRIMARY KEY, url TEXT NOT NULL, offers INTEGER NOT NULL DEFAULT 0,
			added_at REAL NOT NULL, last_seen REAL, last_error TEXT) STRICT;
		CREATE TABLE sync_bucket_log (
			bucket_id TEXT NOT NULL, height INTEGER NOT NULL, link TEXT NOT NULL, previous TEXT,
			name TEXT NOT NULL, author TEXT NOT NULL, applied_at REAL NOT NULL, pins_complete_at REAL,
			UNIQUE (bucket_id, link)) STRICT;`)
	must(t, err)
	db.SetMaxOpenConns(8) // a pool is bounded
	watch, err := db.Conn(t.Context())
	must(t, err)
	t.Cleanup(func() {
		checkPeers(t, db)
		must(t, watch.Close())
		must(t, db.Close())
	})
	return tables{db, watch}
}

func (ts tables) Read() *sql.DB { return ts.db }

func (ts tables) Write(ctx context.Context, fn func(*sql.Tx) error, _ ...jobs.New) error {
	tx, err := ts.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// changes is a number that differs after every commit that wrote something.
func (ts tables) changes(t *testing.T) (n int64) {
	t.Helper()
	must(t, ts.watch.QueryRowContext(t.Context(), `PRAGMA data_version`).Scan(&n))
	return n
}

// checkPeers checks what holds for every row after every test.
func checkPeers(t *testing.T, db *sql.DB) {
	rows, err := db.Query(`SELECT peer_id, url FROM sync_peers`)
	must(t, err)
	defer rows.Close()
	for rows.Next() {
		var id, url string
		must(t, rows.Scan(&id, &url))
		if _, err := bucket.ParsePeerID(id); err != nil {
			t.Errorf("sync_peers holds %v", err)
		}
		if len(url) < len("https://h:1") || url[:8] != "https://" {
			t.Errorf("sync_peers holds the URL %q", url)
		}
	}
	must(t, rows.Err())
}

// clock is one that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMicro(1_800_000_000_123_456)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// someone is a new identity. Its file is written by hand: EnsureIdentity waits
// for the disk, and there are many of them.
func someone(t *testing.T) peer.Identity {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	home := t.TempDir()
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	must(t, os.WriteFile(filepath.Join(home, "identity.pem"), text, 0o600))
	id, err := peer.LoadIdentity(home)
	must(t, err)
	return id
}

// twins are two peers whose IDs start with the same 6 characters, and no more.
const (
	twinA bucket.PeerID = "9f2e8e3b040fa0aeff506e18d8f45fbeac7f14479f9463945d9a59dcb792c110"
	twinB bucket.PeerID = "9f2e8ebf155a8742a07b03233ff071daeacb0a5bae2882d5253c064656476c58"
)

// home is one peer that serves on a real socket.
type home struct {
	peer.Identity
	tables  tables
	book    *peer.Book
	blobDir string
	blobs   *blob.Store
	log     *bucket.Log
	addr    string
	stop    context.CancelFunc // ends Serve
	done    chan error         // what Serve returned
}

// newHome starts a home that knows the given peers. change may alter the
// server's options.
func newHome(t *testing.T, change func(*peer.Options), knows ...bucket.PeerID) *home {
	t.Helper()
	h := &home{Identity: someone(t), tables: newTables(t), blobDir: t.TempDir(), done: make(chan error, 1)}
	h.blobs = blob.Open(h.blobDir)
	h.book = peer.NewBook(h.tables, newClock().Now)
	h.log = bucket.NewLog(h.tables, nil)
	for _, id := range knows {
		must(t, h.book.Add(t.Context(), h.ID(), id, "https://127.0.0.1:1", false))
	}
	o := peer.Options{
		Identity: h.Identity, Book: h.book, Blobs: h.blobs, Log: h.log,
		Ping: func(context.Context, bucket.PeerID, []peer.Ping) ([]peer.Pong, error) {
			return nil, io.ErrUnexpectedEOF
		},
	}
	if change != nil {
		change(&o)
	}
	server, err := peer.NewServer(o)
	must(t, err)
	ln, err := peer.Listen(t.Context(), "127.0.0.1:0")
	must(t, err)
	h.addr = ln.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	go func() { h.done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err, ok := <-h.done; ok && err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return h
}

func (h *home) peer() peer.Peer { return peer.Peer{ID: h.ID(), URL: "https://" + h.addr} }

// put stores blobs and returns the CID of the last.
func (h *home) put(t *testing.T, codec uint64, blobs ...[]byte) (c cid.Cid) {
	t.Helper()
	b := h.blobs.NewBatch()
	defer b.Discard()
	for _, data := range blobs {
		var err error
		c, err = b.Put(codec, data)
		must(t, err)
	}
	must(t, b.Commit())
	return c
}

func newClient(t *testing.T, id peer.Identity) *peer.Client {
	t.Helper()
	c, err := peer.NewClient(peer.ClientOptions{Identity: id})
	must(t, err)
	return c
}

// certificate is a self-signed one of key, as any TLS library makes it.
func certificate(t *testing.T, key ed25519.PrivateKey) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// plain is an HTTP client that is not ours, with id's certificate.
func plain(t *testing.T, id peer.Identity) *http.Client {
	t.Helper()
	tr := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		Certificates:       []tls.Certificate{certificate(t, id.Key())},
		InsecureSkipVerify: true,
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// liar is a peer with a real key on a real socket that answers as it likes.
func liar(t *testing.T, id peer.Identity, answer http.HandlerFunc) peer.Peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{Handler: answer, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{certificate(t, id.Key())}, ClientAuth: tls.RequireAnyClientCert,
	}}
	go func() { _ = server.ServeTLS(ln, "", "") }() // it ends with Close
	t.Cleanup(func() { server.Close() })
	return peer.Peer{ID: id.ID(), URL: "https://" + ln.Addr().String()}
}

// do sends a request with a client that is not ours and reads the answer.
func do(t *testing.T, c *http.Client, method, url string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	must(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.Do(req)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return res, string(text)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
