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
	"github.com/shoal-project/shoal/pkg/store"
)

// TestFileTaken: when the database is moved, replaced or deleted under a fleet
// that works and is fed, each process ends within a second with a line that says
// so, and what was acknowledged is in the file that was taken; where another lies
// in its place, whose -wal that is can't be known, and it is found once the file is
// put back.
func TestFileTaken(t *testing.T) {
	for name, c := range map[string]struct {
		take func(h *home, away string) error
		why  string
	}{
		"moved":               {func(h *home, away string) error { return os.Rename(h.db, away) }, "the path is empty now"},
		"moved with its home": {func(h *home, away string) error { return os.Rename(h.dir, filepath.Dir(away)) }, "the path is empty now"},
		"moved, another in its place": {func(h *home, away string) error {
			other := away + ".other"
			return errors.Join(os.WriteFile(other, nil, 0o600), os.Rename(h.db, away), os.Rename(other, h.db))
		}, "another file has its path now"},
		"linked":  {func(h *home, away string) error { return os.Link(h.db, away) }, "it has 2 hard links now"},
		"deleted": {func(h *home, _ string) error { return os.Remove(h.db) }, "the path is empty now"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			var workers []*worker
			for range 2 {
				workers = append(workers, h.worker("--type", "Noop", "--type", "Long", "--exec", "Noop=true", "--exec", "Long=sleep 1000"))
			}
			h.expectStatus(h.enqueuer("enqueue", "Long"), "running")
			q, err := store.Open(t.Context(), h.db)
			if err != nil {
				t.Fatal(err)
			}
			fed := feed(q, 0)
			eventually(t, "some load", func() bool { return h.sql(`SELECT count(*) > 20 FROM sync_jobs WHERE status = 'completed'`) == "1" })

			away := filepath.Join(filepath.Dir(h.dir), "away", "shoal.db")
			if name != "moved with its home" {
				if err := os.Mkdir(filepath.Dir(away), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.take(h, away); err != nil {
				t.Fatal(err)
			}
			taken := time.Now()
			for _, w := range workers {
				w.expectEnd(taken, "was moved or replaced while open: "+c.why)
			}
			ended := time.Since(taken)
			acknowledged, refused := fed()
			if !errors.Is(refused, jobs.ErrClosed) || !strings.Contains(refused.Error(), c.why) {
				t.Errorf("an enqueue after it: %v", refused)
			}
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			t.Logf("%d enqueues were acknowledged; both workers had ended %v after it", len(acknowledged), ended.Round(time.Millisecond))
			if name == "deleted" {
				return
			}
			if name == "moved, another in its place" {
				// Its -wal is still where it was, as the line says: put back, all is there.
				if err := os.Rename(away, h.db); err != nil {
					t.Fatal(err)
				}
			} else {
				h.db = away
			}
			h.expectThere("Noop", acknowledged)
		})
	}
}

// feed enqueues jobs until one is refused. end waits for that.
func feed(q jobs.Store, pause time.Duration) (end func() (acknowledged []string, refused error)) {
	var ids []string
	var refused error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			var id int64
			if id, refused = jobs.Enqueue(context.Background(), q, "Noop", 1); refused != nil {
				return
			}
			ids = append(ids, fmt.Sprint(id))
			<-time.After(pause)
		}
	}()
	return func() ([]string, error) { <-done; return ids, refused }
}

// TestWALLeftBehind: a fleet was killed, and its database moved without the -wal
// file, which holds all that was enqueued. The path is not used for a new database
// before somebody has decided about that file; put back, nothing is lost.
func TestWALLeftBehind(t *testing.T) {
	for name, instead := range map[string][]byte{"nothing in its place": nil, "an empty file in its place": {}} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			w := h.worker("--type", "Nobody", "--exec", "Nobody=true")
			ids := []string{h.enqueuer("enqueue", "Noop"), h.enqueuer("enqueue", "Noop")}
			w.signal(syscall.SIGKILL)
			w.exit()
			if err := os.Rename(h.db, h.db+".away"); err != nil {
				t.Fatal(err)
			}
			if instead != nil {
				if err := os.WriteFile(h.db, instead, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if _, stderr, exit := h.run("enqueuer", "enqueue", "Noop"); exit != 1 || !strings.Contains(stderr, "was taken away from its -wal file") {
					t.Errorf("exit %d: %s", exit, stderr)
				}
			}
			if err := os.Rename(h.db+".away", h.db); err != nil {
				t.Fatal(err)
			}
			if got := h.sql(`SELECT group_concat(id) FROM sync_jobs`); got != strings.Join(ids, ",") {
				t.Errorf("jobs after the file was put back: %s, want %s", got, ids)
			}
		})
	}
}
