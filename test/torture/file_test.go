//go:build linux

package torture_test

import (
	"database/sql"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/pkg/store"
)

// makeFile makes the database and the application's own table in it.
func makeFile(t testing.TB, path string) {
	t.Helper()
	q, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if err := q.Write(t.Context(), func(tx *sql.Tx) error { _, err := tx.Exec(effects); return err }); err != nil {
		t.Fatal(err)
	}
}

// header says what was tested, and on what.
func header(t testing.TB, db string) {
	t.Helper()
	program := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(out))
	}
	q, err := store.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var version string
	if err := q.Read().QueryRowContext(t.Context(), `SELECT sqlite_version()`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	t.Logf("commit %s, kernel %s, %s, SQLite %s, system's sqlite3 %s", program("git", "rev-parse", "--short", "HEAD"),
		program("uname", "-r"), program("findmnt", "-n", "-o", "FSTYPE", "-T", filepath.Dir(db)), version,
		strings.Fields(program("sqlite3", "--version") + " ")[0])
}

// clean takes out of a host's database what a run has put in.
func clean(t testing.TB, o options) {
	t.Helper()
	out, err := trySQL(o.db, `DELETE FROM sync_jobs WHERE queue = '`+o.queue+`';
		DELETE FROM sync_schedules WHERE name LIKE 'torture-%'; DROP TABLE IF EXISTS torture_effects;`)
	if err != nil {
		t.Errorf("clean up: %s", out)
	}
}
