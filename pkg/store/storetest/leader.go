package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

func testLeadership(t *testing.T, f *fixture) {
	doomed := f.another()
	first, second := f.join(doomed), f.join(f.store)
	held, err := first.Acquire(f.ctx, "leader", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if renewed, err := first.Acquire(f.ctx, "leader", time.Hour); err != nil || renewed != held {
		t.Errorf("renewed %+v, %v; want the same token", renewed, err)
	}
	if _, err := second.Acquire(f.ctx, "leader", time.Hour); !errors.Is(err, lease.ErrHeld) {
		t.Errorf("got %v, want lease.ErrHeld", err)
	}
	if _, err := second.Acquire(f.ctx, "another", time.Hour); err != nil {
		t.Errorf("a lease of another name: %v", err)
	}
	if err := first.Release(f.ctx, held); err != nil {
		t.Error(err)
	}
	if err := first.Release(f.ctx, held); !errors.Is(err, lease.ErrLost) {
		t.Errorf("released twice: %v, want lease.ErrLost", err)
	}
	next, err := second.Acquire(f.ctx, "leader", 50*time.Millisecond)
	if err != nil || next.Token <= held.Token {
		t.Fatalf("acquired %+v, %v after token %d", next, err, held.Token)
	}
	// One that is late loses it, and one that is dead at once.
	f.eventually("the end of a lease", func() bool {
		held, err = first.Acquire(f.ctx, "leader", time.Hour)
		return err == nil
	})
	if held.Token <= next.Token {
		t.Errorf("token %d after %d", held.Token, next.Token)
	}
	if err := doomed.Close(); err != nil {
		t.Fatal(err)
	}
	if last, err := second.Acquire(f.ctx, "leader", time.Hour); err != nil || last.Token <= held.Token {
		t.Errorf("after the leader's death: %+v, %v", last, err)
	}
}

// testTick: a tick is enqueued once, and only under the leader's token.
func testTick(t *testing.T, f *fixture) {
	leader, deposed := f.join(f.store), f.join(f.another())
	old, err := deposed.Acquire(f.ctx, "leader", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	n := jobs.New{Type: "A", Payload: []byte(`"tick"`)}
	next := time.Now().Add(time.Minute).Truncate(time.Millisecond)
	if at, err := deposed.NextTick(f.ctx, "s"); err != nil || !at.IsZero() {
		t.Errorf("next tick %v, %v of a schedule that never ticked", at, err)
	}
	if err := deposed.Tick(f.ctx, old, jobs.Due{Name: "s", Next: next}, n); err != nil {
		t.Fatal(err)
	}
	if err := deposed.Release(f.ctx, old); err != nil {
		t.Fatal(err)
	}
	held, err := leader.Acquire(f.ctx, "leader", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	at, err := leader.NextTick(f.ctx, "s")
	if err != nil || !at.Equal(next) {
		t.Fatalf("next tick %v, %v; want %v", at, err, next)
	}
	later := next.Add(time.Minute)
	for what, err := range map[string]error{
		"a deposed leader's":     deposed.Tick(f.ctx, old, jobs.Due{Name: "s", At: next, Next: later}, n),
		"a stolen token's":       deposed.Tick(f.ctx, held, jobs.Due{Name: "s", At: next, Next: later}, n),
		"one that is over":       leader.Tick(f.ctx, held, jobs.Due{Name: "s", Next: later}, n),
		"another schedule's old": leader.Tick(f.ctx, old, jobs.Due{Name: "new", Next: later}, n),
	} {
		if !errors.Is(err, lease.ErrLost) {
			t.Errorf("%s tick: got %v, want lease.ErrLost", what, err)
		}
	}
	if err := leader.Tick(f.ctx, held, jobs.Due{Name: "s", At: next, Next: later}, n, n); err != nil {
		t.Error(err)
	}
	if s, _ := f.store.Stats(f.ctx); s.Pending != 3 {
		t.Errorf("%d jobs, want 1 of the first tick and 2 of the second", s.Pending)
	}
}
