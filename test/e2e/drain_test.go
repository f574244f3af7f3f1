//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// load fills a queue with many jobs that take a moment each and a few that do
// not end by themselves. Each command notes that it was begun.
type load struct {
	*home
	noted string
	args  []string // for a worker
}

const shortJobs, longJobs = 2000, 4

func newLoad(t *testing.T) *load {
	l := &load{home: newHome(t), noted: filepath.Join(t.TempDir(), "runs")}
	const note = `echo "$SHOAL_JOB_ID $(ps -o pgid= $$)" >> `
	l.args = []string{"--type", "Short", "--type", "Long", "--concurrency", "12",
		"--exec", "Short=" + note + l.noted + "; sleep 0.01", "--exec", "Long=trap '' TERM INT; " + note + l.noted + "; sleep 1000; true"}
	l.enqueuer("enqueue", "Long", "--priority", "1")
	l.sql(fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO sync_jobs (job_type, payload, priority) SELECT iif(i < %d, 'Long', 'Short'), '{}', i < %[2]d FROM n`, shortJobs+longJobs-1, longJobs))
	return l
}

// full waits until the worker is at it, and the long jobs with it.
func (l *load) full() {
	l.Helper()
	eventually(l.T, "a full load", func() bool {
		return l.sql(`SELECT sum(job_type = 'Long' AND status = 'running') = `+fmt.Sprint(longJobs)+
			` AND sum(job_type = 'Short' AND status = 'completed') >= 50 FROM sync_jobs`) == "1"
	})
}

// runs has how often each job's command was begun, and the process groups.
func (l *load) runs() (times map[string]int, groups []string) {
	l.Helper()
	text, err := os.ReadFile(l.noted)
	if err != nil {
		l.Fatal(err)
	}
	times = make(map[string]int)
	for line := range strings.Lines(string(text)) {
		var id, group string
		if _, err := fmt.Sscan(line, &id, &group); err != nil {
			l.Fatalf("%q: %v", line, err)
		}
		times[id]++
		groups = append(groups, group)
	}
	return times, groups
}

// gone fails the test if one of the first or the last commands runs.
func (l *load) gone() {
	l.Helper()
	_, groups := l.runs()
	for i, group := range groups {
		if (i < 20 || i >= len(groups)-20) && runs(l.T, group) {
			l.Errorf("the command of group %s runs on", group)
		}
	}
}

// TestDrainUnderLoad: SIGTERM to a worker with all slots taken, and others adding
// jobs meanwhile. It claims nothing more, lets the short jobs end, gives back the
// long ones with no attempt counted, and is gone a second after --drain. No job
// is lost, and none that completed is run again.
func TestDrainUnderLoad(t *testing.T) {
	const drain = 2 * time.Second
	l := newLoad(t)
	w := l.worker(append(l.args, "--drain", drain.String())...)
	l.full()
	w.signal(syscall.SIGTERM)
	start := time.Now()
	eventually(t, "the line that it stops", func() bool { return strings.Contains(w.logged(), "stopping") })
	late := l.sql(`INSERT INTO sync_jobs (job_type, payload, priority) VALUES ('Short', '{}', 9) RETURNING id`)
	if code := w.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
	took := time.Since(start)
	t.Logf("gone %v after the signal", took)
	if took < drain || took > drain+time.Second+2*time.Second { // two more for a slow machine
		t.Errorf("gone %v after the signal, want %v and up to a second more", took, drain)
	}
	l.gone()
	times, _ := l.runs()
	for query, want := range map[string]string{
		`SELECT count(*) FROM sync_jobs WHERE status = 'running'`:                                   "0",
		`SELECT count(*) FROM sync_workers`:                                                         "0",
		`SELECT count(*) FROM sync_job_errors`:                                                      "0",
		`SELECT DISTINCT status, attempts, lease_token FROM sync_jobs WHERE job_type = 'Long'`:      "pending|0|1",
		`SELECT DISTINCT attempts FROM sync_jobs WHERE status = 'completed'`:                        "1",
		`SELECT DISTINCT attempts FROM sync_jobs WHERE status = 'pending'`:                          "0",
		`SELECT status, lease_token FROM sync_jobs WHERE id = ` + late:                              "pending|0",
		`SELECT count(*) FROM sync_jobs WHERE status = 'completed' OR job_type = 'Long'`:            fmt.Sprint(sum(times)),
		`SELECT count(*) FROM sync_jobs WHERE status = 'pending' AND run_at > unixepoch('now') + 1`: "0",
	} {
		if got := l.sql(query); got != want {
			t.Errorf("%s\n\tis %q, want %q", query, got, want)
		}
	}
	l.sql(`DELETE FROM sync_jobs WHERE status = 'pending' AND job_type = 'Short' AND id % 10`) // not all, for time's sake
	l.sql(`UPDATE sync_jobs SET job_type = 'Short' WHERE job_type = 'Long'`)
	if _, stderr, exit := l.run("worker", append(l.args, "--until-empty")...); exit != 0 {
		t.Errorf("the next worker: exit %d: %s", exit, stderr)
	}
	if got := l.sql(`SELECT DISTINCT status, attempts FROM sync_jobs`); got != "completed|1" {
		t.Errorf("in the end: %s", got)
	}
	times, _ = l.runs()
	if got := l.sql(`SELECT count(*) FROM sync_jobs`); got != fmt.Sprint(len(times)) || sum(times) != len(times)+longJobs {
		t.Errorf("%s jobs; %d were run %d times, want all once, and the long ones twice", got, len(times), sum(times))
	}
}

func sum(times map[string]int) (n int) {
	for _, k := range times {
		n += k
	}
	return n
}

// TestSecondSignalUnderLoad: a second signal ends a draining worker at once, and
// its commands with it; what it held runs elsewhere.
func TestSecondSignalUnderLoad(t *testing.T) {
	l := newLoad(t)
	w := l.worker(append(l.args, "--drain", "1h")...)
	l.full()
	w.signal(syscall.SIGTERM)
	eventually(t, "the line that it stops", func() bool { return strings.Contains(w.logged(), "stopping") })
	start := time.Now()
	w.signal(syscall.SIGINT)
	if code := w.exit(); code != 128+int(syscall.SIGINT) {
		t.Errorf("exit %d, want 130", code)
	}
	took := time.Since(start)
	t.Logf("gone %v after the second signal", took)
	if took > 2*time.Second { // a moment, and a slow machine
		t.Errorf("gone only %v after the second signal", took)
	}
	l.worker(l.args...)
	eventually(t, "the long jobs' second attempts", func() bool {
		return l.sql(`SELECT DISTINCT status, attempts, lease_owner <> `+w.id+` FROM sync_jobs WHERE job_type = 'Long'`) == "running|2|1"
	})
	if got := l.sql(`SELECT DISTINCT ending, worker_id FROM sync_job_errors`); got != "died|"+w.id {
		t.Errorf("history: %s", got)
	}
}

// TestStopBeforeSeat: SIGTERM to a worker that has no seat yet, as another
// process sits on the file's lock, is no failure.
func TestStopBeforeSeat(t *testing.T) {
	for name, prepare := range map[string]func(h *home){
		"a new file": func(h *home) {
			if err := os.Mkdir(h.dir, 0o700); err != nil {
				h.Fatal(err)
			}
			h.Cleanup(func() { os.Remove(h.db) }) // it has nothing to check
		},
		"a queue": func(h *home) { h.enqueuer("enqueue", "Noop") },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			prepare(h)
			h.begin(`BEGIN IMMEDIATE;`)
			w := exec.Command(filepath.Join(bin, "worker"), "--home", h.dir, "--type", "Noop", "--exec", "Noop=true")
			var log lockedBuffer
			w.Stderr = &log
			if err := w.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "its wait", func() bool {
				if name == "a queue" {
					return strings.Contains(log.String(), "waiting for SQLite's write lock")
				}
				files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", w.Process.Pid))
				return slices.ContainsFunc(files, func(fd string) bool {
					to, _ := os.Readlink(fd)
					return to == h.db
				})
			})
			if err := w.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := w.Wait(); err != nil || strings.Contains(log.String(), "canceled") {
				t.Errorf("%v, it said:\n%s", err, log.String())
			}
		})
	}
}
