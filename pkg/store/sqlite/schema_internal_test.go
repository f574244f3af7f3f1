package sqlite

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/internal/insert"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// TestSchemaVersion: whoever adds a migration looks whether a job is still
// inserted rightly, as sqlitetx refuses a schema that it does not know.
func TestSchemaVersion(t *testing.T) {
	if insert.SchemaVersion != len(migrations) {
		t.Errorf("insert.SchemaVersion is %d, there are %d migrations", insert.SchemaVersion, len(migrations))
	}
}

// TestRoomInGroup: what the operations of one transaction have added and taken counts
// for the limit of pending jobs, though it is not written yet.
func TestRoomInGroup(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), Options{MaxPending: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.writer.do(t.Context(), func(t *tx) error {
		_, err := t.enqueue([]jobs.New{{Type: "A", Payload: []byte(`1`)}, {Type: "B", Payload: []byte(`1`)}}) // a tick's, say
		return errors.Join(err, t.takeRoom(1))
	})
	if !errors.Is(err, jobs.ErrQueueFull) {
		t.Errorf("a third pending job: %v, want ErrQueueFull", err)
	}
}

// TestOurTriggers: the writer knows the schema's triggers from the application's, or it
// would have none of them off and be slower for everybody.
func TestOurTriggers(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	counts := func() (itself bool) {
		t.Helper()
		if err := db.writer.do(t.Context(), func(tx *tx) error { itself = tx.counts != nil; return nil }); err != nil {
			t.Fatal(err)
		}
		return itself
	}
	if !counts() {
		t.Error("triggers keep the counts of a new file")
	}
	if out, err := exec.Command("sqlite3", db.path, `CREATE TRIGGER theirs AFTER INSERT ON sync_jobs BEGIN SELECT 1; END`).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if counts() {
		t.Error("triggers are off where the application has one")
	}
}

// TestFromEachVersion opens a file of each earlier schema, made by the system's
// sqlite3: what is in it stays, and works.
func TestFromEachVersion(t *testing.T) {
	for version := 1; version < len(migrations); version++ {
		path := filepath.Join(t.TempDir(), "jobs.db")
		text := "PRAGMA journal_mode = WAL;\n" + metaTable + ";\n"
		for _, m := range migrations[:version] {
			text += m
		}
		text += fmt.Sprintf(`INSERT INTO sync_meta VALUES ('schema_version', '%d'), ('max_pending', '9');
			INSERT INTO sync_jobs (job_type, payload) VALUES ('A', '1'), ('A', '2');
			UPDATE sync_jobs SET status = 'failed', attempts = 3, max_attempts = 3, lease_token = 3, completed_at = 5, error = 'x' WHERE id = 1;
			INSERT INTO sync_schedules (name, next_at) VALUES ('ping', 7);`, version)
		if out, err := exec.Command("sqlite3", path, text).CombinedOutput(); err != nil {
			t.Fatalf("version %d: %v: %s", version, err, out)
		}
		db, err := Open(t.Context(), path, Options{Existing: true})
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		defer db.Close()
		seat, err := db.Join(t.Context(), jobs.Info{})
		if err != nil {
			t.Fatal(err)
		}
		turn, err := seat.Turn(t.Context(), storetest.Ask(nil, jobs.Want{Types: []string{"A"}, TTL: time.Minute,
			Pools: []jobs.Pool{{Queues: []string{jobs.DefaultQueue}, Free: 5}}, Limit: jobs.Limits{MaxAttempts: 3}}))
		if err != nil || len(turn.Claimed) != 1 || turn.Claimed[0].ID != 2 {
			t.Errorf("version %d: claimed %+v, %v", version, turn.Claimed, err)
		}
		out, err := exec.Command("sqlite3", path, `SELECT (SELECT value FROM sync_meta WHERE key = 'schema_version'),
			(SELECT value FROM sync_meta WHERE key = 'max_pending'), (SELECT count(*) FROM sync_jobs), (SELECT next_at FROM sync_schedules),
			(SELECT jobs || ' ' || pending FROM sync_counts)`).CombinedOutput()
		if want := fmt.Sprintf("%d|9|2|7.0|2 0\n", len(migrations)); err != nil || string(out) != want {
			t.Errorf("from version %d: %s, %v, want %s", version, out, err, want)
		}
	}
}
