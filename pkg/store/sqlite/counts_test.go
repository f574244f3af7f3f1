package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// wrongCounts is by how much sync_counts is off, where it is.
const wrongCounts = `SELECT queue, job_type, sum(jobs), sum(pending) FROM (SELECT * FROM sync_counts
	UNION ALL SELECT queue, job_type, -1, -(status = 'pending') FROM sync_jobs) GROUP BY 1, 2 HAVING sum(jobs) <> 0 OR sum(pending) <> 0`

// TestStoreWithTriggers is the whole suite beside triggers of the application, where
// those of the schema keep the counts.
func TestStoreWithTriggers(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		path := filepath.Join(t.TempDir(), "jobs.db")
		db := open(t, path, sqlite.Options{})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		shell(t, path, `CREATE TRIGGER theirs AFTER UPDATE OF status ON sync_jobs BEGIN SELECT 1; END`)
		return func() storetest.Store { return open(t, path, sqlite.Options{}) }
	})
}

// TestCountsOfOthers proves that other programs' statements are counted, those that
// replace a row excepted, and that what README says mends what these do.
func TestCountsOfOthers(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{})
	defer db.Close()
	unique := jobs.New{Type: "A", Payload: []byte(`1`), Unique: jobs.Unique{Key: "k", For: jobs.UniqueForever}}
	if _, err := db.Enqueue(t.Context(), unique); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		`INSERT INTO sync_jobs (job_type, payload) VALUES ('A', '1'), ('A', '2'), ('B', '3')`,
		`INSERT OR IGNORE INTO sync_jobs (id, job_type, payload) VALUES (1, 'A', '1'), (17, 'A', '1')`,
		`INSERT OR REPLACE INTO sync_jobs (job_type, payload, queue, status) VALUES ('A', '1', 'mail', 'completed'), ('A', '1', 'mail', 'pending')`,
		`INSERT INTO sync_jobs (job_type, payload, unique_key) VALUES ('A', '4', 'k') ON CONFLICT DO UPDATE SET payload = '4'`,
		`INSERT INTO sync_jobs (job_type, payload, unique_key) VALUES ('A', '4', 'k') ON CONFLICT DO UPDATE SET status = 'cancelled'`,
		`UPDATE sync_jobs SET priority = 10 WHERE job_type = 'A'`,
		`UPDATE sync_jobs SET status = 'failed' WHERE id % 2`,
		`UPDATE sync_jobs SET status = 'pending' WHERE id = 3`,
		`UPDATE OR IGNORE sync_jobs SET queue = 'bulk', status = 'completed' WHERE id IN (1, 3)`,
		`UPDATE OR REPLACE sync_jobs SET job_type = 'C' WHERE id IN (2, 17)`,
		`BEGIN; DELETE FROM sync_jobs WHERE id = 2; ROLLBACK`,
		`DELETE FROM sync_jobs WHERE job_type = 'A' AND status = 'pending'`,
		`DELETE FROM sync_jobs`,
		`INSERT INTO sync_jobs (job_type, payload, unique_key) VALUES ('A', '1', 'k')`,
	} {
		shell(t, db.Path(), statement)
		if found := shell(t, db.Path(), wrongCounts); found != "" {
			t.Errorf("after %s:\n%s", statement, found)
		}
	}
	shell(t, db.Path(), `INSERT OR REPLACE INTO sync_jobs (job_type, payload, unique_key) VALUES ('A', '1', 'k')`)
	if found := shell(t, db.Path(), wrongCounts); found == "" {
		t.Error("SQLite tells triggers of what is replaced: README need not mend it")
	}
	shell(t, db.Path(), `DELETE FROM sync_jobs`) // of whose type one is counted still
	shell(t, db.Path(), `INSERT INTO sync_jobs (job_type, payload) VALUES ('B', '1')`)
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, mend, _ := strings.Cut(string(readme), "INSERT OR REPLACE INTO sync_counts")
	mend, _, _ = strings.Cut(mend, ";")
	shell(t, db.Path(), "INSERT OR REPLACE INTO sync_counts"+mend)
	if found := shell(t, db.Path(), wrongCounts); found != "" {
		t.Errorf("after README's statement:\n%s", found)
	}
	if _, err := db.Change(t.Context(), jobs.Filter{Type: "B"}, jobs.Change{Verb: jobs.Delete}); err != nil {
		t.Fatal(err)
	}
	if left := shell(t, db.Path(), `SELECT * FROM sync_counts WHERE job_type = 'B'`); left != "" {
		t.Errorf("types of which there is nothing are kept: %s", left)
	}
}

// TestTheirTriggers proves that triggers which the application makes while a worker is
// at work fire for the next thing that it does, those to which a foreign key leads
// included; and that the counts hold with them, and once they are gone again.
func TestTheirTriggers(t *testing.T) {
	db, seat := joined(t)
	tell := func(create, drop, want string, do func() error) {
		t.Helper()
		shell(t, db.Path(), `CREATE TABLE told (what TEXT); `+create)
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if got := shell(t, db.Path(), `SELECT what FROM told`); got != want {
			t.Errorf("%s was told %q, want %q", create, got, want)
		}
		shell(t, db.Path(), drop+`; DROP TABLE told`)
		if err := errors.Join(do(), seat.Leave(t.Context())); err != nil {
			t.Fatal(err)
		}
		if found := shell(t, db.Path(), wrongCounts); found != "" {
			t.Errorf("counts are wrong: %s", found)
		}
		var err error
		if seat, err = db.Join(t.Context(), jobs.Info{}); err != nil {
			t.Fatal(err)
		}
	}
	enqueue := func() error {
		_, err := db.Enqueue(t.Context(), jobs.New{Type: "A", Payload: []byte(`1`)})
		return err
	}
	claim := func() error {
		turn, err := seat.Turn(t.Context(), storetest.Ask(nil, jobs.Want{Types: []string{"A"}, TTL: time.Minute,
			Pools: []jobs.Pool{{Queues: []string{jobs.DefaultQueue}, Free: 1}}, Limit: jobs.Limits{MaxAttempts: 3}}))
		if err == nil && len(turn.Claimed) != 1 {
			err = fmt.Errorf("claimed %d jobs, want 1", len(turn.Claimed))
		}
		return err
	}
	last := func() error {
		_, err := db.Change(t.Context(), jobs.Filter{Type: "A"}, jobs.Change{Verb: jobs.Delete})
		return errors.Join(err, enqueue())
	}
	tell(`CREATE TRIGGER theirs AFTER INSERT ON Sync_Jobs BEGIN INSERT INTO told VALUES ('new'); END`, `DROP TRIGGER theirs`, "new", enqueue)
	tell(`CREATE TRIGGER theirs AFTER UPDATE OF status ON sync_jobs BEGIN INSERT INTO told VALUES (NEW.status); END`, `DROP TRIGGER theirs`, "running", claim)
	tell(`CREATE TABLE notes (job INTEGER REFERENCES Sync_Jobs ON DELETE CASCADE); INSERT INTO notes SELECT min(id) FROM sync_jobs;
		CREATE TRIGGER theirs AFTER DELETE ON notes BEGIN INSERT INTO told VALUES ('gone'); END`, `DROP TABLE notes`, "gone", last)
}

// TestCountsBehindTheirTriggers proves that the counts hold where a trigger of the
// application, which SQLite fires before ours as it is newer, changes what was just
// enqueued or takes it away.
func TestCountsBehindTheirTriggers(t *testing.T) {
	for _, does := range []string{
		`UPDATE sync_jobs SET queue = 'bulk' WHERE id = NEW.id`,
		`UPDATE sync_jobs SET status = 'cancelled', completed_at = 1 WHERE id = NEW.id`,
		`DELETE FROM sync_jobs WHERE id = NEW.id`,
	} {
		db := open(t, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{})
		defer db.Close()
		shell(t, db.Path(), `CREATE TRIGGER theirs AFTER INSERT ON sync_jobs BEGIN `+does+`; END`)
		for range 2 {
			if _, err := db.Enqueue(t.Context(), jobs.New{Type: "A", Payload: []byte(`1`)}); err != nil {
				t.Fatal(err)
			}
		}
		shell(t, db.Path(), `INSERT INTO sync_jobs (job_type, payload) VALUES ('A', '1')`)
		if found := shell(t, db.Path(), wrongCounts); found != "" {
			t.Errorf("with %s:\n%s", does, found)
		}
	}
}

// TestReplacedIsRoom proves that a count which another program's REPLACE has left too
// high refuses nothing.
func TestReplacedIsRoom(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{MaxPending: 3})
	defer db.Close()
	for range 5 {
		shell(t, db.Path(), `REPLACE INTO sync_jobs (job_type, payload, unique_key) VALUES ('A', '1', 'k')`)
	}
	n := jobs.New{Type: "A", Payload: []byte(`1`)}
	if _, err := db.Enqueue(t.Context(), n, n); err != nil {
		t.Errorf("with one of three pending: %v", err)
	}
	if _, err := db.Enqueue(t.Context(), n); !errors.Is(err, jobs.ErrQueueFull) {
		t.Errorf("with three of three pending: %v, want ErrQueueFull", err)
	}
}

// TestCountsInClosures proves that what a transaction with foreign code does is counted
// once: the engine's part of it, and the application's.
func TestCountsInClosures(t *testing.T) {
	db, _ := joined(t)
	n := jobs.New{Type: "A", Payload: []byte(`1`)}
	err := db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO sync_jobs (job_type, payload) VALUES ('A', '1'), ('B', '1')`)
		return err
	}, n, n)
	if err != nil {
		t.Fatal(err)
	}
	if got := shell(t, db.Path(), `SELECT * FROM sync_counts ORDER BY job_type`); got != "default|A|3|3\ndefault|B|1|1" {
		t.Errorf("counted\n%s", got)
	}
}
