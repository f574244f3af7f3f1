package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3/driver"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// TestWaits proves that the store says for how long it has been waiting for
// another's lock, and nothing of its own work, however slow.
func TestWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got := db.Waits(); got != 0 {
		t.Errorf("it waits for %v, and for nobody", got)
	}
	err = db.Write(t.Context(), func(*sql.Tx) error {
		<-time.After(200 * time.Millisecond)
		return nil
	})
	if got := db.Waits(); got != 0 || err != nil {
		t.Errorf("its own closure: waits for %v, %v", got, err)
	}

	free := lockWrites(t, path)
	if got := db.Waits(); got != 0 {
		t.Errorf("it waits for %v, and has nothing to write", got)
	}
	done := make(chan error, 1)
	go func() {
		_, err := db.Enqueue(t.Context(), jobs.New{Type: "A", Payload: []byte("{}")})
		done <- err
	}()
	until(t, "a wait", func() bool { return db.Waits() > 300*time.Millisecond })
	free()
	if err := <-done; err != nil {
		t.Error(err)
	}
	until(t, "its end", func() bool { return db.Waits() == 0 })
}

// lockWrites has another connection sit on the write lock.
func lockWrites(t *testing.T, path string) (free func()) {
	t.Helper()
	other, err := driver.Open("file:" + path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	conn, err := other.Conn(t.Context())
	if err == nil {
		_, err = conn.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		_, err := conn.ExecContext(t.Context(), `ROLLBACK`)
		if err := errors.Join(err, conn.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestJoinAfterAStandstill proves that a worker which comes to a file that stood
// still takes no jobs from those who waited with it, for as long as any other
// would give them to renew; and that it takes them then.
func TestJoinAfterAStandstill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	db, late := open(t, path, sqlite.Options{}), open(t, path, sqlite.Options{})
	defer db.Close()
	defer late.Close()
	holder, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Enqueue(t.Context(), jobs.New{Type: "A", Payload: []byte(`1`)}); err != nil {
		t.Fatal(err)
	}
	turn, err := holder.Turn(t.Context(), storetest.Ask(nil, jobs.Want{Types: []string{"A"}, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: 1}}, TTL: time.Second}))
	if err != nil || len(turn.Claimed) != 1 {
		t.Fatalf("claimed %+v, %v", turn.Claimed, err)
	}
	free := lockWrites(t, path)
	joined := make(chan jobs.Seat, 1)
	go func() {
		seat, err := late.Join(context.Background(), jobs.Info{})
		if err != nil {
			t.Error(err)
		}
		joined <- seat
	}()
	until(t, "the lease's end", func() bool { return late.Waits() > 1200*time.Millisecond })
	free()
	freed, seat := time.Now(), <-joined
	if seat == nil {
		return
	}
	look := time.NewTicker(250 * time.Millisecond) // as a worker does
	defer look.Stop()
	for deadline := freed.Add(20 * time.Second); ; <-look.C {
		began := time.Now()
		reaped, _, err := seat.Reap(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case len(reaped) > 0 && time.Since(freed) < 2*time.Second:
			t.Fatalf("taken %v after the standstill", time.Since(freed))
		case len(reaped) > 0:
			return
		case began.After(deadline):
			t.Fatal("never taken")
		}
	}
}
