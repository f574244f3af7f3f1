package sqlite_test

import (
	"context"
	"fmt"
	"os"
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
				reader, in := begin(t, db.Path(), `BEGIN; SELECT 0 FROM sync_jobs;`)
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
			named := func() int { return said.FilterField(zap.Int("pid", pid)).FilterMessageSnippet("-wal file grows").Len() }
			until(t, fmt.Sprintf("the name of pid %d", pid), func() bool { return named() > 0 })
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
			until(t, "a small -wal", func() bool { return size() <= walCap })
			took := time.Since(start)
			t.Logf("%d bytes, %v after the reader's end %d; said %d times", s.WALBytes, took.Round(time.Millisecond), size(), named())
			if took > 10*time.Second {
				t.Errorf("it took %v", took)
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
