package sqlite_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
)

// walCap is what the -wal file is to stay under: 64 MiB.
const walCap = 64 << 20

// TestPinnedReader: a reader that keeps -wal from beginning anew stops nobody; it
// is named, with the file's size; and when it is gone the file goes back under
// its cap within 10 s, with nobody writing. Another process of the fleet, which
// never wrote, is there too.
func TestPinnedReader(t *testing.T) {
	for name, before := range map[string]string{
		"of the -wal file":                       `INSERT INTO sync_meta VALUES ('x', 'y');`,
		"of the database file alone, and killed": `PRAGMA wal_checkpoint(TRUNCATE);`, // it holds up even the copying
		"that is this process":                   ``,
	} {
		t.Run(name, func(t *testing.T) {
			core, said := observer.New(zap.WarnLevel)
			db := open(t, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{Logger: zap.New(core)})
			defer db.Close()
			idle := open(t, db.Path(), sqlite.Options{})
			defer idle.Close()
			if before != "" {
				shell(t, db.Path(), before)
			}
			pid := os.Getpid()
			var release func()
			if name == "that is this process" {
				tx, err := idle.Read().BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := tx.QueryRow(`SELECT count(*) FROM sync_jobs`).Scan(new(int)); err != nil {
					t.Fatal(err)
				}
				release = func() { _ = tx.Rollback() }
			} else {
				reader := exec.Command("sqlite3", db.Path())
				in, err := reader.StdinPipe()
				if err != nil {
					t.Fatal(err)
				}
				out, err := reader.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := reader.Start(); err != nil {
					t.Fatal(err)
				}
				defer reader.Wait()
				defer reader.Process.Kill()
				fmt.Fprintln(in, `BEGIN; SELECT 'begun' WHERE (SELECT count(*) FROM sync_jobs) = 0;`)
				if _, err := io.ReadFull(out, make([]byte, len("begun\n"))); err != nil {
					t.Fatal(err)
				}
				pid = reader.Process.Pid
				release = func() { fmt.Fprintln(in, `COMMIT;`) }
				if strings.Contains(name, "killed") {
					release = func() { _ = reader.Process.Kill() }
				}
			}

			big := jobs.New{Type: "A", Payload: []byte(`"` + strings.Repeat("x", 900<<10) + `"`)}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for range 18 {
				if _, err := db.Enqueue(ctx, big, big, big, big, big); err != nil {
					t.Fatal(err)
				}
			}
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			named := func() int { return said.FilterField(zap.Int("pid", pid)).FilterMessageSnippet("-wal file grows").Len() }
			for deadline := time.Now().Add(20 * time.Second); named() == 0; <-tick.C {
				if time.Now().After(deadline) {
					t.Fatalf("the pid %d was not named: %v", pid, said.All())
				}
			}
			size := func() int64 {
				info, err := os.Stat(db.Path() + "-wal")
				if err != nil {
					t.Fatal(err)
				}
				return info.Size()
			}
			s, err := db.Stats(t.Context())
			if err != nil || s.WALBytes != size() || s.WALBytes <= walCap {
				t.Errorf("the figure is %d, the file has %d bytes (%v)", s.WALBytes, size(), err)
			}
			release()
			start := time.Now()
			for size() > walCap && time.Since(start) < 10*time.Second {
				<-tick.C
			}
			t.Logf("%d bytes, %v after the reader's end %d; said %d times", s.WALBytes, time.Since(start).Round(time.Millisecond), size(), named())
			if size() > walCap {
				t.Errorf("-wal has %d bytes still", size())
			}
			if named() != 1 {
				t.Errorf("said %d times: %v", named(), said.All())
			}
			// What comes after it is written, found and seen to come.
			seat, err := idle.Join(t.Context(), jobs.Info{})
			if err != nil {
				t.Fatal(err)
			}
			for drained := false; !drained; {
				select {
				case <-seat.Changes():
				case <-time.After(300 * time.Millisecond): // those of the join
					drained = true
				}
			}
			enqueue(t, db, jobs.New{Type: "B", Payload: []byte(`1`)})
			select {
			case <-seat.Changes():
			case <-time.After(20 * time.Second):
				t.Error("no change was told after the file had begun anew")
			}
			if got := shell(t, db.Path(), `SELECT count(*), sum(job_type = 'B') FROM sync_jobs; PRAGMA integrity_check`); got != "91|1\nok" {
				t.Errorf("jobs: %s", got)
			}
		})
	}
}
