package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLoad(t *testing.T) {
	binary := buildLoad(t)
	start := func(t *testing.T, args ...string) *loadTest {
		t.Parallel()
		return startLoad(t, binary, filepath.Join(t.TempDir(), "jobs.db"), args...)
	}

	// Alone: a tenth of it is short.
	t.Run("drift", func(t *testing.T) {
		l := startLoad(t, binary, filepath.Join(t.TempDir(), "jobs.db"), "--duration", "2s", "--rate", "200", "--processes", "1")
		f := l.end(0)
		if f.Enqueued < 390 || f.Enqueued > 400 {
			t.Errorf("%d enqueued in 2 s, at 200 a second", f.Enqueued)
		}
		first, last := f.Drift["first_tenth"], f.Drift["last_tenth"]
		if first.P99 < 1000 || last.P99 < 1000 || first.RSS < 1<<20 || last.RSS < 1<<20 || first.Database < 1<<12 || last.Database < first.Database {
			t.Errorf("%+v", f.Drift)
		}
	})

	// What it prints is what is in the file, and each job is in each figure once.
	t.Run("figures", func(t *testing.T) {
		l := start(t, "--jobs", "300", "--processes", "2", "--slots", "4", "--work", "1ms")
		f := l.end(0)
		l.want(`SELECT count(*), min(status), max(status), max(attempts), min(length(payload)), max(length(payload)) FROM sync_jobs`,
			"300|completed|completed|1|100|100")
		if f.Enqueued != 300 || f.Completed != 300 || f.Again != 0 || f.Died != 0 || f.Interrupted || f.Difference != "" {
			t.Errorf("%+v", f)
		}
		for what, q := range map[string]times{"enqueue": f.EnqueueTimes, "started": f.Started, "completed": f.Done, "turn": f.Turn} {
			if q.Count != 300 && what != "turn" || q.P50 < 1 || q.P50 > q.P90 || q.P90 > q.P99 || q.P99 > q.P999 || q.P999 > q.Max {
				t.Errorf("%s: %+v", what, q)
			}
		}
		if f.Done.P50 < 1000 || f.Turn.Count < 300/(4+50) || f.Commits < 10 || f.WALPeak == 0 || f.Drift != nil {
			t.Errorf("%+v", f)
		}

		again := startLoad(t, binary, l.db)
		if _ = again.cmd.Wait(); again.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(again.stderr.String(), "holds 300 jobs") {
			t.Errorf("on a file with jobs: %v: %s", again.cmd.ProcessState, &again.stderr)
		}
	})

	// A worker is killed while it holds jobs. They are begun again, and what the
	// history says of them is why; nothing is lost, and nothing completed twice.
	t.Run("killed", func(t *testing.T) {
		l := start(t, "--jobs", "160", "--processes", "2", "--slots", "4", "--work", "40ms")
		pid, err := strconv.Atoi(l.until(`SELECT w.pid FROM sync_jobs j JOIN sync_workers w ON w.id = j.lease_owner WHERE j.status = 'running' LIMIT 1`))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		f := l.end(0)
		if f.Enqueued != 160 || f.Completed != 160 || f.Again < 1 || f.Died != 1 || f.Difference != "" {
			t.Errorf("%+v", f)
		}
		l.want(`SELECT count(*), min(status), max(status) FROM sync_jobs`, "160|completed|completed")
		l.want(`SELECT count(*) FROM sync_jobs WHERE attempts > 1`, strconv.Itoa(f.Again))
		l.want(`SELECT sum(attempts - 1) = (SELECT count(*) FROM sync_job_errors) FROM sync_jobs`, "1")
	})

	// SIGINT ends it with the result so far, and what was enqueued is done by then.
	t.Run("interrupted", func(t *testing.T) {
		l := start(t, "--duration", "1h", "--rate", "200", "--processes", "1", "--producers", "2")
		l.until(`SELECT id FROM sync_jobs WHERE status = 'completed' LIMIT 1`)
		if err := l.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		f := l.end(0)
		if !f.Interrupted || f.Enqueued == 0 || f.Enqueued != f.Completed || f.Difference != "" || f.Drift != nil {
			t.Errorf("%+v", f)
		}
		l.want(`SELECT count(*), max(attempts) FROM sync_jobs`, strconv.Itoa(f.Enqueued)+"|1")
	})

	// With the parent, however it ends, its processes end: they have its stderr,
	// which ends for this test when all of them are gone.
	t.Run("orphans", func(t *testing.T) {
		l := start(t, "--duration", "1h", "--rate", "100", "--processes", "2")
		l.until(`SELECT id FROM sync_jobs WHERE status = 'completed' LIMIT 1`)
		if err := l.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = l.cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("its processes go on")
		}
	})

	// Its check finds what is wrong with the file, whoever did that.
	for name, c := range map[string]struct{ sabotage, difference string }{
		"lost":      {`DELETE FROM sync_jobs WHERE id = (` + oneCompleted + `)`, "were acknowledged"},
		"not done":  {`UPDATE sync_jobs SET status = 'failed' WHERE id = (` + oneCompleted + `)`, "1 failed"},
		"ran twice": {`UPDATE sync_jobs SET attempts = 2, lease_token = 2 WHERE id = (` + oneCompleted + `)`, "begun again"},
	} {
		t.Run(name, func(t *testing.T) {
			l := start(t, "--duration", "1h", "--rate", "100", "--processes", "1")
			l.until(`SELECT id FROM sync_jobs WHERE status = 'completed' LIMIT 1`)
			if out, err := l.sql(c.sabotage); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if err := l.cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			f := l.end(1)
			if !strings.Contains(f.Difference, c.difference) || !strings.Contains(l.stderr.String(), f.Difference) {
				t.Errorf("%q\n%s", f.Difference, &l.stderr)
			}
		})
	}

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		want := map[string]string{
			"--jobs 5 --duration 1s": "--jobs and --duration can't go together: which one ends it?",
			"--slots 0":              "--jobs, --producers, --processes and --slots are at least 1",
			"--payload 39":           "--payload is 39: 40 to 1048576 bytes",
			"--rate x":               `invalid value "x" for flag --rate: parse error: see --help`,
			"--bogus":                "flag provided but not defined: --bogus: see --help",
			"now":                    `"now" is no flag: see --help`,
		}
		got := make(map[string]string)
		for args := range want {
			out, err := exec.Command(binary, append([]string{"load"}, strings.Fields(args)...)...).CombinedOutput()
			if err == nil {
				t.Errorf("%s: no error", args)
			}
			got[args] = strings.TrimPrefix(strings.TrimSpace(string(out)), "bench: ")
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}
