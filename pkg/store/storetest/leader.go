package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/lease"
)

func testLeadership(t *testing.T, f *fixture) {
	doomed := f.another()
	first, second := f.join(doomed), f.join(f.store)
	held := f.lead(first)
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
	f.must(doomed.Close())
	if last, err := second.Acquire(f.ctx, "leader", time.Hour); err != nil || last.Token <= held.Token {
		t.Errorf("after the leader's death: %+v, %v", last, err)
	}
}
