package main

import (
	"database/sql"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/pkg/store"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// newQueue makes an empty queue. The store is closed before this process opens
// the file with the other library.
func newQueue(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "app.db")
	q, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustOpen opens the file with modernc's library until the test ends.
func mustOpen(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// TestTx runs what sqlitetx promises with this driver.
func TestTx(t *testing.T) {
	storetest.RunTx(t, func(t *testing.T) *sql.DB { return mustOpen(t, newQueue(t)) })
}

// TestForbidden: one process opens the file with this library and then with
// store.Open. It is refused wherever the library holds a lock, which it does
// from its first read on, and it keeps that lock.
func TestForbidden(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("NOT TESTED, only Linux tells a process its own locks")
	}
	for what, statements := range map[string][]string{
		"has read":   {`SELECT count(*) FROM sync_jobs`},
		"is reading": {`BEGIN`, `SELECT count(*) FROM sync_jobs`},
		"is writing": {`BEGIN IMMEDIATE`, `INSERT INTO sync_jobs (job_type, payload) VALUES ('A', '1')`},
	} {
		t.Run(what, func(t *testing.T) {
			path := newQueue(t)
			db := mustOpen(t, path)
			c, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for _, s := range statements {
				if _, err := c.ExecContext(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the first look leaves the locks as they were
				if q, err := store.Open(t.Context(), path); err == nil {
					t.Error("opened")
					_ = q.Close()
				} else if s := err.Error(); !strings.Contains(s, path) || !strings.Contains(s, "another SQLite library") ||
					!strings.Contains(s, "close that one first") || strings.Contains(s, "\n") {
					t.Errorf("refused with %q", s)
				}
			}
			// Another program still meets the lock.
			begin, err := exec.Command("sqlite3", path, `BEGIN IMMEDIATE; ROLLBACK`).CombinedOutput()
			if writing := what == "is writing"; (err != nil) != writing || writing && !strings.Contains(string(begin), "locked") {
				t.Errorf("another writer: %v: %s", err, begin)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			q, err := store.Open(t.Context(), path)
			if err != nil {
				t.Errorf("after the other was closed: %v", err)
				return
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnseen shows the gap that the documentation of sqlitetx names: nobody
// looks for a library that opens the file after store.Open.
func TestUnseen(t *testing.T) {
	path := newQueue(t)
	q, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if err := mustOpen(t, path).PingContext(t.Context()); err != nil {
		t.Errorf("refused: %v; then the documentation may promise more", err)
	}
}
