package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
)

// TestWaits proves that the store says for how long it has been waiting for
// another's lock, and nothing of its own work, however slow.
func TestWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got := db.Waits(); got != 0 {
		t.Errorf("it waits for %v, and for nobody", got)
	}
	err = db.Write(t.Context(), func(*sql.Tx) error {
		<-time.After(200 * time.Millisecond)
		return nil
	})
	if got := db.Waits(); got != 0 || err != nil {
		t.Errorf("its own closure: waits for %v, %v", got, err)
	}

	other, err := driver.Open("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	conn, err := other.Conn(t.Context())
	if err == nil {
		_, err = conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := db.Waits(); got != 0 {
		t.Errorf("it waits for %v, and has nothing to write", got)
	}
	done := make(chan error, 1)
	go func() {
		_, err := db.Enqueue(t.Context(), jobs.New{Type: "A", Payload: []byte("{}")})
		done <- err
	}()
	until(t, "a wait", func() bool { return db.Waits() > 300*time.Millisecond })
	if _, err := conn.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	until(t, "its end", func() bool { return db.Waits() == 0 })
}
