package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestPlainSQL runs the five statements that every operator may rely on,
// verbatim, with another program, while workers run.
func TestPlainSQL(t *testing.T) {
	h := newHome(t)
	// Commands in place of the built-in handlers, so that the statements' own job
	// types can be kept waiting.
	h.worker("--exec", "SyncBucket=sleep 1000", "--exec", "Slow=sleep 1000", "--concurrency", "1", "--type", "SyncBucket", "--type", "Slow")
	h.worker("--exec", "PingPeer=true", "--type", "PingPeer")

	// INSERT: claimed as it is.
	h.sql(`INSERT INTO sync_jobs (job_type, payload, status, created_at) VALUES ('PingPeer', '{"n": 1}', 'pending', unixepoch());`)
	h.expectStatus("1", "completed")

	// The long runner: it occupies the one slot of the first worker.
	h.sql(`INSERT INTO sync_jobs (job_type, payload, status, created_at) VALUES ('Slow', '{}', 'pending', unixepoch());`)
	h.expectStatus("2", "running")
	h.sql(`UPDATE sync_jobs SET started_at = started_at - 400 WHERE id = 2`)
	if got := h.sql(`SELECT id, job_type, started_at FROM sync_jobs WHERE status = 'running' AND started_at < unixepoch('now') - 300;`); !strings.HasPrefix(got, "2|Slow|") {
		t.Errorf("the stuck job: %q", got)
	}

	// UPDATE priority: acts on the next claim.
	for range 2 {
		h.sql(`INSERT INTO sync_jobs (job_type, payload, status, created_at) VALUES ('Slow', '{}', 'pending', unixepoch());
			INSERT INTO sync_jobs (job_type, payload, status, created_at) VALUES ('SyncBucket', '{}', 'pending', unixepoch());`)
	}
	h.sql(`UPDATE sync_jobs SET priority = 10 WHERE job_type = 'SyncBucket';`)
	h.sql(`DELETE FROM sync_jobs WHERE id = 2`) // its handler is interrupted, its slot is free
	h.expectStatus("4", "running")
	if got := h.sql(`SELECT group_concat(id) FROM sync_jobs WHERE status = 'running'`); got != "4" {
		t.Errorf("running: %s, want 4, of the raised priority", got)
	}

	if got := h.sql(`SELECT status, COUNT(*), AVG(attempts) FROM sync_jobs GROUP BY status;`); got != "completed|1|1.0\npending|3|0.0\nrunning|1|1.0" {
		t.Errorf("counts:\n%s", got)
	}
	h.sql(`UPDATE sync_jobs SET completed_at = completed_at - 604900 WHERE id = 1`)
	h.sql(`DELETE FROM sync_jobs WHERE status = 'completed' AND completed_at < unixepoch('now') - 604800;`)
	if got := h.sql(`SELECT count(*) FROM sync_jobs WHERE id = 1`); got != "0" {
		t.Error("the old job is still there")
	}
}

// TestWakeUp: with --poll 1h nothing but the watched file can tell of a plain
// INSERT, so one that is missed hangs the test.
func TestWakeUp(t *testing.T) {
	h := newHome(t)
	ran, noop := notes(t)
	for range 3 {
		h.worker("--poll", "1h", "--exec", noop, "--type", "Noop")
	}
	const n = 200
	for i := range n {
		h.sql(`INSERT INTO sync_jobs (job_type, payload) VALUES ('Noop', '{}')`)
		eventually(t, fmt.Sprintf("job %d of %d", i+1, n), func() bool { return ran() == i+1 })
	}
	late := h.sql(`SELECT count(*) FROM sync_jobs WHERE started_at - created_at > 0.1`)
	t.Logf("waits in ms: %s", h.sql(`SELECT printf('median %.1f, worst %.1f', 1000 * (SELECT w FROM (SELECT started_at - created_at AS w FROM sync_jobs ORDER BY w LIMIT 1 OFFSET 100)),
		1000 * max(started_at - created_at)) FROM sync_jobs`))
	if late != "0" {
		t.Errorf("%s of %d started later than 100 ms after their INSERT", late, n)
	}
}

// TestWakeUpSlowCommit: much is written, then synced, and only then can be seen:
// long after the last event that the -wal file gives.
func TestWakeUpSlowCommit(t *testing.T) {
	h := newHome(t)
	ran, noop := notes(t)
	h.worker("--poll", "1h", "--exec", noop, "--type", "Noop")
	for i := range 5 {
		h.sql(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
			INSERT INTO sync_jobs (job_type, payload, priority) SELECT iif(i = 1, 'Noop', 'Nobody'), iif(i = 1, '{}', '"' || hex(zeroblob(500000)) || '"'), i FROM n`)
		eventually(t, fmt.Sprintf("job of commit %d", i+1), func() bool { return ran() == i+1 })
	}
	// One that was missed waits for the next event: the leader's renewal, after 10 s.
	if late := h.sql(`SELECT count(*) FROM sync_jobs WHERE started_at - created_at > 4`); late != "0" {
		t.Errorf("%s of 5 started later than 4 s after their INSERT", late)
	}
}

// notes is a command that notes its runs, and how many there were. Who asks the
// database instead wakes the fleet: as root SQLite changes the owner of -wal each
// time that it opens it, and the file's watchers hear of that.
func notes(t *testing.T) (ran func() int, command string) {
	file := filepath.Join(t.TempDir(), "ran")
	return func() int {
		text, _ := os.ReadFile(file)
		return strings.Count(string(text), "\n")
	}, "Noop=echo >>" + file
}

// fleetDB is the variable that makes this binary a worker of TestEachJobOnce.
const fleetDB = "SHOAL_E2E_FLEET"

// TestEachJobOnce: 8 processes share 20,000 jobs; each runs once.
func TestEachJobOnce(t *testing.T) {
	const processes, total = 8, 20000
	if db := os.Getenv(fleetDB); db != "" {
		fleetWorker(t, db)
		return
	}
	h := newHome(t)
	q := h.open()
	if _, err := jobs.EnqueueMany(t.Context(), q, "Noop", make([]int, total)); err != nil {
		t.Fatal(err)
	}
	var fleet sync.WaitGroup
	runs := make([]string, processes)
	for i := range processes {
		fleet.Go(func() {
			cmd := exec.Command(os.Args[0], "-test.run", "^TestEachJobOnce$")
			runs[i] = filepath.Join(t.TempDir(), "runs")
			cmd.Env = append(os.Environ(), fleetDB+"="+h.db, "SHOAL_E2E_RUNS="+runs[i])
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process %d: %v\n%s", i, err, out)
			}
		})
	}
	fleet.Wait()
	if got := h.sql(`SELECT status, count(*), min(attempts), max(attempts) FROM sync_jobs GROUP BY status`); got != fmt.Sprintf("completed|%d|1|1", total) {
		t.Errorf("jobs: %s", got)
	}
	// What the handlers themselves noted: every job once, in one of the processes.
	seen := make(map[string]int)
	busy := 0
	for _, file := range runs {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		ids := strings.Fields(string(text))
		if len(ids) > 0 {
			busy++
		}
		for _, id := range ids {
			seen[id]++
		}
	}
	if len(seen) != total {
		t.Errorf("%d jobs were run, want %d", len(seen), total)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("job %s was run %d times", id, n)
		}
	}
	t.Logf("%d of %d processes had work; jobs by worker: %s", busy, processes,
		strings.ReplaceAll(h.sql(`SELECT count(*) FROM sync_jobs GROUP BY lease_owner`), "\n", " "))
}

// fleetWorker is one process of TestEachJobOnce.
func fleetWorker(t *testing.T, db string) {
	q, err := store.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var mu sync.Mutex
	var ids []string
	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true, Concurrency: 50})
	jobs.Handle(w, "Noop", func(_ context.Context, j *jobs.Job[int]) error {
		mu.Lock()
		defer mu.Unlock()
		ids = append(ids, strconv.FormatInt(j.ID, 10))
		return nil
	})
	if err := w.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(os.Getenv("SHOAL_E2E_RUNS"), []byte(strings.Join(ids, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestKilledWorker: a worker is killed with kill -9 in the middle of a long
// command. Nothing of that command may be alive when the job runs elsewhere.
func TestKilledWorker(t *testing.T) {
	h := newHome(t)
	// The command notes its start and its group, and has a child that outlives a
	// plain kill of the shell. An flock that is taken twice at once is the crime.
	script := filepath.Join(t.TempDir(), "job.sh")
	trace := script + ".trace"
	err := os.WriteFile(script, []byte(`exec 9>"$1.lock"
flock -n 9 || echo twice >> "$1"
echo "$SHOAL_ATTEMPT $(ps -o pgid= $$)" >> "$1"
sleep 1000 &
if [ "$SHOAL_ATTEMPT" = 1 ]; then wait; fi
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	workers := []*worker{}
	for range 3 {
		workers = append(workers, h.worker("--lease", "60s", "--type", "Long", "--exec", "Long=sh "+script+" "+trace))
	}
	id := h.enqueuer("enqueue", "Long", "{}")
	h.expectStatus(id, "running")
	eventually(t, "the command's start", func() bool { b, _ := os.ReadFile(trace); return len(b) > 0 })
	owner := h.sql(`SELECT lease_owner FROM sync_jobs WHERE id = ` + id)
	victim := workers[slices.IndexFunc(workers, func(w *worker) bool { return w.id == owner })]
	first, _ := os.ReadFile(trace)
	group := strings.Fields(string(first))[1]

	victim.signal(syscall.SIGKILL)
	killed := time.Now()
	victim.exit()
	h.expectStatus(id, "completed")
	var wait float64
	if _, err := fmt.Sscan(h.sql(`SELECT started_at FROM sync_jobs WHERE id = `+id), &wait); err != nil {
		t.Fatal(err)
	}
	wait -= float64(killed.UnixMicro()) / 1e6
	t.Logf("ran elsewhere %.0f ms after the kill", wait*1000)
	if wait > 1 {
		t.Errorf("ran elsewhere after %.2f s, want 1 at most", wait)
	}
	if left, _ := exec.Command("pgrep", "-g", group, "-r", "DRST").Output(); len(left) > 0 { // no zombies
		t.Errorf("processes of the killed worker's command are alive: %s", left)
	}
	text, _ := os.ReadFile(trace)
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); len(lines) != 2 || !strings.HasPrefix(lines[1], "2 ") {
		t.Errorf("runs: %q, want attempt 1 and 2, never at once", lines)
	}
	if got := h.sql(`SELECT attempts || '|' || (lease_owner <> ` + owner + `) FROM sync_jobs WHERE id = ` + id); got != "2|1" {
		t.Errorf("attempts and another owner: %s", got)
	}
	story := h.enqueuer("job", "show", id)
	for _, part := range []string{"worker " + owner, "pid " + strconv.Itoa(victim.cmd.Process.Pid), "died (attempt 1 of 3)", "completed"} {
		if !strings.Contains(story, part) {
			t.Errorf("job show does not say %q:\n%s", part, story)
		}
	}
}

// TestStoppedWorker: a worker that is stopped past its lease and continued
// reports an outcome that is refused, counted and logged.
func TestStoppedWorker(t *testing.T) {
	h := newHome(t)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := os.Mkdir(gate, 0o700); err != nil {
		t.Fatal(err)
	}
	// It would end by itself once it has seen the gate's file: the first attempt's
	// command is not there to see it any more.
	run := "Gate=until [ -e " + gate + "/$SHOAL_ATTEMPT ]; do sleep 0.02; done; echo $SHOAL_ATTEMPT"
	stopped := h.worker("--lease", "1s", "--type", "Gate", "--exec", run)
	id := h.enqueuer("enqueue", "Gate")
	h.expectStatus(id, "running")
	stopped.stop()
	h.worker("--lease", "1s", "--type", "Gate", "--exec", run)
	eventually(t, "the second attempt", func() bool {
		return h.sql(`SELECT attempts FROM sync_jobs WHERE id = `+id) == "2"
	})
	for _, attempt := range []string{"1", "2"} {
		if err := os.WriteFile(filepath.Join(gate, attempt), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.expectStatus(id, "completed")
	stopped.signal(syscall.SIGCONT)
	eventually(t, "the refusal", func() bool {
		return h.sql(`SELECT count(*) FROM sync_job_errors WHERE rejected IS NOT NULL AND job_id = `+id) == "1"
	})
	eventually(t, "the log line", func() bool { return strings.Contains(stopped.logged(), "late outcome rejected") })
	if got := h.sql(`SELECT attempts, result, lease_token FROM sync_jobs WHERE id = ` + id); got != "2|2|2" {
		t.Errorf("attempts, result, token: %s; want the second attempt's", got)
	}
	if s := object[jobs.Stats](t, h.enqueuer("stats", "--json")); s.Rejected != 1 || s.Completed != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// TestUntilEmpty: the worker waits for a delayed job, stops, and says what is
// left that is not its own.
func TestUntilEmpty(t *testing.T) {
	h := newHome(t)
	h.enqueuer("enqueue", "Noop", "--delay", "1s")
	h.enqueuer("enqueue", "Other")
	stdout, stderr, exit := h.run("worker", "--until-empty", "--type", "Noop", "--exec", "Noop=true")
	if exit != 0 || !strings.Contains(stdout, "Other") || strings.Contains(stdout, "Noop") {
		t.Errorf("exit %d, printed %q\n%s", exit, stdout, stderr)
	}
	if got := h.sql(`SELECT job_type, status FROM sync_jobs ORDER BY id`); got != "Noop|completed\nOther|pending" {
		t.Errorf("jobs: %s", got)
	}
}

// TestMaxPending: the limit is in the file and binds every enqueuer.
func TestMaxPending(t *testing.T) {
	h := newHome(t)
	h.worker("--max-pending", "2", "--type", "Nobody", "--exec", "Nobody=true")
	h.enqueuer("enqueue", "Other")
	h.enqueuer("enqueue", "Other")
	_, stderr, exit := h.run("enqueuer", "enqueue", "Other")
	if exit != 1 || !strings.Contains(stderr, "queue is full") || strings.Contains(stderr, "\n") {
		t.Errorf("exit %d: %q", exit, stderr)
	}
	// Plain SQL is not bound by it.
	h.sql(`INSERT INTO sync_jobs (job_type, payload) VALUES ('Other', '{}')`)
	if got := h.sql(`SELECT count(*) FROM sync_jobs`); got != "3" {
		t.Errorf("%s jobs", got)
	}
}
