// Package e2e_test runs the real commands: real processes on a real file, real
// sockets between homes. What came of it is looked at from outside, with the
// system's sqlite3 program.
package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/store"
)

// bin is the folder that the commands were built in.
var bin string

func TestMain(m *testing.M) {
	// The race detector keeps a process for a second at its end, and with it its
	// seat: no worker is like that.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(fleetDB) != "" { // a worker of TestEachJobOnce: it needs no commands
		os.Exit(m.Run())
	}
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "shoal-e2e-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		build := exec.Command("go", "build", "-race", "-o", bin+"/", "./cmd/worker", "./cmd/enqueuer")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// home is a node under test.
type home struct {
	*testing.T
	dir string
	db  string
}

// newHome is a home that is not there yet. After the test its database is
// checked, by another program.
func newHome(t *testing.T) *home {
	h := &home{T: t, dir: filepath.Join(t.TempDir(), "home")}
	h.db = filepath.Join(h.dir, "shoal.db")
	t.Cleanup(func() {
		if _, err := os.Stat(h.db); err != nil {
			return
		}
		if got := h.sql(`PRAGMA integrity_check`); got != "ok" {
			t.Errorf("integrity: %s", got)
		}
		if got := h.sql(`SELECT count(*) FROM sync_jobs WHERE attempts > max_attempts OR lease_token < attempts
			OR (status IN ('completed', 'failed', 'cancelled')) <> (completed_at IS NOT NULL)`); got != "0" {
			t.Errorf("%s jobs break an invariant", got)
		}
		if got := h.sql(`SELECT queue, job_type, sum(jobs), sum(pending) FROM (SELECT * FROM sync_counts
			UNION ALL SELECT queue, job_type, -1, -(status = 'pending') FROM sync_jobs) GROUP BY 1, 2 HAVING sum(jobs) <> 0 OR sum(pending) <> 0`); got != "" {
			t.Errorf("the counts are wrong: %s", got)
		}
	})
	return h
}

// open makes the home and opens its queue in this process, until the test ends.
func (h *home) open() store.Store {
	h.Helper()
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		h.Fatal(err)
	}
	q, err := store.Open(h.Context(), h.db)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = q.Close() })
	return q
}

// sql runs a query with the system's sqlite3 and returns what it prints.
func (h *home) sql(query string) string {
	h.Helper()
	out, err := h.trySQL(query)
	if err != nil {
		h.Fatalf("sqlite3: %v: %s\n%s", err, out, query)
	}
	return out
}

func (h *home) trySQL(query string) (string, error) {
	out, err := exec.Command("sqlite3", "-cmd", ".timeout 20000", h.db, query).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// run runs a command to its end.
func (h *home) run(program string, args ...string) (stdout, stderr string, exit int) {
	h.Helper()
	return h.runWith(nil, program, args...)
}

func (h *home) runWith(stdin []byte, program string, args ...string) (stdout, stderr string, exit int) {
	h.Helper()
	cmd := exec.Command(filepath.Join(bin, program), args...)
	cmd.Env = append(os.Environ(), "SHOAL_HOME="+h.dir)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		h.Fatal(err)
	}
	return strings.TrimSpace(out.String()), strings.TrimSpace(errs.String()), cmd.ProcessState.ExitCode()
}

// enqueuer runs enqueuer, which is to succeed, and returns what it prints.
func (h *home) enqueuer(args ...string) string {
	h.Helper()
	stdout, stderr, exit := h.run("enqueuer", args...)
	if exit != 0 {
		h.Fatalf("enqueuer %q: exit %d: %s", args, exit, stderr)
	}
	return stdout
}

// worker is a worker's process.
type worker struct {
	h    *home
	cmd  *exec.Cmd
	id   string // sync_workers.id
	done chan struct{}
	log  lockedBuffer // what it prints
}

// worker starts a worker and waits until it has its seat. It ends with the test.
func (h *home) worker(args ...string) *worker {
	h.Helper()
	w := h.start("worker", args...)
	eventually(h.T, "the worker's seat", func() bool {
		select {
		case <-w.done:
			h.Fatalf("the worker ended: %s", w.logged())
		default:
		}
		w.id, _ = h.trySQL(fmt.Sprintf(`SELECT id FROM sync_workers WHERE pid = %d`, w.cmd.Process.Pid))
		return w.id != "" && !strings.Contains(w.id, "rror")
	})
	return w
}

// start starts a program that runs until the test ends, and waits for nothing.
func (h *home) start(program string, args ...string) *worker {
	h.Helper()
	w := &worker{h: h, done: make(chan struct{})}
	w.cmd = exec.Command(filepath.Join(bin, program), args...)
	w.cmd.Env = append(os.Environ(), "SHOAL_HOME="+h.dir)
	w.cmd.Stderr, w.cmd.Stdout = &w.log, &w.log
	if err := w.cmd.Start(); err != nil {
		h.Fatal(err)
	}
	go func() {
		_ = w.cmd.Wait()
		close(w.done)
	}()
	h.Cleanup(func() {
		_ = w.cmd.Process.Signal(syscall.SIGCONT)
		_ = w.cmd.Process.Kill()
		<-w.done
		if h.Failed() {
			h.Logf("%s %s:\n%s", program, w.id, w.logged())
		}
	})
	return w
}

func (w *worker) logged() string { return w.log.String() }

func (w *worker) signal(s syscall.Signal) {
	w.h.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		w.h.Fatal(err)
	}
}

// stop stops a worker, but not in the middle of a commit: then nobody could write
// until it is continued.
func (w *worker) stop() {
	w.h.Helper()
	eventually(w.h.T, "a stop outside of a commit", func() bool {
		w.signal(syscall.SIGSTOP)
		if exec.Command("sqlite3", "-cmd", ".timeout 1000", w.h.db, "BEGIN IMMEDIATE; ROLLBACK").Run() == nil {
			return true
		}
		w.signal(syscall.SIGCONT)
		return false
	})
}

// exit waits for the worker's end and returns its code; -1 for a signal.
func (w *worker) exit() int {
	w.h.Helper()
	select {
	case <-w.done:
	case <-time.After(60 * time.Second):
		w.h.Fatalf("the worker goes on: %s", w.logged())
	}
	return w.cmd.ProcessState.ExitCode()
}

// expectEnd wants the worker to end by itself within a second of what began at
// since (and a second more on a slow machine), with a last line that says why.
func (w *worker) expectEnd(since time.Time, why string) {
	w.h.Helper()
	if code := w.exit(); code != 1 {
		w.h.Errorf("exit %d", code)
	}
	if took := time.Since(since); took > 2*time.Second {
		w.h.Errorf("worker %s went on for %v", w.id, took)
	}
	lines := strings.Split(strings.TrimSpace(w.logged()), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "worker: ") || !strings.Contains(last, why) {
		w.h.Errorf("its last line: %s", last)
	}
}

// eventually looks until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// expectStatus waits until the job has the status.
func (h *home) expectStatus(id, status string) {
	h.Helper()
	eventually(h.T, "job "+id+" "+status, func() bool {
		return h.sql(`SELECT status FROM sync_jobs WHERE id = `+id) == status
	})
}

// expectAllCompleted waits until no job is left to do.
func (h *home) expectAllCompleted() {
	h.Helper()
	eventually(h.T, "the end of all jobs", func() bool {
		return h.sql(`SELECT count(*) FROM sync_jobs WHERE status <> 'completed'`) == "0"
	})
}

// expectThere wants each job of the type that was acknowledged to be in the file.
func (h *home) expectThere(jobType string, ids []string) {
	h.Helper()
	got := h.sql(`SELECT count(*) FROM sync_jobs WHERE job_type = '` + jobType + `' AND id IN (` + strings.Join(ids, ",") + `)`)
	if got != fmt.Sprint(len(ids)) {
		h.Errorf("%s of %d acknowledged jobs are there", got, len(ids))
	}
}

// begin has another program, the system's sqlite3, begin a transaction. It is open
// until that program is told to end it, or its input ends.
func (h *home) begin(sql string) (shell *exec.Cmd, in io.WriteCloser) {
	h.Helper()
	shell = exec.Command("sqlite3", "-cmd", ".timeout 20000", h.db)
	in, err := shell.StdinPipe()
	if err != nil {
		h.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		h.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _, _, _ = in.Close(), shell.Process.Kill(), shell.Wait() })
	fmt.Fprintln(in, sql, `SELECT 'begun';`)
	for lines := bufio.NewScanner(out); lines.Text() != "begun"; {
		if !lines.Scan() {
			h.Fatalf("sqlite3 ended: %v", lines.Err())
		}
	}
	return shell, in
}

// gate is the command of a job type that waits for the file at path.
func gate(jobType, path string) string {
	return jobType + "=until [ -e " + path + " ]; do sleep 0.02; done"
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// object decodes one line of --json.
func object[T any](t *testing.T, line string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return v
}
