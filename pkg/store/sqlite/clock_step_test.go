package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// TestClockStepsBack: an hour's step back of the wall clock delays nothing by
// an hour, whether a worker sees it happen or finds it when it joins; and a job
// is moved once, however many workers see it.
func TestClockStepsBack(t *testing.T) {
	for name, joined := range map[string]bool{"seen": true, "found": false} {
		t.Run(name, func(t *testing.T) {
			var offset atomic.Int64
			offset.Store(int64(time.Hour))
			path := filepath.Join(t.TempDir(), "jobs.db")
			now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
			db := open(t, path, sqlite.Options{Now: now})
			defer db.Close()
			join := func() jobs.Seat {
				s, err := db.Join(t.Context(), jobs.Info{})
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			var seats []jobs.Seat
			reap := func() {
				for _, s := range seats {
					if _, _, err := s.Reap(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if joined {
				seats = append(seats, join(), join())
				reap()
			}
			n := jobs.New{Type: "A", Payload: []byte(`1`)}
			later := n
			later.Delay = 10 * time.Minute
			added, err := db.Enqueue(t.Context(), n, later)
			if err != nil {
				t.Fatal(err)
			}
			offset.Store(0)
			if !joined {
				seats = append(seats, join(), join())
			}
			reap()
			want := jobs.Want{Types: []string{"A"}, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: 9}}, TTL: time.Minute}
			turn, err := seats[0].Turn(t.Context(), storetest.Ask(nil, want))
			if err != nil || len(turn.Claimed) != 1 || turn.Claimed[0].ID != added[0].ID {
				t.Fatalf("claimed %+v, %v; want the job that was due before the step", turn.Claimed, err)
			}
			if turn.Next < 9*time.Minute || turn.Next > 11*time.Minute {
				t.Errorf("the other is due in %v, want 10m", turn.Next)
			}
		})
	}
}

// TestClockStepsBackKeepsPlace: a job that ran when the wall clock went back, and
// whose worker then dies, runs again before those that came after it.
func TestClockStepsBackKeepsPlace(t *testing.T) {
	var offset atomic.Int64
	offset.Store(int64(time.Hour))
	path := filepath.Join(t.TempDir(), "jobs.db")
	options := sqlite.Options{Now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }}
	db, doomed := open(t, path, options), open(t, path, options)
	defer db.Close()
	defer doomed.Close()
	n := jobs.New{Type: "A", Payload: []byte(`1`)}
	want := jobs.Want{Types: []string{"A"}, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: 1}}, TTL: time.Minute, Limit: jobs.Limits{MaxAttempts: 3}}
	dies, err := doomed.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	seat, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	reap := func() (n int) {
		reaped, _, err := seat.Reap(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(reaped)
	}
	reap() // to know the clock
	added, err := db.Enqueue(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if turn, err := dies.Turn(t.Context(), storetest.Ask(nil, want)); err != nil || len(turn.Claimed) != 1 {
		t.Fatalf("claimed %+v, %v", turn.Claimed, err)
	}
	if _, err := db.Enqueue(t.Context(), n, n, n); err != nil {
		t.Fatal(err)
	}
	offset.Store(0)
	reap()
	if err := doomed.Close(); err != nil {
		t.Fatal(err)
	}
	if n := reap(); n != 1 {
		t.Fatalf("%d jobs were reaped, want 1", n)
	}
	turn, err := seat.Turn(t.Context(), storetest.Ask(nil, want))
	if err != nil || len(turn.Claimed) != 1 || turn.Claimed[0].ID != added[0].ID {
		t.Errorf("claimed %+v, %v; want job %d first", turn.Claimed, err, added[0].ID)
	}
}

// TestClockStepsBackInACommit: what read the time before the step and is written
// after it, by a process that was stopped between the two, is moved, too.
func TestClockStepsBackInACommit(t *testing.T) {
	var offset atomic.Int64
	offset.Store(int64(time.Hour))
	now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	inCommit, goOn := make(chan struct{}), make(chan struct{})
	slowly := func() time.Time {
		read := now()
		close(inCommit)
		<-goOn
		return read
	}
	path := filepath.Join(t.TempDir(), "jobs.db")
	db := open(t, path, sqlite.Options{Now: now})
	defer db.Close()
	slow := open(t, path, sqlite.Options{Now: slowly})
	defer slow.Close()
	seat, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := seat.Reap(t.Context()); err != nil { // to know the clock
		t.Fatal(err)
	}
	enqueued, reaped := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := slow.Enqueue(context.Background(), jobs.New{Type: "A", Payload: []byte(`1`)})
		enqueued <- err
	}()
	<-inCommit
	offset.Store(0)
	go func() {
		_, _, err := seat.Reap(context.Background())
		reaped <- err
	}()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(reaped) == 0 && db.Waits() == 0 {
		<-tick.C
	}
	close(goOn)
	for _, ended := range []chan error{enqueued, reaped} {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	want := jobs.Want{Types: []string{"A"}, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: 9}}, TTL: time.Minute}
	if turn, err := seat.Turn(t.Context(), storetest.Ask(nil, want)); err != nil || len(turn.Claimed) != 1 {
		t.Errorf("claimed %+v, %v; the next is due in %v; want the job, now", turn.Claimed, err, turn.Next)
	}
}

// TestClockStepsBackOverBadRow: a row that can't be moved is told of, and keeps
// nobody from burying the dead.
func TestClockStepsBackOverBadRow(t *testing.T) {
	var offset atomic.Int64
	offset.Store(int64(time.Hour))
	path := filepath.Join(t.TempDir(), "jobs.db")
	options := sqlite.Options{Now: func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }}
	db, doomed := open(t, path, options), open(t, path, options)
	defer db.Close()
	defer doomed.Close()
	seat, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	dies, err := doomed.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := seat.Reap(t.Context()); err != nil { // to know the clock
		t.Fatal(err)
	}
	if _, err := db.Enqueue(t.Context(), jobs.New{Type: "A", Payload: []byte(`1`)}); err != nil {
		t.Fatal(err)
	}
	want := jobs.Want{Types: []string{"A"}, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: 1}}, TTL: time.Minute}
	if turn, err := dies.Turn(t.Context(), storetest.Ask(nil, want)); err != nil || len(turn.Claimed) != 1 {
		t.Fatalf("claimed %+v, %v", turn.Claimed, err)
	}
	err = db.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(`INSERT INTO sync_jobs (job_type, payload, created_at, run_at) VALUES ('B', '1', 9e999, 9e999)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	offset.Store(0)
	if err := doomed.Close(); err != nil {
		t.Fatal(err)
	}
	if reaped, _, err := seat.Reap(t.Context()); err == nil || len(reaped) != 1 {
		t.Errorf("reaped %+v, %v; want the job, and an error", reaped, err)
	}
}

// TestClockStepsBackOverStarts: starts that were noted while the wall clock was an
// hour ahead close their type for as long as they should, not for an hour more,
// whether a worker sees the step or finds its traces when it joins.
func TestClockStepsBackOverStarts(t *testing.T) {
	for name, stays := range map[string]bool{"seen": true, "found": false} {
		t.Run(name, func(t *testing.T) {
			var offset atomic.Int64
			now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
			db := open(t, filepath.Join(t.TempDir(), "jobs.db"), sqlite.Options{Now: now})
			defer db.Close()
			join := func() jobs.Seat {
				s, err := db.Join(t.Context(), jobs.Info{})
				if err == nil {
					_, _, err = s.Reap(t.Context())
				}
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			limit := func(p *jobs.Policy) { p.MaxStarts = jobs.Rate{N: 2, Per: 10 * time.Minute} }
			if err := db.ChangePolicy(t.Context(), jobs.OfType, "A", limit); err != nil {
				t.Fatal(err)
			}
			n := jobs.New{Type: "A", Payload: []byte(`1`)}
			if _, err := db.Enqueue(t.Context(), n, n, n); err != nil { // by the right time
				t.Fatal(err)
			}
			offset.Store(int64(time.Hour))
			seat := join()
			want := jobs.Want{Types: []string{"A"}, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: 9}}, TTL: time.Minute}
			turn, err := seat.Turn(t.Context(), storetest.Ask(nil, want))
			if err != nil || len(turn.Claimed) != 2 {
				t.Fatalf("claimed %+v, %v", turn.Claimed, err)
			}
			outcomes := []jobs.Outcome{{Ref: turn.Claimed[0].Ref, Status: jobs.Completed}, {Ref: turn.Claimed[1].Ref, Status: jobs.Completed}}
			if _, err := seat.Turn(t.Context(), storetest.Ask(outcomes, jobs.Want{})); err != nil {
				t.Fatal(err)
			}
			offset.Store(0)
			if stays {
				_, _, err = seat.Reap(t.Context())
			} else {
				err = seat.Leave(t.Context())
				seat = join()
			}
			if err != nil {
				t.Fatal(err)
			}
			turn, err = seat.Turn(t.Context(), storetest.Ask(nil, want))
			if err != nil || len(turn.Claimed) != 0 || turn.Next < 9*time.Minute || turn.Next > 11*time.Minute {
				t.Errorf("claimed %+v, next in %v, %v; want none, and about 10m", turn.Claimed, turn.Next, err)
			}
		})
	}
}
