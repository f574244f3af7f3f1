package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// A poison job kills its worker's process each time. Its neighbours, which die
// with it, have attempts enough.
const (
	poisonAttempts = 3
	good           = 120
)

// TestPoisonHandler: a handler in Go that kills its process.
func TestPoisonHandler(t *testing.T) {
	if db := os.Getenv(fleetDB); db != "" {
		poisonWorker(t, db)
		return
	}
	poison(t, func(h *home) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestPoisonHandler$")
		cmd.Env = append(os.Environ(), fleetDB+"="+h.db)
		return cmd
	})
}

// poisonWorker is one process of TestPoisonHandler.
func poisonWorker(t *testing.T, db string) {
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	q, err := store.Open(ctx, db)
	if errors.Is(err, context.Canceled) {
		return // it was told to end before it had begun
	}
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	w := jobs.NewWorker(q, jobs.WorkerOptions{Concurrency: 4})
	jobs.Handle(w, "Poison", func(context.Context, *jobs.Job[any]) error {
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	})
	jobs.Handle(w, "Good", func(context.Context, *jobs.Job[any]) error {
		<-time.After(20 * time.Millisecond)
		return nil
	})
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestPoisonCommand: a command that kills the worker, its parent.
func TestPoisonCommand(t *testing.T) {
	poison(t, func(h *home) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, "worker"), "--concurrency", "4", "--type", "Poison", "--type", "Good",
			"--exec", "Poison=kill -9 $PPID; sleep 1000", "--exec", "Good=sleep 0.02")
		cmd.Env = append(os.Environ(), "SHOAL_HOME="+h.dir)
		return cmd
	})
}

// poison proves that such a job ends as failed after exactly its attempts, and
// says why, and that the fleet, whose processes are started again as a
// supervisor does, completes all else, before, beside and after it.
func poison(t *testing.T, command func(h *home) *exec.Cmd) {
	h := newHome(t)
	enqueue := func(n int, jobType string, attempts int) (last string) {
		return h.sql(fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			INSERT INTO sync_jobs (job_type, payload, max_attempts) SELECT '%s', '{}', %d FROM n; SELECT last_insert_rowid()`, n, jobType, attempts))
	}
	h.enqueuer("enqueue", "Good", "--max-attempts", fmt.Sprint(poisonAttempts+1)) // makes the file
	enqueue(good/2, "Good", poisonAttempts+1)
	id := enqueue(1, "Poison", poisonAttempts)
	enqueue(good/2, "Good", poisonAttempts+1)
	stop := supervise(t, 3, func() *exec.Cmd { return command(h) })
	h.expectStatus(id, "failed")
	after := enqueue(1, "Good", 1)
	h.expectStatus(after, "completed")
	eventually(t, "the other jobs", func() bool {
		return h.sql(`SELECT count(*) FROM sync_jobs WHERE status = 'completed'`) == fmt.Sprint(good+2)
	})
	if killed := stop(); killed != poisonAttempts {
		t.Errorf("%d workers were killed, want %d", killed, poisonAttempts)
	}
	if got := h.sql(`SELECT attempts, max_attempts, lease_token FROM sync_jobs WHERE id = ` + id); got != "3|3|3" {
		t.Errorf("attempts, their limit and the token: %s", got)
	}
	if got := h.sql(`SELECT group_concat(attempt), group_concat(DISTINCT ending), count(DISTINCT worker_id) FROM sync_job_errors WHERE job_id = ` + id); got != "1,2,3|died|3" {
		t.Errorf("history: %s", got)
	}
	story := h.enqueuer("job", "show", id)
	for _, part := range []string{"failed", "died (attempt 1 of 3)", "died (attempt 2 of 3)", "died (attempt 3 of 3)", "pid "} {
		if !strings.Contains(story, part) {
			t.Errorf("job show does not say %q:\n%s", part, story)
		}
	}
	t.Logf("neighbours that died with it: %s", h.sql(`SELECT count(*) FROM sync_job_errors WHERE job_id <> `+id))
}

// supervise keeps n processes running until stop, which has them end, and says
// how many were killed by then. They must not end otherwise.
func supervise(t *testing.T, n int, command func() *exec.Cmd) (stop func() (killed int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	var mu sync.Mutex
	killed := 0
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				cmd := command()
				var out lockedBuffer
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Start(); err != nil {
					t.Error(err)
					return
				}
				ended := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
				err := cmd.Wait()
				ended()
				status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
				switch {
				case status.Signal() == syscall.SIGKILL:
					mu.Lock()
					killed++
					mu.Unlock()
				case ctx.Err() != nil && status.Signal() == syscall.SIGTERM: // it had hardly begun
				case err != nil || ctx.Err() == nil:
					t.Errorf("a worker ended: %v\n%s", err, out.String())
					return
				}
			}
		})
	}
	stop = sync.OnceValue(func() int {
		cancel()
		all.Wait()
		return killed
	})
	t.Cleanup(func() { stop() })
	return stop
}
