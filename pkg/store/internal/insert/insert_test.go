package insert_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/internal/insert"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
)

// TestOlderSQLite: the system's SQLite, which is older than those that the
// drivers bring, understands both statements.
func TestOlderSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, n := range []jobs.New{{Type: "A"}, {Type: "A", Unique: jobs.Unique{Key: "k"}}} {
		text, _ := insert.Statement(n, 0)
		if out, err := exec.Command("sqlite3", path, "EXPLAIN "+text).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}
