//go:build linux

package sqlite

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// TestHolderAfterARest proves that a worker which has rested takes a commit under way
// for no more than that: it names nobody for the time before.
func TestHolderAfterARest(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "shoal.db"), Options{Logger: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	seat, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	<-seat.Changes() // its own
	<-time.After(stallWarning + lastLook)

	c := startProgram(t, exec.Command("sqlite3", db.Path()))
	// More than its cache holds, so that some of it is written before the commit.
	fmt.Fprintln(c.stdin, `PRAGMA cache_size = 10; BEGIN;
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
		INSERT INTO sync_jobs (job_type, payload) SELECT 'Noop', '{}' FROM n; SELECT 'written';`)
	c.expect("written")
	<-time.After(2 * lastLook) // the looks that follow
	fmt.Fprintln(c.stdin, `COMMIT;`)
	<-seat.Changes()
	for _, l := range logs.FilterMessageSnippet("write lock").All() {
		t.Errorf("it says: %s %v", l.Message, l.ContextMap())
	}
}
