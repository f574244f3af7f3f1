package main

import (
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// TestTx runs what sqlitetx promises with this driver. The engine can't be in
// the same program: a worker makes the file.
func TestTx(t *testing.T) {
	queue := sync.OnceValue(func() string {
		home := t.TempDir()
		cmd := exec.Command("go", "run", "./cmd/worker", "--home", home, "--until-empty")
		cmd.Dir = "../../.."
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return filepath.Join(home, "shoal.db")
	})
	storetest.RunTx(t, func(t *testing.T) *sql.DB {
		whole, err := os.ReadFile(queue())
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "app.db")
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	})
}
