package sqlite

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// TestProofThatFails proves that the claims of a commit which has happened, though its
// answer was an error, are not lost where the first try to prove them fails too. The
// test does what the writer would, with a file whose errors it can choose.
func TestProofThatFails(t *testing.T) {
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "jobs.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	seat, err := db.Join(t.Context(), jobs.Info{})
	if err != nil {
		t.Fatal(err)
	}
	n := jobs.New{Type: "A", Payload: []byte(`1`)}
	if _, err := db.Enqueue(t.Context(), n, n, n); err != nil {
		t.Fatal(err)
	}
	w := &writer{db: db, wake: make(chan struct{}, 1)}
	if err := w.connect(); err != nil {
		t.Fatal(err)
	}
	loop := db.writer
	db.writer = w
	defer func() { db.writer = loop }()

	claimed := make(chan int, 1)
	go func() {
		turn, err := seat.Turn(t.Context(), func() ([]jobs.Outcome, jobs.Want) {
			return nil, jobs.Want{Types: []string{"A"}, Pools: []jobs.Pool{{Queues: []string{"default"}, Free: 3}}, TTL: time.Minute}
		})
		if err != nil {
			t.Error(err)
		}
		claimed <- len(turn.Claimed)
	}()
	<-w.wake
	ops := w.take()
	if err := w.begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.runAll(ops); err != nil {
		t.Fatal(err)
	}
	if err := w.conn.commit(); err != nil {
		t.Fatal(err)
	}

	if err := w.begin(); err != nil {
		t.Fatal(err)
	}
	w.tx.again = true
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	before := w.conn.SetInterrupt(gone)
	if _, err := w.runAll(ops); err == nil {
		t.Error("the first proof did not fail")
	}
	w.conn.SetInterrupt(before)
	w.conn.rollback()
	if err := w.prove(ops); err != nil {
		t.Fatal(err)
	}
	answer(ops, nil)
	if n := <-claimed; n != 3 {
		t.Errorf("%d claims came back, want the 3 that run", n)
	}
	if err := w.conn.close(); err != nil {
		t.Error(err)
	}
}
