package main

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

// open opens a new file, on the disk that the tests have.
func open(b *testing.B) store.Store {
	b.Helper()
	q, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "jobs.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { q.Close() })
	b.ReportAllocs()
	return q
}

func BenchmarkEnqueue(b *testing.B) {
	q := open(b)
	for b.Loop() {
		if _, err := jobs.Enqueue(b.Context(), q, noop, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEnqueue64 is a job a call, by 64 goroutines: they share commits.
func BenchmarkEnqueue64(b *testing.B) {
	q := open(b)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 64 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := jobs.Enqueue(b.Context(), q, noop, 0); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkEnqueueMany1000(b *testing.B) {
	q := open(b)
	payloads := make([]int, batch)
	for b.Loop() {
		if _, err := jobs.EnqueueMany(b.Context(), q, noop, payloads); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTurn50 hands 50 outcomes in and claims 50 jobs.
func BenchmarkTurn50(b *testing.B) {
	q := open(b)
	seat, err := q.Join(b.Context(), jobs.Info{Types: []string{noop}, Queues: []string{jobs.DefaultQueue}})
	if err != nil {
		b.Fatal(err)
	}
	want := jobs.Want{
		Types: []string{noop}, Pools: []jobs.Pool{{Queues: []string{jobs.DefaultQueue}, Free: 50}},
		TTL: time.Minute, Limit: jobs.Limits{MaxAttempts: 3},
	}
	var outcomes []jobs.Outcome
	left := 0
	for b.Loop() {
		if left == 0 {
			b.StopTimer()
			if _, err := jobs.EnqueueMany(b.Context(), q, noop, make([]int, 10*batch)); err != nil {
				b.Fatal(err)
			}
			left = 10 * batch
			b.StartTimer()
		}
		turn, err := seat.Turn(b.Context(), storetest.Ask(outcomes, want))
		if err != nil || len(turn.Claimed) != 50 || len(turn.Rejected) > 0 {
			b.Fatalf("claimed %d, rejected %d: %v", len(turn.Claimed), len(turn.Rejected), err)
		}
		left -= 50
		outcomes = outcomes[:0]
		for _, c := range turn.Claimed {
			outcomes = append(outcomes, jobs.Outcome{Ref: c.Ref, Status: jobs.Completed})
		}
	}
}
