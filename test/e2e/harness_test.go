// Package e2e_test runs the real commands: real processes on a real file, real
// sockets between homes. What came of it is looked at from outside, with the
// system's sqlite3 program.
package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
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
	})
	return h
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
	w := &worker{h: h, done: make(chan struct{})}
	w.cmd = exec.Command(filepath.Join(bin, "worker"), args...)
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
			h.Logf("worker %s:\n%s", w.id, w.logged())
		}
	})
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

// object decodes one line of --json.
func object[T any](t *testing.T, line string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return v
}
