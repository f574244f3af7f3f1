//go:build linux

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFullDisk: while the disk is full an enqueuer gets an error that says so
// and has added nothing, and nobody's job is taken, however long it lasts. With
// room again all goes on by itself: what ended meanwhile is handed in, what was
// interrupted is run again, and everything that was acknowledged is done.
func TestFullDisk(t *testing.T) {
	for name, c := range map[string]struct {
		lease string
		full  time.Duration
		again bool // the leases end: handlers are interrupted, as they can't be trusted any more
	}{
		"shorter than a lease": {"3s", 700 * time.Millisecond, false},
		"longer than a lease":  {"1s", 4 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			disk := tmpfs(t, "16m")
			h := newHome(t)
			h.dir = filepath.Join(disk, "home")
			h.db = filepath.Join(h.dir, "shoal.db")
			gates := t.TempDir()
			early, late := filepath.Join(gates, "early"), filepath.Join(gates, "late")
			var workers []*worker
			for range 3 {
				workers = append(workers, h.worker("--lease", c.lease, "--retry-delay", "100ms", "--max-attempts", "9", "--concurrency", "8",
					"--type", "Early", "--type", "Late", "--type", "Noop", "--exec", gate("Early", early), "--exec", gate("Late", late), "--exec", "Noop=true"))
			}
			for _, jobType := range []string{"Early", "Late"} {
				for range 6 {
					h.enqueuer("enqueue", jobType)
				}
			}
			eventually(t, "12 running jobs", func() bool { return h.sql(`SELECT count(*) FROM sync_jobs WHERE status = 'running'`) == "12" })

			room := fill(t, disk)
			touch(t, early)
			stop := make(chan struct{})
			var enqueuers sync.WaitGroup
			var mu sync.Mutex
			var acknowledged []string
			refused := 0
			for range 2 {
				enqueuers.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
						}
						id, stderr, exit := h.run("enqueuer", "enqueue", "Noop")
						mu.Lock()
						if exit == 0 {
							acknowledged = append(acknowledged, id)
						} else if refused++; exit != 1 || !strings.Contains(stderr, "disk is full, nothing was written") {
							t.Errorf("exit %d: %s", exit, stderr)
						}
						mu.Unlock()
					}
				})
			}
			<-time.After(c.full)
			eventually(t, "an enqueue that was refused", func() bool { mu.Lock(); defer mu.Unlock(); return refused > 0 })
			room()
			eventually(t, "an enqueue that was acknowledged", func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) > 0 })
			close(stop)
			enqueuers.Wait()
			touch(t, late)
			h.expectAllCompleted()

			if got := h.sql(`SELECT group_concat(ending || ': ' || error, '; ') FROM sync_job_errors WHERE ending <> 'failed'`); got != "" {
				t.Errorf("jobs were taken from workers that live: %s", got)
			}
			if got := h.sql(`SELECT group_concat(DISTINCT attempts) FROM sync_jobs WHERE job_type = 'Early'`); got != "1" {
				t.Errorf("attempts of what ended meanwhile: %s", got)
			}
			// Interrupted or not, they have used one attempt.
			if got, want := h.sql(`SELECT max(lease_token) > 1, max(attempts) FROM sync_jobs WHERE job_type = 'Late'`), map[bool]string{false: "0|1", true: "1|1"}[c.again]; got != want {
				t.Errorf("run again, and attempts: %s, want %s", got, want)
			}
			if got, want := h.sql(`SELECT count(*) FROM sync_jobs WHERE job_type = 'Noop'`), fmt.Sprint(len(acknowledged)); got != want {
				t.Errorf("%s jobs are there, %s were acknowledged", got, want)
			}
			h.expectThere("Noop", acknowledged)
			lines := 0
			for _, w := range workers {
				lines += strings.Count(w.logged(), "disk is full")
			}
			t.Logf("%d enqueues were refused, %d acknowledged; %d lines of log in 3 workers name the full disk", refused, len(acknowledged), lines)
			if lines > 30 {
				t.Errorf("%d lines of log say that the disk is full", lines)
			}
		})
	}
}

// tmpfs mounts a small disk until the end of the test.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("NOT TESTED, mounting a tmpfs needs root and CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill fills the disk to its last page; room makes room again.
func fill(t *testing.T, disk string) (room func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}
