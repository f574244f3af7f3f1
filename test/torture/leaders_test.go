//go:build linux

package torture_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ofLeaders are the points that only a leader passes.
var ofLeaders = []string{"elected", "before a tick", "in a tick", "after a tick"}

// TestLeaders: leaders that are killed or stopped around their ticks, one after
// the other, double none; and each tick is its leader's.
func TestLeaders(t *testing.T) {
	o := options{
		seed: seed(t), duration: 10 * time.Minute, workers: 4, lease: time.Second, queue: "torture",
		ticks: []time.Duration{50 * time.Millisecond, 80 * time.Millisecond, 130 * time.Millisecond},
		db:    filepath.Join(runDir(t), "shoal.db"),
	}
	f := newFleet(t, o, build(t))
	makeFile(t, o.db)
	f.points = func(rng *rand.Rand) string {
		hit := []string{"SIGKILL", "SIGSTOP"}[rng.IntN(2)]
		return fmt.Sprintf("%s:%d:%s", ofLeaders[rng.IntN(len(ofLeaders))], 1+rng.IntN(4), hit)
	}
	hits := 0
	f.run(func() {
		eventually(t, "the leaders' ends", time.Duration(*leadersFlag)*10*time.Second, func() bool {
			hits = 0
			hit := make(map[string]bool)
			for _, h := range readHistories(t, f.dir) {
				if slices.ContainsFunc(h.events, func(e event) bool { return e.Op == "point" }) {
					hit[h.name] = true
				}
			}
			hits = len(hit)
			for _, p := range f.processes() { // who goes on has had its turn
				if hit[p.Name] && p.alive() && !p.asleep() {
					f.kill(p)
				}
			}
			return hits >= *leadersFlag
		})
	})
	s := tell(t, o, f.dir)
	s.checkEnqueues()
	s.checkTicks()
	s.checkModel()
	t.Logf("leaders: %d were killed or stopped around their ticks", hits)
}

// TestDeposedLeader: a leader is stopped before its tick; its successor is
// stopped as soon as it is elected, before it has ticked. The first, when it goes
// on, is refused: not because the tick is another's, but because it leads no more.
func TestDeposedLeader(t *testing.T) {
	o := options{workers: 2, lease: time.Second, queue: "torture", ticks: tickIntervals[:1], db: filepath.Join(runDir(t), "shoal.db")}
	f := newFleet(t, o, build(t))
	makeFile(t, o.db)
	stopped := func(place int, at string) *process {
		p := f.launch(f.worker(place, 0), at)
		select {
		case <-p.stopped:
		case <-time.After(60 * time.Second):
			t.Fatalf("%s was never stopped: %s", p.Name, p.log())
		}
		return p
	}
	first := stopped(0, "before a tick:1:SIGSTOP")
	second := stopped(1, "elected:1:SIGSTOP")
	first.signal(unix.SIGCONT)
	var told event
	eventually(t, "the first one's tick to be answered", 30*time.Second, func() bool {
		for _, h := range readHistories(t, f.dir) {
			for _, e := range h.events {
				if h.name == first.Name && e.Op == "tick" && e.Done && told.At == 0 {
					told = e
				}
			}
		}
		return told.At != 0
	})
	if told.Fate != refused {
		t.Errorf("the deposed leader's tick: %+v, want it refused", told)
	}
	if n := number(t, o.db, `SELECT count(*) FROM sync_jobs`); n != 0 {
		t.Errorf("%d ticks were enqueued by one who leads no more", n)
	}
	second.signal(unix.SIGCONT)
	eventually(t, "a tick of the new leader", 30*time.Second, func() bool {
		return number(t, o.db, `SELECT count(*) FROM sync_jobs`) > 0
	})
	for _, p := range []*process{first, second} {
		p.signal(unix.SIGTERM)
		<-p.done
	}
}
