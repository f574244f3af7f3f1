package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestMigrateUnderLoad: while a fleet works and is fed, a worker of the next
// version comes and migrates the file. Those that know the old tables only stop
// within a second, each with a line that says why; the new one finishes all that
// was acknowledged; and the old version refuses the file from then on.
func TestMigrateUnderLoad(t *testing.T) {
	next := nextVersion(t)
	h := newHome(t)
	fleet := []string{"--type", "Noop", "--retry-delay", "100ms", "--exec", "Noop=sleep 0.02"}
	var old []*worker
	for range 3 {
		old = append(old, h.worker(fleet...))
	}
	q, err := store.Open(t.Context(), h.db) // of the old version too, as this test is
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	fed := feed(q, 2*time.Millisecond)
	eventually(t, "some load", func() bool { return h.sql(`SELECT count(*) > 100 FROM sync_jobs WHERE status = 'completed'`) == "1" })
	if got := h.sql(`CREATE TABLE app (x); DROP TABLE app; SELECT count(*) FROM sync_workers`); got != "3" {
		t.Errorf("%s workers after an application's own change of the schema", got)
	}

	known := h.schemaVersion()
	done := h.start(filepath.Join(next, "worker"), fleet...)
	eventually(t, "the migration", func() bool { return h.schemaVersion() == known+1 })
	migrated := time.Now()
	why := fmt.Sprintf("was migrated to schema version %d by a newer shoal: start that version", known+1)
	for _, w := range old {
		w.expectEnd(migrated, why)
	}
	stopped := time.Since(migrated)
	acknowledged, refused := fed()
	if !errors.Is(refused, jobs.ErrClosed) || !strings.Contains(refused.Error(), why) {
		t.Errorf("an enqueue by the old version: %v", refused)
	}
	_, stderr, exit := h.run(filepath.Join(next, "enqueuer"), "enqueue", "Noop")
	if exit != 0 {
		t.Errorf("an enqueue by the new version: exit %d: %s", exit, stderr)
	}
	h.expectAllCompleted()
	if got, want := h.sql(`SELECT count(*) FROM sync_jobs`), fmt.Sprint(len(acknowledged)+1); got != want {
		t.Errorf("%s jobs are there, %s were acknowledged", got, want)
	}
	h.expectThere("Noop", acknowledged)
	// One attempt of each was accepted, and the others are known to have ended otherwise.
	if got := h.sql(`SELECT count(*) FROM sync_jobs j WHERE attempts <> 1 + (SELECT count(*) FROM sync_job_errors WHERE job_id = j.id)`); got != "0" {
		t.Errorf("%s jobs with an outcome too many, or too few", got)
	}
	t.Logf("%d jobs; the last old worker ended %v after the migration was seen; attempts by ending: %s", len(acknowledged)+1, stopped.Round(time.Millisecond),
		h.sql(`SELECT group_concat(ending || ' ' || n, ', ') FROM (SELECT ending, count(*) AS n FROM sync_job_errors GROUP BY ending)`))

	for _, c := range [][]string{append([]string{"worker"}, fleet...), {"enqueuer", "enqueue", "Noop"}, {"enqueuer", "stats"}} {
		_, stderr, exit := h.run(c[0], c[1:]...)
		if exit != 1 || !strings.Contains(stderr, fmt.Sprintf("has schema version %d, this program knows up to %d: use a newer shoal", known+1, known)) {
			t.Errorf("%v of the old version: exit %d: %s", c, exit, stderr)
		}
	}
	done.signal(syscall.SIGTERM)
	if code := done.exit(); code != 0 {
		t.Errorf("the new worker: exit %d", code)
	}
}

// TestStartAtOnce: 16 processes make a file between them; 16 of the next version
// migrate it between them, once, and do what was left there.
func TestStartAtOnce(t *testing.T) {
	const processes = 16
	next := nextVersion(t)
	h := newHome(t)
	atOnce := func(program string, args ...string) {
		var all sync.WaitGroup
		for range processes {
			all.Go(func() {
				if _, stderr, exit := h.run(program, args...); exit != 0 {
					t.Errorf("%s: exit %d: %s", program, exit, stderr)
				}
			})
		}
		all.Wait()
	}
	atOnce("enqueuer", "enqueue", "Noop")
	known := h.schemaVersion()
	if got := h.sql(`SELECT count(*) FROM sync_jobs`); got != "16" {
		t.Errorf("%s jobs", got)
	}
	atOnce(filepath.Join(next, "worker"), "--until-empty", "--type", "Noop", "--exec", "Noop=true")
	if got := h.sql(`SELECT status, count(*), max(attempts), min(tries), max(tries), (SELECT count(*) FROM sync_migrations) FROM sync_jobs GROUP BY status`); got != "completed|16|1|3|3|1" {
		t.Errorf("jobs, their new column, and migrations: %s", got)
	}
	if got := h.schemaVersion(); got != known+1 {
		t.Errorf("schema version %d after %d", got, known)
	}
}

func (h *home) schemaVersion() int {
	h.Helper()
	version, err := strconv.Atoi(h.sql(`SELECT value FROM sync_meta WHERE key = 'schema_version'`))
	if err != nil {
		h.Fatal(err)
	}
	return version
}

// nextVersion builds the commands as the next version of the schema would have
// them, with a migration that adds a column and fills it, and returns their
// folder, as h.run finds it.
func nextVersion(t *testing.T) (folder string) {
	t.Helper()
	const schema = "pkg/store/sqlite/schema.go"
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	now, err := os.ReadFile(filepath.Join(root, schema))
	if err != nil {
		t.Fatal(err)
	}
	const end = "`}\n\nconst metaTable"
	before, after, found := strings.Cut(string(now), end)
	if !found {
		t.Fatalf("the migrations in %s do not end as this test knows it", schema)
	}
	const migration = "`, `ALTER TABLE sync_jobs ADD COLUMN tries INTEGER;\n" +
		"UPDATE sync_jobs SET tries = coalesce(max_attempts, 3) - attempts;\n" +
		"CREATE TABLE sync_migrations (at INTEGER) STRICT; INSERT INTO sync_migrations VALUES (unixepoch());\n"
	dir := t.TempDir()
	replaced, list := filepath.Join(dir, "schema.go"), filepath.Join(dir, "overlay.json")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, schema): replaced}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(replaced, []byte(before+migration+end+after), 0o600), os.WriteFile(list, overlay, 0o600)); err != nil {
		t.Fatal(err)
	}
	folder = "next"
	build := exec.Command("go", "build", "-race", "-overlay", list, "-o", filepath.Join(bin, folder)+"/", "./cmd/worker", "./cmd/enqueuer")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return folder
}
