package main

import (
	"context"
	"testing"
)

// floor is the part of a bare loop's throughput that a worker has at the least. It
// is about half of what it has, so that a slow-down by half is seen, and a noisy
// machine is not.
const floor = 0.4

// TestFloor is the regression guard of scripts/test: a worker beside a bare loop,
// in turns; the best of three, as noise only ever slows down.
func TestFloor(t *testing.T) {
	if race {
		t.Skip("NOT TESTED here, speed: the race detector slows Shoal down, and not SQLite; scripts/test runs it without")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := &bench{dir: t.TempDir()}
	best := 0.0
	for range 3 {
		bare, err := b.work(ctx, 1, role{Kind: "bare", Slots: 50, Jobs: 20_000})
		if err != nil {
			t.Fatal(err)
		}
		worker, err := b.work(ctx, 1, role{Kind: "worker", Slots: 50, Jobs: 20_000})
		if err != nil {
			t.Fatal(err)
		}
		ratio := worker[0].rate() / bare[0].rate()
		t.Logf("worker %.0f/s, bare loop %.0f/s: %.2f", worker[0].rate(), bare[0].rate(), ratio)
		best = max(best, ratio)
	}
	if best < floor {
		t.Errorf("a worker has %.2f of a bare loop's throughput at best: want %.2f", best, floor)
	}
}
