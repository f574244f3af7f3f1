//go:build linux

package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// TestDiskFull: on a full disk an enqueue fails with a line that says so and
// leaves nothing half done; once there is room the store goes on by itself.
func TestDiskFull(t *testing.T) {
	dir := realDir(t)
	mount(t, "none", dir, "tmpfs", 0, "size=4m")
	db, err := Open(t.Context(), filepath.Join(dir, "jobs.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	fill := filepath.Join(dir, "fill")
	n := jobs.New{Type: "A", Payload: append(append([]byte(`"`), bytes.Repeat([]byte("x"), 100<<10)...), '"')}
	for round := range 3 {
		if err := os.WriteFile(fill, make([]byte, 8<<20), 0o600); err == nil {
			t.Fatal("the disk did not get full")
		}
		acknowledged := 0
		for err = nil; err == nil; acknowledged++ {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err = db.Enqueue(ctx, n)
			cancel()
		}
		if !strings.Contains(err.Error(), "disk is full") || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("round %d: %v", round, err)
		}
		if err := db.Write(t.Context(), nil, n, n); err == nil || !strings.Contains(err.Error(), "disk is full") || errors.Is(err, jobs.ErrUnknown) {
			t.Errorf("round %d: a transaction of foreign code: %v", round, err)
		}
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Enqueue(t.Context(), n); err != nil {
			t.Errorf("with room again: %v", err)
		}
		s, err := db.Stats(t.Context())
		if err != nil || s.Pending != int64(acknowledged) { // the last of the loop failed, the one after it did not
			t.Errorf("%d jobs, %d were acknowledged, %v", s.Pending, acknowledged, err)
		}
		if err := db.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(`DELETE FROM sync_jobs`); return err }); err != nil {
			t.Fatal(err)
		}
	}
}
