package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// joined opens a new database and takes a seat.
func joined(t *testing.T) (*sqlite.DB, jobs.Seat) {
	t.Helper()
	db := open(t, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{})
	t.Cleanup(func() { _ = db.Close() })
	seat, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	return db, seat
}

func wantOf(n int, types ...string) jobs.Want {
	return jobs.Want{Types: types, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: n}}, TTL: time.Minute, Limit: jobs.Limits{MaxAttempts: 3}}
}

func turn(t *testing.T, seat jobs.Seat, want jobs.Want, outcomes ...jobs.Outcome) jobs.Turn {
	t.Helper()
	got, err := seat.Turn(t.Context(), storetest.Ask(outcomes, want))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func enqueue(t *testing.T, db *sqlite.DB, batch ...jobs.New) []jobs.Added {
	t.Helper()
	added, err := db.Enqueue(t.Context(), batch...)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

// shell runs a query with the system's sqlite3.
func shell(t *testing.T, path, query string) string {
	t.Helper()
	out, err := exec.Command("sqlite3", "-cmd", ".timeout 20000", path, query).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, query)
	}
	return strings.TrimSpace(string(out))
}

// begin has another program, the system's sqlite3, do something and leave its
// transaction open, until it is told to end it or its input ends.
func begin(t *testing.T, path, sql string) (other *exec.Cmd, in io.WriteCloser) {
	t.Helper()
	other = exec.Command("sqlite3", "-cmd", ".timeout 20000", path)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = other.Process.Kill(), other.Wait() })
	fmt.Fprintln(in, sql, `SELECT 'begun';`)
	if _, err := io.ReadFull(out, make([]byte, len("begun\n"))); err != nil {
		t.Fatal(err)
	}
	return other, in
}

// until looks until ok.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// TestFinishInterrupted: a context that ends at any moment of a Finish leaves
// all of it or nothing.
func TestFinishInterrupted(t *testing.T) {
	db, seat := joined(t)
	follow := make([]jobs.New, 300)
	for i := range follow {
		follow[i] = jobs.New{Type: "F", Payload: []byte(`1`)}
	}
	failed := 0
	for try := range 25 {
		enqueue(t, db, jobs.New{Type: "A", Payload: []byte(`1`)})
		c := turn(t, seat, wantOf(1, "A")).Claimed[0]
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(try)*300*time.Microsecond)
		err := seat.Finish(ctx, jobs.Outcome{Ref: c.Ref, Status: jobs.Completed}, func(*sql.Tx) error { return nil }, follow...)
		cancel()
		want := "completed|300"
		if err != nil {
			want = "running|0"
			failed++
		}
		if got := shell(t, db.Path(), fmt.Sprintf(`SELECT (SELECT status FROM sync_jobs WHERE id = %d), count(*) FROM sync_jobs WHERE job_type = 'F'`, c.ID)); got != want {
			t.Errorf("%v: the job and its follow-ups are %s, want %s", err, got, want)
		}
		shell(t, db.Path(), `DELETE FROM sync_jobs`)
	}
	t.Logf("%d of 25 were interrupted", failed)
}

// TestRollbackMode: an application's database that is not in WAL mode is waited
// for, with the locks of its own mode, while a transaction is open.
func TestRollbackMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	shell(t, path, `CREATE TABLE app (x TEXT); INSERT INTO app VALUES ('before')`)
	app, in := begin(t, path, `BEGIN IMMEDIATE; INSERT INTO app VALUES ('during');`)
	opened := make(chan error, 1)
	go func() {
		db, err := sqlite.Open(context.Background(), path, sqlite.Options{})
		if err == nil {
			_, err = db.Enqueue(context.Background(), jobs.New{Type: "A", Payload: []byte(`1`)})
			_ = db.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("opened beside an open transaction: %v", err)
	case <-time.After(300 * time.Millisecond): // long enough to have gone wrong
	}
	fmt.Fprintln(in, `COMMIT;`)
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := app.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	if got := shell(t, path, `PRAGMA integrity_check; SELECT group_concat(x), (SELECT count(*) FROM sync_jobs) FROM app`); got != "ok\nbefore,during|1" {
		t.Error(got)
	}
}

// TestManyTypes: more queues and types than one statement takes are claimed in
// order all the same.
func TestManyTypes(t *testing.T) {
	db, seat := joined(t)
	var types []string
	var batch []jobs.New
	for i := range 300 {
		types = append(types, fmt.Sprintf("T%03d", i))
		batch = append(batch, jobs.New{Type: types[i], Payload: []byte(`1`), Queue: []string{"default", "mail"}[i%2], Priority: i * 7 % 300})
	}
	enqueue(t, db, batch...)
	want := wantOf(100, types...)
	want.Pools[0].Queues = []string{"default", "mail"}
	last := 300
	for range 3 {
		claimed := turn(t, seat, want).Claimed
		if len(claimed) != 100 {
			t.Fatalf("claimed %d, want 100", len(claimed))
		}
		for _, c := range claimed {
			if c.Priority != last-1 {
				t.Fatalf("priority %d after %d", c.Priority, last)
			}
			last = c.Priority
		}
	}
	if left, err := seat.AnyLeft(t.Context(), want); err != nil || !left {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestAnotherBoot: workers of another boot of the kernel, or of another machine
// that the file was copied from, are dead, whatever their leases say.
func TestAnotherBoot(t *testing.T) {
	db, seat := joined(t)
	ghost, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	enqueue(t, db, jobs.New{Type: "A", Payload: []byte(`1`)})
	want := wantOf(1, "A")
	want.TTL = 1000 * time.Hour
	c := turn(t, ghost, want).Claimed[0]
	if _, err := ghost.Acquire(t.Context(), "leader", 1000*time.Hour); err != nil {
		t.Fatal(err)
	}
	shell(t, db.Path(), fmt.Sprintf(`UPDATE sync_workers SET boot = 'another', seat_file = 1 WHERE id = %d`, ghost.ID()))
	if _, err := seat.Acquire(t.Context(), "leader", time.Minute); err != nil {
		t.Errorf("the leadership of another boot: %v", err)
	}
	reaped, _, err := seat.Reap(t.Context())
	if err != nil || len(reaped) != 1 || reaped[0].Ref != c.Ref {
		t.Errorf("reaped %+v, %v", reaped, err)
	}
}

// TestOddRows: what other programs write by hand stops nobody else's work.
func TestOddRows(t *testing.T) {
	db, seat := joined(t)
	path := db.Path()
	n := jobs.New{Type: "A", Payload: []byte(`1`)}
	want := wantOf(10, "A")

	// A running row without its times; a row that was set to running by hand.
	enqueue(t, db, n)
	odd := turn(t, seat, want).Claimed[0]
	shell(t, path, fmt.Sprintf(`UPDATE sync_jobs SET started_at = NULL, max_attempts = NULL, lease_expires_at = NULL WHERE id = %d`, odd.ID))
	enqueue(t, db, n)
	if got := turn(t, seat, want, jobs.Outcome{Ref: odd.Ref, Status: jobs.Pending, Error: "x", Delay: time.Hour}); len(got.Claimed) != 1 || len(got.Rejected) != 0 {
		t.Errorf("%+v", got)
	}
	shell(t, path, fmt.Sprintf(`UPDATE sync_jobs SET status = 'running', lease_owner = %d WHERE id = %d`, seat.ID(), odd.ID))
	reaped := 0
	for deadline := time.Now().Add(20 * time.Second); reaped == 0 && time.Now().Before(deadline); {
		list, _, err := seat.Reap(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		reaped = len(list)
	}
	if reaped != 1 {
		t.Errorf("%d reaped, want the row that nobody runs", reaped)
	}

	// Due rows that are moved; times far away.
	shell(t, path, `DELETE FROM sync_jobs`)
	moved := enqueue(t, db, n)[0].ID
	shell(t, path, fmt.Sprintf(`UPDATE sync_jobs SET run_at = unixepoch() + 3 WHERE id = %d`, moved))
	if got := turn(t, seat, want); len(got.Claimed) != 0 || got.Next <= time.Second || got.Next > 4*time.Second {
		t.Errorf("a job that was moved: %+v", got)
	}
	shell(t, path, `UPDATE sync_jobs SET run_at = 9e99`)
	if got := turn(t, seat, want); len(got.Claimed) != 0 || got.Next < 24*time.Hour {
		t.Errorf("a job in the far future: %+v", got)
	}
}

// TestStoppedWriter: when another process stops with the write lock in its
// hands, those who wait, a group's operation or foreign code's, name its pid;
// when it is killed they go on, and nothing is lost.
func TestStoppedWriter(t *testing.T) {
	for name, write := range map[string]func(*sqlite.DB) error{
		"Enqueue": func(db *sqlite.DB) error {
			_, err := db.Enqueue(context.Background(), jobs.New{Type: "A", Payload: []byte(`1`)})
			return err
		},
		"Write": func(db *sqlite.DB) error {
			return db.Write(context.Background(), nil, jobs.New{Type: "A", Payload: []byte(`1`)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			core, said := observer.New(zap.WarnLevel)
			db := open(t, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{Logger: zap.New(core)})
			defer db.Close()
			other, _ := begin(t, db.Path(), `BEGIN IMMEDIATE; INSERT INTO sync_meta VALUES ('x', 'y');`)
			if err := other.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			written := make(chan error, 1)
			go func() { written <- write(db) }()
			pid := zap.Int("pid", other.Process.Pid)
			until(t, "the holder's pid", func() bool { return said.FilterField(pid).Len() > 0 })
			if err := other.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = other.Wait()
			if err := <-written; err != nil {
				t.Error(err)
			}
			if got := shell(t, db.Path(), `SELECT count(*), (SELECT count(*) FROM sync_meta WHERE key = 'x') FROM sync_jobs`); got != "1|0" {
				t.Errorf("jobs and rows of the killed program: %s", got)
			}
		})
	}
}
