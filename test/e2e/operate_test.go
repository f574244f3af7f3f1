//go:build linux

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

// cancelled is when the job was cancelled, as its row says.
func (h *home) cancelled(id string) time.Time {
	h.Helper()
	var at float64
	if _, err := fmt.Sscan(h.sql(`SELECT completed_at FROM sync_jobs WHERE status = 'cancelled' AND id = `+id), &at); err != nil {
		h.Fatalf("job %s is not cancelled: %v", id, err)
	}
	return jobs.Seconds(at).Time()
}

// soon is what ends within 100 ms on a machine that has nothing else to do.
const soon = 2 * time.Second

// TestCancelExec: a command's whole process group is gone soon after its job was
// cancelled, its slot takes the next job, and the job stays cancelled until it is
// retried.
func TestCancelExec(t *testing.T) {
	h := newHome(t)
	noted := filepath.Join(t.TempDir(), "group")
	h.worker("--poll", "1h", "--concurrency", "1", "--exec", "Next=true",
		"--exec", `Slow=[ "$SHOAL_ATTEMPT" = 2 ] && exit; trap '' TERM INT; sleep 1000 & ps -o pgid= $$ > `+noted+`.new; mv `+noted+`.new `+noted+`; sleep 1000`)
	id := h.enqueuer("enqueue", "Slow", "--max-attempts", "1")
	var group string
	eventually(t, "the command", func() bool {
		text, err := os.ReadFile(noted)
		group = strings.TrimSpace(string(text))
		return err == nil && runs(t, group)
	})
	next := h.enqueuer("enqueue", "Next")
	h.enqueuer("job", "cancel", id)
	eventually(t, "the end of the command", func() bool { return !runs(t, group) })
	took := time.Since(h.cancelled(id))
	t.Logf("the command was seen to be gone %v after its job was cancelled", took)
	if took > soon {
		t.Errorf("it went on for %v", took)
	}
	h.expectStatus(next, "completed")
	h.cancelled(id)

	h.enqueuer("job", "retry", id)
	h.expectStatus(id, "completed")
	if got := h.sql(`SELECT attempts, max_attempts FROM sync_jobs WHERE id = ` + id); got != "2|2" {
		t.Errorf("retried: attempts %s", got)
	}
}

// TestCancelHandler: a handler in Go, in a worker of another process than the one
// that cancels, is told so soon, and what it says then is refused.
func TestCancelHandler(t *testing.T) {
	h := newHome(t)
	q := h.open()
	ctx, stop := context.WithCancel(t.Context())
	started, ended, done := make(chan struct{}), make(chan time.Time, 1), make(chan error, 1)
	w := jobs.NewWorker(q, jobs.WorkerOptions{Poll: time.Hour})
	jobs.Handle(w, "Slow", func(ctx context.Context, _ *jobs.Job[any]) error {
		close(started)
		<-ctx.Done()
		ended <- time.Now()
		if cause := context.Cause(ctx); !errors.Is(cause, lease.ErrLost) {
			t.Errorf("cause: %v, want ErrLost", cause)
		}
		return nil // as if it had completed
	})
	go func() { done <- w.Run(ctx) }()
	id := h.enqueuer("enqueue", "Slow")
	<-started
	h.enqueuer("job", "cancel", id)
	took := (<-ended).Sub(h.cancelled(id))
	t.Logf("the handler's context ended %v after its job was cancelled", took)
	if took > soon {
		t.Errorf("it went on for %v", took)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	h.cancelled(id) // still
}

// TestWait: job wait ends with the job, in the way that the job does.
func TestWait(t *testing.T) {
	h := newHome(t)
	gate1, gate2 := filepath.Join(t.TempDir(), "1"), filepath.Join(t.TempDir(), "2")
	h.worker("--exec", gate("Good", gate1)+"; echo 42", "--exec", gate("Bad", gate2)+"; echo no paper >&2; exit 65")
	good, bad, later := h.enqueuer("enqueue", "Good"), h.enqueuer("enqueue", "Bad"), h.enqueuer("enqueue", "Good", "--delay", "1h")
	for _, c := range []struct {
		id   string
		end  func()
		exit int
		said string
	}{
		{good, func() { touch(t, gate1) }, 0, "42\n"},
		{bad, func() { touch(t, gate2) }, 1, "enqueuer: job " + bad + " failed: "},
		{later, func() { h.enqueuer("job", "delete", later) }, 1, "enqueuer: job " + later + " was deleted meanwhile\n"},
	} {
		w := h.start("enqueuer", "job", "wait", c.id)
		eventually(t, "a word that it waits", func() bool { return strings.Contains(w.logged(), "job "+c.id+" ") })
		c.end()
		if exit := w.exit(); exit != c.exit || !strings.Contains(w.logged(), c.said) {
			t.Errorf("job wait %s: exit %d, want %d, and %q:\n%s", c.id, exit, c.exit, c.said, w.logged())
		}
	}
	w := h.start("enqueuer", "job", "wait", h.enqueuer("enqueue", "Nobody"))
	eventually(t, "a word that it waits", func() bool { return w.logged() != "" })
	w.signal(syscall.SIGINT)
	if exit := w.exit(); exit != 1 || !strings.Contains(w.logged(), "interrupt") {
		t.Errorf("interrupted: exit %d:\n%s", exit, w.logged())
	}
}

// TestPruneUnderLoad: a queue is pruned while workers work on it. What has not
// ended runs, once, and nothing else is left.
func TestPruneUnderLoad(t *testing.T) {
	h := newHome(t)
	ran, noop := notes(t)
	const old, more = 10_000, 200
	h.enqueuer("enqueue", "Noop")
	h.sql(fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO sync_jobs (job_type, payload, status, attempts, lease_token, completed_at)
		SELECT 'Old', '{}', 'completed', 1, 1, unixepoch() - 90000 FROM n`, old))
	h.worker("--exec", noop)
	h.sql(fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO sync_jobs (job_type, payload) SELECT 'Noop', '{}' FROM n`, more))
	if got := h.enqueuer("prune", "--older-than", "1d"); got != "deleted 10,000 jobs" {
		t.Errorf("prune said %q", got)
	}
	h.expectAllCompleted()
	if got := h.sql(`SELECT count(*), sum(attempts) FROM sync_jobs`); got != "201|201" || ran() != more+1 {
		t.Errorf("jobs and attempts: %s, runs: %d; want %d of each", got, ran(), more+1)
	}
}
