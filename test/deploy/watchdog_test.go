//go:build linux

package deploy_test

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWatchdogOfWaiting: a worker that can't hand in an outcome because another
// process sits on the file's write lock tells its service manager that it goes
// on, for many times the watchdog's patience: to end it would be no help. When
// the lock is free it goes on in fact.
func TestWatchdogOfWaiting(t *testing.T) {
	dir := t.TempDir()
	home, gate := filepath.Join(dir, "home"), filepath.Join(dir, "gate")
	db := filepath.Join(home, "shoal.db")
	messages, socket := notifySocket(t)
	const patience = 900 * time.Millisecond
	worker := exec.CommandContext(t.Context(), "/bin/sh", "-c", `exec env WATCHDOG_PID=$$ "$@"`, "sh",
		binary, "--home", home, "--type", "Gate", "--exec", "Gate=until [ -e "+gate+" ]; do sleep 0.02; done; rm "+gate)
	worker.Env = []string{"PATH=" + os.Getenv("PATH"), "NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=900000"}
	var log strings.Builder
	worker.Stderr = &log
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	expect(t, messages, "READY=1")
	sql(t, db, `INSERT INTO sync_jobs (job_type, payload) VALUES ('Gate', '{}')`)
	const status = `SELECT status FROM sync_jobs`
	eventually(t, "the job's start", func() bool { return sql(t, db, status) == "running" })

	free := lock(t, db)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command's end", func() bool { _, err := os.Stat(gate); return err != nil })
	for len(messages) > 0 {
		<-messages
	}
	begin := time.Now()
	for last := begin; time.Since(begin) < 6*patience; last = time.Now() {
		expect(t, messages, "WATCHDOG=1")
		// What the manager would end it for, and as much again for a slow machine.
		if silence := time.Since(last); silence > 2*patience {
			t.Errorf("silent for %v", silence)
		}
	}
	if got := sql(t, db, status); got != "running" {
		t.Errorf("the job is %s though nobody could write", got)
	}
	free()
	eventually(t, "the job's end", func() bool { return sql(t, db, status) == "completed" })
	expect(t, messages, "WATCHDOG=1")
	if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expect(t, messages, "STOPPING=1")
	if err := worker.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// lock has another program, the system's sqlite3, sit on the write lock.
func lock(t *testing.T, db string) (free func()) {
	t.Helper()
	shell := exec.CommandContext(t.Context(), "sqlite3", "-cmd", ".timeout 20000", db)
	in, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 6)
	if _, err = io.WriteString(in, "BEGIN IMMEDIATE; SELECT 'locked';\n"); err == nil {
		_, err = io.ReadFull(out, said)
	}
	if err != nil || string(said) != "locked" {
		t.Fatalf("sqlite3: %q, %v", said, err)
	}
	return func() {
		in.Close() // its end rolls back
		if err := shell.Wait(); err != nil {
			t.Errorf("sqlite3: %v", err)
		}
	}
}
