//go:build linux

package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStoppedWorkersCommands: a worker is stopped past its leases. Its commands,
// which nobody else could reach, are gone before those end, and so no two of one
// job ever run at once. The worker goes on when it is continued.
func TestStoppedWorkersCommands(t *testing.T) {
	const n = 4
	h := newHome(t)
	// A command notes its start and its group, and leaves a child that minds no
	// plain signal. An flock that is taken twice at once is the crime.
	dir := t.TempDir()
	script := filepath.Join(dir, "job.sh")
	err := os.WriteFile(script, []byte(`cd `+dir+`; exec 9>"$SHOAL_JOB_ID.lock"
flock -n 9 || echo twice >> crimes
(trap '' TERM INT HUP; sleep 1000; true) &
echo "$SHOAL_ATTEMPT $(ps -o pgid= $$)" >> "$SHOAL_JOB_ID.runs"
[ "$SHOAL_ATTEMPT" = 2 ] || wait
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--lease", "3s", "--type", "Long", "--exec", "Long=sh " + script}
	stopped := h.worker(args...)
	var ids, groups []string
	for range n {
		ids = append(ids, h.enqueuer("enqueue", "Long"))
	}
	for _, id := range ids {
		eventually(t, "the command's start", func() bool {
			text, _ := os.ReadFile(filepath.Join(dir, id+".runs"))
			fields := strings.Fields(string(text))
			if len(fields) == 2 {
				groups = append(groups, fields[1])
			}
			return len(fields) == 2
		})
	}
	for _, group := range groups {
		if !runs(t, group) {
			t.Fatalf("nothing of group %s runs", group)
		}
	}
	stopped.stop()
	ends, err := strconv.ParseInt(h.sql(`SELECT min(lease_expires_at) FROM sync_jobs`), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan int64, 1) // when, as leases are timed
	go func() {
		for slices.ContainsFunc(groups, func(group string) bool { return runs(t, group) }) {
			<-time.After(5 * time.Millisecond)
		}
		var clock unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &clock); err != nil {
			t.Error(err)
		}
		gone <- clock.Nano() / 1e6
	}()
	h.worker(args...)
	left := time.Duration(ends-<-gone) * time.Millisecond
	// No more is asked of it than that nobody else has the job by then: on a full
	// machine both the guard and this test wait for a processor.
	t.Logf("gone %v before the lease ended", left)
	for _, id := range ids {
		h.expectStatus(id, "completed")
	}
	if got := h.sql(`SELECT DISTINCT attempts, lease_token FROM sync_jobs`); got != "2|2" {
		t.Errorf("attempts and tokens: %s", got)
	}
	if crimes, err := os.ReadFile(filepath.Join(dir, "crimes")); err == nil {
		t.Errorf("commands of one job ran at once: %s", crimes)
	}
	// What it says of those attempts now is refused; then it is as any other.
	stopped.signal(syscall.SIGCONT)
	eventually(t, "the refusals", func() bool {
		return h.sql(`SELECT count(*) FROM sync_job_errors WHERE rejected IS NOT NULL AND worker_id = `+stopped.id) == strconv.Itoa(n)
	})
	for worker := ""; worker != stopped.id; {
		id := h.enqueuer("enqueue", "Long")
		eventually(t, "the first attempt of another job", func() bool {
			worker = h.sql(`SELECT lease_owner FROM sync_jobs WHERE status = 'running' AND id = ` + id)
			return worker != ""
		})
	}
}

// runs says whether anything of a process group runs; a zombie does not.
func runs(t *testing.T, group string) bool {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Error(err)
	}
	for _, name := range stats {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it ended meanwhile
		}
		var state, parent, pgrp string
		_, rest, _ := strings.Cut(string(stat), ") ")
		if _, err := fmt.Sscan(rest, &state, &parent, &pgrp); err == nil && pgrp == group && state != "Z" {
			return true
		}
	}
	return false
}
