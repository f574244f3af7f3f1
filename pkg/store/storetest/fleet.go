package storetest

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// testChanges: another store's commit wakes a worker.
func testChanges(t *testing.T, f *fixture) {
	seat, other := f.join(f.store), f.another()
	for range 20 {
		for len(seat.Changes()) > 0 {
			<-seat.Changes()
		}
		if _, err := other.Enqueue(f.ctx, jobs.New{Type: "A", Payload: []byte(`1`)}); err != nil {
			t.Fatal(err)
		}
		var c []jobs.Claimed
		for len(c) == 0 { // the change may be an older one's
			select {
			case <-seat.Changes():
			case <-time.After(20 * time.Second):
				t.Fatal("no change was told")
			}
			c = f.turn(seat, want(1)).Claimed
		}
		f.turn(seat, want(0), jobs.Outcome{Ref: c[0].Ref, Status: jobs.Completed})
	}
}

func testLeft(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	left := func() bool {
		t.Helper()
		yes, err := seat.AnyLeft(f.ctx, want(1))
		f.must(err)
		return yes
	}
	f.enqueue(jobs.New{Type: "C"}, jobs.New{Queue: "mail"})
	if left() {
		t.Error("left: another type's, another queue's")
	}
	f.enqueue(jobs.New{Delay: time.Hour})
	if !left() {
		t.Error("nothing left, with a delayed job")
	}
	f.write(`UPDATE sync_jobs SET run_at = 0 WHERE job_type = 'A' AND queue = 'default'`)
	c := f.claimOne(seat)
	if !left() {
		t.Error("nothing left, with a running job")
	}
	f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: jobs.Completed})
	if left() {
		t.Error("left: all has ended")
	}
}

func testInspect(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	f.enqueue(jobs.New{}, jobs.New{Type: "C"}, jobs.New{Type: "B", Queue: "mail", Delay: time.Hour})
	f.claimOne(seat)
	s, err := f.store.Stats(f.ctx)
	if err != nil || s.Pending != 2 || s.Running != 1 || s.Workers != 1 {
		t.Errorf("stats %+v, %v", s, err)
	}
	expect := []jobs.TypeStats{
		{Type: "A", Queue: "default", Running: 1, Handled: true},
		{Type: "B", Queue: "mail", Pending: 1, Handled: true},
		{Type: "C", Queue: "default", Pending: 1},
	}
	if !slices.Equal(s.Types, expect) {
		t.Errorf("types %+v", s.Types)
	}
	list, err := f.store.Jobs(f.ctx, jobs.Filter{Status: jobs.Pending, Limit: 1})
	if err != nil || len(list) != 1 || list[0].Type != "B" {
		t.Errorf("list %+v, %v", list, err)
	}
	if _, _, err := f.store.Job(f.ctx, 99); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	workers, err := f.store.Workers(f.ctx)
	if err != nil || len(workers) != 1 || workers[0].Running != 1 || workers[0].ID != seat.ID() || !workers[0].Handles("B", "mail") {
		t.Errorf("workers %+v, %v", workers, err)
	}
	for _, n := range []int{2, 0} {
		if err := seat.Stuck(f.ctx, n); err != nil {
			t.Error(err)
		}
		workers, err := f.store.Workers(f.ctx)
		if err != nil || len(workers) != 1 || workers[0].Stuck != n {
			t.Errorf("%d are stuck: %+v, %v", n, workers, err)
		}
		if s, err := f.store.Stats(f.ctx); err != nil || s.Stuck != int64(n) {
			t.Errorf("%d are stuck: %+v, %v", n, s, err)
		}
	}
}

// testConcurrentTurns proves that no job is claimed twice and none is left,
// with several stores taking turns at once.
func testConcurrentTurns(t *testing.T, f *fixture) {
	const total = 400
	batch := make([]jobs.New, total)
	f.enqueue(batch...)
	var mu sync.Mutex
	claims := make(map[int64]int)
	var all sync.WaitGroup
	for range 4 {
		seat := f.join(f.another())
		all.Go(func() {
			var outcomes []jobs.Outcome
			for {
				turn, err := seat.Turn(f.ctx, Ask(outcomes, want(7)))
				if err != nil || len(turn.Rejected) > 0 {
					t.Errorf("rejected %v, %v", turn.Rejected, err)
					return
				}
				if len(turn.Claimed) == 0 {
					return
				}
				outcomes = outcomes[:0]
				mu.Lock()
				for _, c := range turn.Claimed {
					claims[c.ID]++
					outcomes = append(outcomes, jobs.Outcome{Ref: c.Ref, Status: jobs.Completed})
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(claims) != total {
		t.Errorf("%d jobs were claimed, want %d", len(claims), total)
	}
	for id, n := range claims {
		if n != 1 {
			t.Errorf("job %d was claimed %d times", id, n)
		}
	}
	if s, _ := f.store.Stats(f.ctx); s.Completed != total {
		t.Errorf("%d completed, want %d", s.Completed, total)
	}
}

func idText(id int64) string { return strconv.FormatInt(id, 10) }
