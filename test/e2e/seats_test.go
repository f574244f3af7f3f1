//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPIDNamespaces: each worker is process 1 of a namespace of its own, so that
// all of them, and those that come after a restart, have the same pid. A killed
// one's jobs run elsewhere at once all the same, and nobody else's do; a stopped
// one's are not touched before its lease has ended.
func TestPIDNamespaces(t *testing.T) {
	if out, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED, a PID namespace needs root and CAP_SYS_ADMIN: %v: %s", err, out)
	}
	h := newHome(t)
	open := filepath.Join(t.TempDir(), "gate")
	worker := func() (pid int) {
		t.Helper()
		seats := h.seats()
		cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", filepath.Join(bin, "worker"),
			"--lease", "2s", "--concurrency", "1", "--type", "Gate", "--exec", gate("Gate", open))
		cmd.Env = append(os.Environ(), "SHOAL_HOME="+h.dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		eventually(t, "a seat", func() bool { return h.seats() == seats+1 })
		out, err := exec.Command("pgrep", "-P", fmt.Sprint(cmd.Process.Pid)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(out), &pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	killed := worker()
	first := h.enqueuer("enqueue", "Gate")
	h.expectStatus(first, "running")
	stopped := worker()
	second := h.enqueuer("enqueue", "Gate")
	h.expectStatus(second, "running")
	worker()
	if got := h.sql(`SELECT group_concat(DISTINCT pid) FROM sync_workers`); got != "1" {
		t.Errorf("pids: %s, want all of them to be 1", got)
	}

	send(t, killed, syscall.SIGKILL)
	start := time.Now()
	eventually(t, "the killed worker's job elsewhere", func() bool {
		return h.sql(`SELECT attempts FROM sync_jobs WHERE status = 'running' AND id = `+first) == "2"
	})
	t.Logf("ran elsewhere after %v", time.Since(start).Round(time.Millisecond))
	worker() // the killed one, restarted
	third := h.enqueuer("enqueue", "Gate")
	h.expectStatus(third, "running")

	send(t, stopped, syscall.SIGSTOP)
	var until int64
	if _, err := fmt.Sscan(h.sql(`SELECT lease_expires_at FROM sync_jobs WHERE id = `+second), &until); err != nil {
		t.Fatal(err)
	}
	worker()
	eventually(t, "the stopped worker's job elsewhere", func() bool {
		return h.sql(`SELECT attempts FROM sync_jobs WHERE status = 'running' AND id = `+second) == "2"
	})
	if now := kernelMillis(t); now < until {
		t.Errorf("taken at %d, before the lease's end at %d", now, until)
	}
	touch(t, open)
	h.expectAllCompleted()
	send(t, stopped, syscall.SIGCONT)
	if got := h.sql(`SELECT group_concat(job_id || ' ' || ending) FROM (SELECT * FROM sync_job_errors ORDER BY job_id)`); got != first+" died,"+second+" stuck" {
		t.Errorf("attempts that did not complete: %s", got)
	}
}

// TestSeatFileReplaced: somebody deletes the -workers file under a fleet. Those
// that had it open still see one another; who comes later can't see them, and
// takes nothing from them before their leases end.
func TestSeatFileReplaced(t *testing.T) {
	h := newHome(t)
	open := filepath.Join(t.TempDir(), "gate")
	fleet := []string{"--lease", "2s", "--concurrency", "1", "--type", "Gate", "--exec", gate("Gate", open)}
	var old []*worker
	var ids []string
	for range 2 {
		old = append(old, h.worker(fleet...))
		ids = append(ids, h.enqueuer("enqueue", "Gate"))
		h.expectStatus(ids[len(ids)-1], "running")
	}
	if err := os.Remove(h.db + "-workers"); err != nil {
		t.Fatal(err)
	}
	h.worker(fleet...)
	late := h.enqueuer("enqueue", "Gate") // the newcomer is at work
	h.expectStatus(late, "running")
	h.worker(fleet...)
	<-time.After(3 * time.Second) // many looks, and more than a lease
	if got := h.sql(`SELECT group_concat(attempts || status) FROM sync_jobs`); got != "1running,1running,1running" {
		t.Fatalf("jobs: %s", got)
	}
	old[0].signal(syscall.SIGKILL)
	eventually(t, "the killed worker's job elsewhere", func() bool {
		return h.sql(`SELECT attempts FROM sync_jobs WHERE status = 'running' AND id = `+ids[0]) == "2"
	})
	if got := h.sql(`SELECT ending FROM sync_job_errors`); got != "died" { // which one of the old file saw
		t.Errorf("the first one's end: %q", got)
	}
	h.worker(fleet...)
	old[1].signal(syscall.SIGKILL) // the last that the newcomers can't see
	eventually(t, "its job elsewhere", func() bool {
		return h.sql(`SELECT attempts FROM sync_jobs WHERE status = 'running' AND id = `+ids[1]) == "2"
	})
	touch(t, open)
	h.expectAllCompleted()
	if got := h.sql(`SELECT group_concat(job_id || ' ' || ending) FROM (SELECT * FROM sync_job_errors ORDER BY job_id)`); got != ids[0]+" died,"+ids[1]+" stuck" {
		t.Errorf("attempts that did not complete: %s", got)
	}
}

// seats is how many workers have one.
func (h *home) seats() (n int) {
	text, err := h.trySQL(`SELECT count(*) FROM sync_workers`)
	if err != nil || strings.Contains(text, "rror") {
		return 0 // the first worker makes the file
	}
	if _, err := fmt.Sscan(text, &n); err != nil {
		h.Fatalf("%v: %s", err, text)
	}
	return n
}

// kernelMillis is the time on the clock of lease_expires_at.
func kernelMillis(t *testing.T) int64 {
	t.Helper()
	var clock unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &clock); err != nil {
		t.Fatal(err)
	}
	return clock.Nano() / 1e6
}

func send(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}
