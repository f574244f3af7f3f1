package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
)

// TestOpenAtOnce: 16 processes start on a file that is not there, and each
// enqueues a job. A process of its own has locks of its own.
func TestOpenAtOnce(t *testing.T) {
	if path := os.Getenv("SHOAL_TEST_OPEN"); path != "" {
		db := open(t, path, sqlite.Options{})
		defer db.Close()
		if _, err := db.Enqueue(t.Context(), jobs.New{Type: "A", Payload: []byte(`1`)}); err != nil {
			t.Fatal(err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "jobs.db")
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestOpenAtOnce$")
			cmd.Env = append(os.Environ(), "SHOAL_TEST_OPEN="+path, "GORACE=atexit_sleep_ms=0")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	all.Wait()
	out, err := exec.Command("sqlite3", path, `SELECT count(*), count(DISTINCT id) FROM sync_jobs; PRAGMA integrity_check; PRAGMA journal_mode`).Output()
	if err != nil || string(out) != "16|16\nok\nwal\n" {
		t.Errorf("%s %v", out, err)
	}
}

// TestModes: the files are nobody else's, whatever the umask; beside an
// application's database they are as open as that.
func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	for _, mode := range []fs.FileMode{0o600, 0o640} {
		if mode != 0o600 {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(path + "-workers"); err != nil {
				t.Fatal(err)
			}
		}
		db := open(t, path, sqlite.Options{})
		for _, suffix := range []string{"", "-wal", "-shm", "-workers"} {
			info, err := os.Stat(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != mode {
				t.Errorf("%s has mode %v, want %v", suffix, info.Mode().Perm(), mode)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestApplicationsFile: the queue lives in an application's own database, and
// leaves what is there alone.
func TestApplicationsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	if out, err := exec.Command("sqlite3", path, `CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT); INSERT INTO orders VALUES (1, 'mine')`).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	db := open(t, path, sqlite.Options{})
	defer db.Close()
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`UPDATE orders SET note = 'sent'`)
		return err
	}, jobs.New{Type: "A", Payload: []byte(`1`)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sqlite3", path, `SELECT note, (SELECT count(*) FROM sync_jobs) FROM orders`).Output()
	if err != nil || string(out) != "sent|1\n" {
		t.Errorf("%s %v", out, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("text ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer.db")
	if err := open(t, newer, sqlite.Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sqlite3", newer, `UPDATE sync_meta SET value = '77' WHERE key = 'schema_version'`).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for path, want := range map[string]string{
		text:                                "no SQLite database",
		newer:                               "schema version 77",
		dir:                                 "is",
		filepath.Join(dir, "no", "jobs.db"): "no",
	} {
		db, err := sqlite.Open(context.Background(), path, sqlite.Options{})
		if err == nil {
			_ = db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if db, err := sqlite.Open(context.Background(), filepath.Join(dir, "new.db"), sqlite.Options{Existing: true}); err == nil {
		t.Error("a database that is not there was made", db.Close())
	}
}

// TestMoved: once the file is moved away nothing is acknowledged any more: who
// opens the path next would not find it.
func TestMoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	db := open(t, path, sqlite.Options{})
	defer db.Close()
	n := jobs.New{Type: "A", Payload: []byte(`1`)}
	if _, err := db.Enqueue(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // found out, then known
		if _, err := db.Enqueue(t.Context(), n); !errors.Is(err, jobs.ErrClosed) || !strings.Contains(err.Error(), "moved") {
			t.Errorf("got %v, want ErrClosed and why", err)
		}
	}
}

// TestMigratedMeanwhile: an application's change of its own tables stops nothing;
// once a newer program has migrated the file, nothing is written or acknowledged
// by the old rules any more, whichever way it comes.
func TestMigratedMeanwhile(t *testing.T) {
	n := jobs.New{Type: "A", Payload: []byte(`1`)}
	for name, use := range map[string]func(*sqlite.DB, jobs.Seat) error{
		"Enqueue": func(db *sqlite.DB, _ jobs.Seat) error { _, err := db.Enqueue(t.Context(), n); return err },
		"Write":   func(db *sqlite.DB, _ jobs.Seat) error { return db.Write(t.Context(), nil, n) },
		"Reap":    func(_ *sqlite.DB, seat jobs.Seat) error { _, _, err := seat.Reap(t.Context()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			db, seat := joined(t)
			for range 2 {
				shell(t, db.Path(), `CREATE TABLE app (x)`)
				if err := use(db, seat); err != nil {
					t.Fatal(err)
				}
				shell(t, db.Path(), `DROP TABLE app`)
			}
			before := shell(t, db.Path(), `SELECT count(*) FROM sync_jobs`)
			shell(t, db.Path(), `BEGIN; ALTER TABLE sync_jobs ADD COLUMN y TEXT; UPDATE sync_meta SET value = '77' WHERE key = 'schema_version'; COMMIT`)
			for range 2 { // found out, then known
				if err := use(db, seat); !errors.Is(err, jobs.ErrClosed) || !strings.Contains(err.Error(), "migrated to schema version 77 by a newer shoal") {
					t.Errorf("got %v, want ErrClosed and why", err)
				}
			}
			if got := shell(t, db.Path(), `SELECT count(*) FROM sync_jobs`); got != before {
				t.Errorf("%s jobs, there were %s", got, before)
			}
		})
	}
}

func TestMemory(t *testing.T) {
	db := open(t, sqlite.Memory, sqlite.Options{})
	batch := make([]jobs.New, 1000)
	for i := range batch {
		batch[i] = jobs.New{Type: "A", Payload: fmt.Append(nil, i)}
	}
	if _, err := db.Enqueue(t.Context(), batch...); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Enqueue(t.Context(), batch[0]); !errors.Is(err, jobs.ErrQueueFull) {
		t.Errorf("got %v, want ErrQueueFull past 1,000", err)
	}
	path := db.Path()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

// TestClose: what waits when the store closes gets ErrClosed, and nothing hangs.
func TestClose(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{})
	seat, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	acknowledged := make([]bool, 200)
	for i := range acknowledged {
		all.Go(func() {
			_, err := db.Enqueue(t.Context(), jobs.New{Type: "A", Payload: []byte(`1`)})
			if err != nil && !errors.Is(err, jobs.ErrClosed) {
				t.Error(err)
			}
			acknowledged[i] = err == nil
		})
	}
	for range 2 {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for what, err := range map[string]error{
		"leave": seat.Leave(ctx),
		"write": db.Write(ctx, func(*sql.Tx) error { return nil }),
	} {
		if !errors.Is(err, jobs.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", what, err)
		}
	}
	if _, err := db.Join(ctx, jobs.Info{}); !errors.Is(err, jobs.ErrClosed) {
		t.Errorf("join: got %v, want ErrClosed", err)
	}
	want := 0
	for _, yes := range acknowledged {
		if yes {
			want++
		}
	}
	out, err := exec.Command("sqlite3", db.Path(), `SELECT count(*) FROM sync_jobs`).Output()
	if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(want) {
		t.Errorf("%s jobs are there, %d were acknowledged (%v)", out, want, err)
	}
}

// TestJoinAsItCloses proves that a seat which is taken while the store is closed falls
// free as those do that were taken before.
func TestJoinAsItCloses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	closing, other := open(t, path, sqlite.Options{}), open(t, path, sqlite.Options{})
	defer other.Close()
	_, err := closing.Join(t.Context(), jobs.Info{Guard: func(*os.File) error { return closing.Close() }})
	if !errors.Is(err, jobs.ErrClosed) {
		t.Errorf("joined a store that has closed: %v", err)
	}
	if workers, err := other.Workers(t.Context()); err != nil || len(workers) != 0 {
		t.Errorf("workers of a store that has closed: %+v, %v", workers, err)
	}
}
